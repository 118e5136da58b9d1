"""Which frames of a source are read: a first and a last one, a stride, or frames per second."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any, Protocol, Self, TypeVar

from propagate.errors import MaskError, VideoError
from propagate.records import Frame, VideoInfo

# Matroska rounds times to this. A video of 30 frames per second read at 30 gives every frame.
TOLERANCE_S = Fraction(1, 1000)
# Assumed for a source that does not say its frame rate.
DEFAULT_FPS = Fraction(25)


class _Timed(Protocol):
    @property
    def index(self) -> int: ...

    @property
    def time(self) -> Fraction: ...


T = TypeVar("T", bound=_Timed)


@dataclass(frozen=True, slots=True)
class FrameRange:
    """The frames of a source that are read; they keep their own index and time.

    A frame must satisfy all that is given. Seconds are counted from the first frame of the source,
    whatever its clock begins with; they may be given as text ("10.1"), and of a float its decimal
    digits are meant.

    Attributes:
        start: Index of the first frame.
        end: Index after the last frame, as in a slice; None: to the last.
        start_s: Frames before are not read.
        end_s: The first frame at or after this time, and all later, are not read.
        stride: Of the frames from the start on, every so many.
        fps: Ticks per second from the first frame on: of each tick, the last frame that is not
            later (by more than a millisecond) is read, once; of the ticks until the last frame.
    """

    start: int = 0
    end: int | None = None
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    stride: int = 1
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        for name in ("start_s", "end_s", "fps"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Fraction(str(value)))
        if not isinstance(self.start, int) or not isinstance(self.end, int | None):
            raise ValueError("start and end: frame numbers; seconds are start_s and end_s")
        if self.start < 0 or self.start_s < 0:
            raise ValueError("start: 0 or more")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end: after the start, frame {self.start}, not {self.end}")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end: after the start, {self.start_s} s, not {self.end_s} s")
        if self.stride < 1:
            raise ValueError(f"stride: 1 or more, not {self.stride}")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps: more than 0, not {self.fps}")
        if self.fps is not None and self.stride > 1:
            raise ValueError("fps and stride: one of them, both choose among the frames")

    @classmethod
    def parse(
        cls,
        start: str | None = None,
        end: str | None = None,
        stride: int = 1,
        fps: str | None = None,
    ) -> Self:
        """Read a range as people write it.

        Args:
            start: A frame number ("250"), or a time: seconds with an s ("10s", "2.5s"), or a clock
                ("1:30", "0:01:30.5").
            end: The same.
            stride: As the attribute.
            fps: "5", "29.97" or "30000/1001".

        Raises:
            ValueError: A text is none of these, or the range is empty.

        >>> FrameRange.parse("250", "1:30").end_s
        Fraction(90, 1)
        """
        given: dict[str, Any] = {"stride": stride}
        for name, text in (("start", start), ("end", end)):
            if text is not None:
                place = _parse_place(text)
                given[name if isinstance(place, int) else f"{name}_s"] = place
        if fps is not None:
            try:
                given["fps"] = Fraction(fps)
            except (ValueError, ZeroDivisionError) as error:
                raise ValueError(f"fps: such as 5 or 30000/1001, not {fps!r}") from error
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Return plain values that make the same range again: `FrameRange(**values)`."""
        return {
            "start": self.start,
            "end": self.end,
            "start_s": str(self.start_s),
            "end_s": None if self.end_s is None else str(self.end_s),
            "stride": self.stride,
            "fps": None if self.fps is None else str(self.fps),
        }

    def info(self, info: VideoInfo) -> VideoInfo:
        """Say of a source what is known of these of its frames."""
        fps, count = info.fps, info.frame_count
        rate = fps or DEFAULT_FPS
        if count is not None:
            ends = (self.end, None if self.end_s is None else ceil(self.end_s * rate))
            stop = min([count, *(end for end in ends if end is not None)])
            inside = max(0, stop - max(self.start, ceil(self.start_s * rate)))
            share = Fraction(1, self.stride) if self.fps is None else min(1, self.fps / rate)
            count = ceil(inside * share)
        if self.fps is not None:
            fps = min(fps or self.fps, self.fps)
        elif fps is not None:
            fps /= self.stride
        return replace(info, fps=fps, frame_count=count)


def select(frames: Iterable[T | None], wanted: FrameRange, label: str) -> Iterator[T | None]:
    """Pass on the frames of a range, and a None for each that is skipped.

    Reading stops with the first frame past the end.

    Args:
        frames: The frames of the source, from the first on, in order; a None is passed on.
        wanted: The range.
        label: What messages call the source.

    Raises:
        VideoError: The source has no frame in the range.
    """
    between = _between(frames, wanted, label)
    return between if wanted.fps is None else _at_ticks(between, wanted.fps)


def places_of(indices: Iterable[int], frames: Iterable[Frame]) -> dict[int, int]:
    """Find frames of a source among those that are read of it.

    Args:
        indices: Of the frames, each with a reference.
        frames: Those that are read; up to the last one looked for.

    Returns:
        Index -> position among the frames that are read, from 0.

    Raises:
        MaskError: One is not read.
    """
    waiting = deque(sorted(indices))
    places: dict[int, int] = {}
    before: int | None = None
    for place, frame in enumerate(frames):
        if frame.index > waiting[0]:
            nearest = "" if before is None else f"{before} and "
            raise MaskError(
                f"the reference on frame {waiting[0]} is not in the range: {nearest}{frame.index} "
                "are the next frames that are read; draw it on one of them, or change the range"
            )
        before = frame.index
        if frame.index == waiting[0]:
            places[waiting.popleft()] = place
        if not waiting:
            return places
    raise MaskError(
        f"the reference on frame {waiting[0]} is not in the range: frame {before} is the last that "
        "is read; draw it on an earlier frame, or change the range"
    )


def _between(frames: Iterable[T | None], wanted: FrameRange, label: str) -> Iterator[T | None]:
    """Apply start, end and stride."""
    origin: Fraction | None = None  # time of the source's first frame
    begin: int | None = None  # index of the range's
    read = "nothing"
    for frame in frames:
        if frame is None:
            yield None
            continue
        origin = frame.time if origin is None else origin
        time = frame.time - origin
        ended = wanted.end is not None and frame.index >= wanted.end
        if ended or (wanted.end_s is not None and time >= wanted.end_s):
            break
        read = f"up to frame {frame.index}, at {float(time):.2f} s"
        if frame.index < wanted.start or time < wanted.start_s:
            yield None
            continue
        begin = frame.index if begin is None else begin
        yield None if (frame.index - begin) % wanted.stride else frame
    if begin is None:
        raise VideoError(
            f"{label}: no frame in the range: it was read {read}; "
            "choose an earlier start, or a later end"
        )


def _at_ticks(frames: Iterable[T | None], fps: Fraction) -> Iterator[T | None]:
    """Choose the last frame at or before each tick."""
    begin = tick = Fraction(0)
    held: T | None = None
    for frame in frames:
        if frame is None:
            yield None
            continue
        if held is None:
            begin = tick = frame.time
        elif frame.time <= tick + TOLERANCE_S:
            yield None
        else:
            yield held
            tick = begin + ceil((frame.time - TOLERANCE_S - begin) * fps) / fps
        held = frame
    if held is not None and tick <= held.time + TOLERANCE_S:
        yield held


def _parse_place(text: str) -> int | Fraction:
    """Return a frame number as int, a time in seconds as Fraction."""
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    if seconds := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", text):
        return Fraction(seconds[1])
    if clock := re.fullmatch(r"(?:([0-9]+):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]+)?)", text):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    raise ValueError(
        f"{text!r}: a frame number such as 250, or a time such as 10s, 2.5s, 1:30 or 0:01:30.5"
    )


def note_indices(frames: Iterable[Frame], indices: deque[int]) -> Iterator[Frame]:
    """Pass frames on, and add their indices to a queue, for results that come later."""
    for frame in frames:
        indices.append(frame.index)
        yield frame
