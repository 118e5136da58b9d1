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

# Matroska rounds times to milliseconds. With this tolerance a video of 30 frames per second that is
# read at 30 frames per second gives every frame.
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
    """Says which frames of a source are read. They keep their own index and time.

    A frame is read if it meets every condition. Seconds count from the first frame of the source,
    whatever time that frame has. They may be given as text ("10.1"); a float stands for the decimal
    digits that Python prints for it.

    Attributes:
        start: Index of the first frame that is read.
        end: Index after the last frame that is read, as in a slice. None: up to the last frame.
        start_s: Earlier frames are not read.
        end_s: Frames at this time or later are not read.
        stride: Read every frame whose distance from the first one is a multiple of this.
        fps: Read this many frames per second. Ticks start at the first frame; the frame that is
            shown at a tick is read, and no frame is read twice. A frame that starts up to a
            millisecond after a tick counts as shown at it.
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
            raise ValueError(
                "start and end must be frame numbers; give seconds as start_s and end_s"
            )
        if self.start < 0 or self.start_s < 0:
            raise ValueError("start must be 0 or more")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end (frame {self.end}) must come after start (frame {self.start})")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(
                f"end ({float(self.end_s):g} s) must come after start ({float(self.start_s):g} s)"
            )
        if self.stride < 1:
            raise ValueError(f"stride must be 1 or more, not {self.stride}")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps must be more than 0, not {self.fps}")
        if self.fps is not None and self.stride > 1:
            raise ValueError("stride and fps exclude each other; give one of them")

    @classmethod
    def parse(
        cls,
        start: str | None = None,
        end: str | None = None,
        stride: int = 1,
        fps: str | None = None,
    ) -> Self:
        """Read a range from the texts that users write.

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
                place = _parse_place(name, text)
                given[name if isinstance(place, int) else f"{name}_s"] = place
        if fps is not None:
            try:
                given["fps"] = Fraction(fps)
            except (ValueError, ZeroDivisionError) as error:
                raise ValueError(
                    f"fps must be a number such as 5 or 30000/1001, not {fps!r}"
                ) from error
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
        """Return what is known of these frames, given what is known of the whole source."""
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


def select(frames: Iterable[T | None], wanted: FrameRange, display_name: str) -> Iterator[T | None]:
    """Yield the frames of a range, and None for every frame that is skipped.

    Reading stops at the first frame past the end.

    Args:
        frames: The frames of the source in order, from the first one on. A None is passed on.
        wanted: The range.
        display_name: Name of the source in messages.

    Raises:
        VideoError: The source has no frame in the range.
    """
    between = _between(frames, wanted, display_name)
    return between if wanted.fps is None else _at_ticks(between, wanted.fps)


def places_of(indices: Iterable[int], frames: Iterable[Frame]) -> dict[int, int]:
    """Find the positions of some frames among those that are read.

    Args:
        indices: Indices of the frames to find, which have references.
        frames: The frames that are read. They are consumed up to the last one that is found.

    Returns:
        Index -> position among the frames that are read, from 0.

    Raises:
        MaskError: A frame with a reference is not read.
    """
    waiting = deque(sorted(indices))
    places: dict[int, int] = {}
    before: int | None = None
    for place, frame in enumerate(frames):
        if frame.index > waiting[0]:
            neighbours = (
                f"the first frame that is read is {frame.index}"
                if before is None
                else f"the nearest frames that are read are {before} and {frame.index}"
            )
            raise MaskError(
                f"frame {waiting[0]} has a reference, but is not read: {neighbours}",
                "draw the reference on a frame that is read, or choose other frames",
            )
        before = frame.index
        if frame.index == waiting[0]:
            places[waiting.popleft()] = place
        if not waiting:
            return places
    raise MaskError(
        f"frame {waiting[0]} has a reference, but is not read: the last frame that is read is "
        f"{before}",
        "draw the reference on a frame that is read, or choose other frames",
    )


def _between(
    frames: Iterable[T | None], wanted: FrameRange, display_name: str
) -> Iterator[T | None]:
    """Apply start, end and stride."""
    origin: Fraction | None = None  # time of the first frame of the source
    begin: int | None = None  # index of the first frame of the range
    last = "the source has no frame"
    for frame in frames:
        if frame is None:
            yield None
            continue
        origin = frame.time if origin is None else origin
        time = frame.time - origin
        ended = wanted.end is not None and frame.index >= wanted.end
        if ended or (wanted.end_s is not None and time >= wanted.end_s):
            break
        last = f"the last frame before its end is {frame.index}, at {float(time):.2f} s"
        if frame.index < wanted.start or time < wanted.start_s:
            yield None
            continue
        begin = frame.index if begin is None else begin
        yield None if (frame.index - begin) % wanted.stride else frame
    if begin is None:
        raise VideoError(
            f"{display_name}: no frame lies in the range: {last}",
            "choose an earlier {start}, or a later {end}",
        )


def _at_ticks(frames: Iterable[T | None], fps: Fraction) -> Iterator[T | None]:
    """Yield the frame that is shown at each tick."""
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


def _parse_place(name: str, text: str) -> int | Fraction:
    """Return a frame number as int, a time in seconds as Fraction."""
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    if seconds := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", text):
        return Fraction(seconds[1])
    if clock := re.fullmatch(r"(?:([0-9]+):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]+)?)", text):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    raise ValueError(
        f"{name} must be a frame number such as 250, or a time such as 10s, 2.5s, 1:30 or "
        f"0:01:30.5, not {text!r}"
    )


def note_indices(frames: Iterable[Frame], indices: deque[int]) -> Iterator[Frame]:
    """Yield the frames, and append the index of each to a queue for results that come later."""
    for frame in frames:
        indices.append(frame.index)
        yield frame
