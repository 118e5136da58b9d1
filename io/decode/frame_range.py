"""Which frames of a source are read: a first and a last one, a stride, or frames per second."""

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
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
    """A dataclass with these fields."""

    @property
    def index(self) -> int: ...

    @property
    def time(self) -> Fraction: ...

    @property
    def in_range(self) -> bool: ...


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
        also: Indices of frames that are read too, with the frames between them and the range, at
            the stride or rate of the range. All of these come with `in_range` False.
    """

    start: int = 0
    end: int | None = None
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    stride: int = 1
    fps: Fraction | None = None
    also: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("start_s", "end_s", "fps"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Fraction(str(value)))
        object.__setattr__(self, "also", tuple(sorted(self.also)))
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
        also = {"also": list(self.also)} if self.also else {}
        return {
            "start": self.start,
            "end": self.end,
            "start_s": str(self.start_s),
            "end_s": None if self.end_s is None else str(self.end_s),
            "stride": self.stride,
            "fps": None if self.fps is None else str(self.fps),
            **also,
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
    return between if wanted.fps is None else _at_ticks(between, wanted.fps, wanted.also)


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
    last: int | None = None
    for place, frame in enumerate(frames):
        last = frame.index
        if frame.index == waiting[0]:
            places[waiting.popleft()] = place
        if not waiting:
            return places
    raise MaskError(
        f"frame {waiting[0]} has a reference, but is not read: the last frame that is read is "
        f"{last}",
        "name the frame that the mask was drawn on",
    )


def _outside(frame: T) -> T:
    return replace(frame, in_range=False)  # type: ignore[type-var]


def _between(
    frames: Iterable[T | None], wanted: FrameRange, display_name: str
) -> Iterator[T | None]:
    """Apply start, end, stride and `also`."""
    origin: Fraction | None = None  # time of the first frame of the source
    lead: int | None = None  # index of the first frame that is read before the range
    begin: int | None = None  # index of the first frame of the range
    last = "the source has no frame"
    before_end = " before its end" if wanted.end is not None or wanted.end_s is not None else ""
    also, stride = wanted.also, wanted.stride
    for frame in frames:
        if frame is None:
            yield None
            continue
        origin = frame.time if origin is None else origin
        time, index = frame.time - origin, frame.index
        ended = wanted.end is not None and index >= wanted.end
        if ended or (wanted.end_s is not None and time >= wanted.end_s):
            if begin is None or not also or index > also[-1]:
                break
            on_the_way = (index - begin) % stride == 0 or index in also
            yield _outside(frame) if on_the_way else None
            continue
        last = f"the last frame{before_end} is {index}, at {float(time):.2f} s"
        if index < wanted.start or time < wanted.start_s:
            if also and index >= also[0]:
                lead = index if lead is None else lead
            on_the_way = lead is not None and ((index - lead) % stride == 0 or index in also)
            yield _outside(frame) if on_the_way else None
            continue
        begin = index if begin is None else begin
        if (index - begin) % stride == 0:
            yield frame
        else:
            yield _outside(frame) if index in also else None
    if begin is None:
        ends = wanted.end is not None or wanted.end_s is not None
        raise VideoError(
            f"{display_name}: no frame lies in the range: {last}",
            "choose an earlier {start}" + (", or a later {end}" if ends else ""),
        )


def _at_ticks(
    frames: Iterable[T | None], fps: Fraction, also: Collection[int]
) -> Iterator[T | None]:
    """Yield the frame that is shown at each tick, and those of `also`."""
    begin = tick = Fraction(0)
    held: T | None = None

    def rest(held: T) -> T | None:
        if tick <= held.time + TOLERANCE_S:
            return held
        return _outside(held) if held.index in also else None

    for frame in frames:
        if frame is None:
            yield None
            continue
        if held is not None and held.in_range != frame.in_range:
            yield rest(held)
            held = None  # ticks start again where the range begins, and where it ends
        if held is None:
            begin = tick = frame.time
        elif frame.time <= tick + TOLERANCE_S:
            yield _outside(held) if held.index in also else None
        else:
            yield held
            tick = begin + ceil((frame.time - TOLERANCE_S - begin) * fps) / fps
        held = frame
    if held is not None:
        yield rest(held)


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


def first_in_range(frames: Iterable[Frame], count: int | None) -> Iterator[Frame]:
    """Yield frames up to the last of so many that are in the range; None: all."""
    left = count
    if left == 0:
        return
    for frame in frames:
        yield frame
        if left is not None and frame.in_range:
            left -= 1
            if not left:
                return


def note_indices(frames: Iterable[Frame], indices: deque[tuple[int, bool]]) -> Iterator[Frame]:
    """Yield the frames; append the index of each, and whether it is in the range, to a queue."""
    for frame in frames:
        indices.append((frame.index, frame.in_range))
        yield frame
