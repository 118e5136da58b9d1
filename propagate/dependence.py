"""Which references decide a mask, so that a changed reference changes only what it can.

    forwards    following starts anew at a reference that names all objects so far, so a mask
                depends on that reference, on those between it and its frame, and on the first one
    backwards   inside a block (see `two_way`) also on the references up to the end of the block,
                and on those that the forward pass knows there

Frames are counted as the session counts them, from 0.
"""

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from propagate.two_way import Block


@dataclass(frozen=True)
class Dependence:
    """What the masks of a run depend on.

    Attributes:
        checksums: Frame of each reference -> checksum of its mask.
        named: Frame of each reference -> ids of the objects in it.
        blocks: The frames that are gone back over.
    """

    checksums: Mapping[int, str]
    named: Mapping[int, Sequence[int]]
    blocks: Sequence[Block]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Read it from the settings of a run, as `run_settings` or a report gives them.

        Raises:
            KeyError: The settings do not say which objects a reference names.
        """
        return cls(
            {int(frame): checksum for frame, checksum in settings["references_sha256"].items()},
            {int(frame): tuple(ids) for frame, ids in settings["reference_objects"].items()},
            [
                Block(block["to"], block["from"], block["whole"], block.get("objects") == "new")
                for block in settings["backwards"]
            ],
        )

    @cached_property
    def _frames(self) -> list[int]:
        return sorted(self.named)

    @cached_property
    def _starts(self) -> list[int]:
        """The references at which following starts anew: see `Session.label`."""
        starts: list[int] = self._frames[:1]
        known: set[int] = set()
        for frame in self._frames:
            if known and known <= set(self.named[frame]):
                starts.append(frame)
            known |= set(self.named[frame])
        return starts

    @cached_property
    def first(self) -> int | None:
        """The first reference with objects, which is remembered for ever."""
        return next((frame for frame in self._frames if self.named[frame]), None)

    def start_of(self, frame: int) -> int | None:
        """Give the reference where the following starts that reaches a frame; None if none does."""
        place = bisect_right(self._starts, frame)
        return self._starts[place - 1] if place else None

    def _forwards(self, frame: int) -> list[tuple[int, str]]:
        """Give the references that decide what the forward pass finds on a frame."""
        start = self.start_of(frame)
        if start is None:
            return []
        first = [] if self.first is None or self.first >= start else [self.first]
        return self._with_checksums([*first, *self._inside(start, frame)])

    def _inside(self, start: int, end: int) -> list[int]:
        """Give the references from a frame to another, both included."""
        return self._frames[bisect_left(self._frames, start) : bisect_right(self._frames, end)]

    def _with_checksums(self, frames: Sequence[int]) -> list[tuple[int, str]]:
        return [(frame, self.checksums[frame]) for frame in frames]

    def block_of(self, frame: int) -> Block | None:
        """Give the block that a frame lies in."""
        return next((b for b in self.blocks if b.start <= frame <= b.end), None)

    def session_key(self, frame: int) -> str:
        """Name what the state of a session depends on that has seen the frames before this one."""
        return _digest(self._forwards(frame - 1))

    @cached_property
    def _bounds(self) -> list[int]:
        """Frames at which the references that decide a mask may change."""
        ends = {end for block in self.blocks for end in (block.start, block.end + 1)}
        return sorted({*self._frames, *ends})

    @cached_property
    def _keys(self) -> dict[int, str]:
        return {}

    def mask_key(self, frame: int) -> str:
        """Name what the mask of a frame depends on: two runs with equal keys give equal masks.

        Between two bounds it is one, and computed once: it is asked for every frame of a video.
        """
        piece = bisect_right(self._bounds, frame)
        if piece not in self._keys:
            self._keys[piece] = self._mask_key(frame)
        return self._keys[piece]

    def _mask_key(self, frame: int) -> str:
        block = self.block_of(frame)
        if block is None:
            return _digest(self._forwards(frame))
        later = self._with_checksums(self._inside(frame + 1, block.end))
        ends = [block.start, block.end, block.whole, block.new_only, self._forwards(block.end)]
        return _digest([self._forwards(frame), ends, later])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames whose masks are computed in one go.

    Attributes:
        replay: The frame that following starts at. Masks of frames before `start` are not written:
            they are there.
        start: The first frame that is written.
        stop: The frame after the last; None: to the end of the video.
    """

    replay: int
    start: int
    stop: int | None


def plan_stretches(
    dependence: Dependence,
    done: int,
    kept: Sequence[tuple[int, int]],
    count: int | None,
    has_session: bool,
) -> list[Stretch]:
    """Plan what is computed, if the masks of some frames are there.

    Args:
        dependence: Of the masks that are wanted.
        done: Frames at the beginning that are done.
        kept: First and last frame of each range of later frames that are there, in order.
        count: Frames of the video; None: not known.
        has_session: Whether the session is at hand that has seen the frames before `done`.

    Returns:
        The stretches in order, without overlap.
    """
    stretches: list[Stretch] = []
    for start, stop in _between(done, kept, count):
        inside = [
            block
            for block in dependence.blocks
            if block.end >= start and (stop is None or block.start < stop)
        ]
        if inside:  # a block is computed as a whole
            start = min(start, inside[0].start)
            stop = None if stop is None else max(stop, inside[-1].end + 1)
        if start == done and has_session:
            replay = start
        else:
            first = dependence.start_of(start)
            replay = start if first is None else first
        previous = stretches[-1] if stretches else None
        if previous is not None and (previous.stop is None or replay < previous.stop):
            start, replay = previous.start, previous.replay
            stop = None if previous.stop is None or stop is None else max(stop, previous.stop)
            stretches.pop()
        stretches.append(Stretch(replay, start, stop))
    return stretches


def _between(
    done: int, kept: Sequence[tuple[int, int]], count: int | None
) -> list[tuple[int, int | None]]:
    """Give the ranges of frames, [start, stop), that are neither done nor kept."""
    ranges: list[tuple[int, int | None]] = []
    for first, last in kept:
        if done < first:
            ranges.append((done, first))
        done = max(done, last + 1)
    if count is None or done < count:
        ranges.append((done, count))
    return ranges
