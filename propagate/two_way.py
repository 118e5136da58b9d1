"""Both ways: frames before a reference are reached backwards from it, those between two merged.

Frames come once and in order, so the frames up to a reference, a block, are gone over like this:

    forwards     as they come; features and labels of each frame go to a temporary file
    backwards    over the features in that file, from the reference to the first frame
    merge        the two labels of each frame, and its mask

A forward pass is what a one-way run does; frames outside the blocks come out as from one. Pixels
are never kept.
"""

import logging
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from math import prod
from tempfile import TemporaryFile, gettempdir
from typing import Self

import torch
import torch.nn.functional as F

from propagate.errors import OutputError, PropagateError
from propagate.records import Frame, Mask, Result
from propagate.session import Session

log = logging.getLogger(__name__)

Clock = Callable[[str], AbstractContextManager[None]]
Numbered = Iterator[tuple[int, tuple[Frame, torch.Tensor]]]

# The temporary file's largest size: 2,500 frames of 854x480 with `tiny`.
SPOOL_BYTES = 4 * 2**30
VALUE_BYTES = 2  # float16
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class Block:
    """Frames that are gone over backwards from a reference.

    Attributes:
        start: The first of them.
        end: The last: a frame with a reference.
        whole: Whether they are all that should be; if not, the limit in bytes cut them short.
    """

    start: int
    end: int
    whole: bool


def frame_bytes(
    channels: int, grid: tuple[int, int], objects: int, labels_per_cell: int = 1
) -> int:
    """Bytes that one frame takes in the temporary file: features, and labels of both passes."""
    labels = 2 * (objects + 1) * labels_per_cell
    return grid[0] * grid[1] * (channels + labels) * VALUE_BYTES


def plan_blocks(named: Mapping[int, Collection[int]], most_frames: int) -> list[Block]:
    """Choose the frames to go back over.

    A block reaches from a reference back to the frame after the one before. It goes on across a
    reference that does not name all objects of the later ones: what is first named on frame 120 was
    there before frame 60 as well, whatever somebody corrected on that frame.

    Args:
        named: Frame of each reference -> ids of the objects in it.
        most_frames: Longest block. One that is longer loses its first frames.

    Returns:
        The blocks in order, without overlap; none for a reference on the frame after another.
    """
    references = sorted(named)
    later: set[int] = set()
    blocks: list[Block] = []
    for end, before in reversed(list(zip(references, [-1, *references], strict=False))):
        first = before + 1
        goes_on = bool(blocks) and not later <= set(named[end])
        later |= set(named[end])
        if goes_on and blocks[-1].end - first < most_frames:
            blocks[-1] = Block(first, blocks[-1].end, whole=True)
            continue
        if goes_on:
            blocks[-1] = Block(blocks[-1].start, blocks[-1].end, whole=False)
            later = set(named[end])
        start = max(first, end + 1 - most_frames)
        blocks.append(Block(start, end, whole=start == first))
    return [block for block in reversed(blocks) if block.start < block.end or not block.whole]


def follow_both_ways(
    session: Session,
    read: Iterable[tuple[Frame, torch.Tensor]],
    masks: Mapping[int, Mask],
    blocks: Iterable[Block],
    clock: Clock,
) -> Generator[Result, None, None]:
    """Follow the objects through frames, in the blocks backwards too.

    Args:
        session: A new one.
        read: Each frame, in order, with its features (C, h, w).
        masks: Frame -> reference.
        blocks: From `plan_blocks`.
        clock: Counts the time of the stage "match".

    Yields:
        One result per frame, in order; those of a block when its last frame has been read.

    Raises:
        OutputError: The temporary file cannot be written.
        PropagateError: What reading and matching raise, after the results of the frames before.
    """
    frames: Numbered = enumerate(read)
    done = 0
    with Spool() as spool:
        for block in blocks:
            if not block.whole:
                log.warning(
                    "going back from frame %d ends at frame %d: more would take more temporary "
                    "space than the limit; frames before are followed without it",
                    block.end,
                    block.start,
                )
            yield from _forwards(session, islice(frames, block.start - done), masks, clock)
            inside = islice(frames, block.end + 1 - block.start)
            passed = _pass_forwards(session, inside, masks, spool, clock)
            yield from _merged(session, passed, masks, spool, clock)
            if passed.failure is not None:
                raise passed.failure
            done = block.end + 1
            spool.clear()
        yield from _forwards(session, frames, masks, clock)


def _forwards(
    session: Session, frames: Numbered, masks: Mapping[int, Mask], clock: Clock
) -> Iterator[Result]:
    for index, (frame, features) in frames:
        with clock("match"):
            size = frame.image.shape[:2]
            result = session.advance(size, features, masks.get(index), frame.time_s)
        yield result


@dataclass(frozen=True, slots=True)
class _Held:
    """A frame of a block, its tensors in the temporary file."""

    index: int
    size: tuple[int, int]
    time_s: float
    features: "Place"
    labels: "Place | None"


@dataclass(frozen=True, slots=True)
class _Passed:
    """A block after its forward pass.

    Attributes:
        held: Its frames.
        turn: Its last reference.
        back: A session that begins there; None if reading broke off before any reference.
        failure: Why reading broke off, if it did.
    """

    held: list[_Held]
    turn: int
    back: Session | None
    failure: PropagateError | None


def _pass_forwards(
    session: Session, frames: Numbered, masks: Mapping[int, Mask], spool: "Spool", clock: Clock
) -> _Passed:
    held: list[_Held] = []
    turn, back = 0, None
    try:
        for index, (frame, features) in frames:
            size = frame.image.shape[:2]
            with clock("match"):
                labels = session.label(size, features, masks.get(index))
                places = spool.put(features), None if labels is None else spool.put(labels)
            held.append(_Held(index, size, frame.time_s, *places))
            if index in masks:
                turn, back = index, session.reversed()
    except PropagateError as error:
        # The frames before it come out first, as they do one way.
        return _Passed(held, turn, back, error)
    return _Passed(held, turn, back, None)


def _merged(
    session: Session, passed: _Passed, masks: Mapping[int, Mask], spool: "Spool", clock: Clock
) -> Iterator[Result]:
    """Go back over a block; give its results in order."""
    backward: dict[int, Place] = {}
    for frame in reversed(passed.held):
        if passed.back is not None and frame.index < passed.turn:
            with clock("match"):
                given = masks.get(frame.index)
                labels = passed.back.label(frame.size, spool.get(frame.features), given)
                assert labels is not None  # it began with objects
                backward[frame.index] = spool.put(labels)
    known = {index: mask.object_ids for index, mask in masks.items() if index <= passed.turn}
    for frame in passed.held:
        with clock("match"):
            labels = None if frame.labels is None else spool.get(frame.labels)
            if frame.index in backward:
                other = spool.get(backward[frame.index])
                share = forward_share(frame.index, session.object_ids, known)
                labels = merge_labels(labels, other, other.new_tensor(share))
            given = masks.get(frame.index)
            result = session.result(frame.index, frame.size, labels, given, frame.time_s)
        yield result


def forward_share(
    index: int, object_ids: Sequence[int], named: Mapping[int, Collection[int]]
) -> list[float]:
    """How much of each object's label is the forward pass's, 0..1.

    A pass counts by how near the reference is that it brings the object from; one that brings it
    from none does not know it and does not count.

    Args:
        index: The frame.
        object_ids: The objects.
        named: Frame of each reference that either pass has seen -> ids of the objects in it.
    """
    shares = []
    for object_id in object_ids:
        frames = [frame for frame, ids in named.items() if object_id in ids]
        before = min((index - frame for frame in frames if frame <= index), default=None)
        after = min((frame - index for frame in frames if frame >= index), default=None)
        if before is None or after is None:
            shares.append(float(after is None))
        else:
            shares.append(after / (before + after) if before + after else 0.5)
    return shares


def merge_labels(
    forward: torch.Tensor | None, backward: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """Join the labels of two passes over a frame, object by object.

    Background is what no object claims; where the objects claim more than there is, for each comes
    from a pass that may not know the other, they share it in proportion.

    Args:
        forward: (h, w, Lf), background first; objects that joined later are missing at the end.
            None: it knows no object yet.
        backward: (h, w, L), background first.
        share: (L - 1,) of the forward pass, for each object.

    Returns:
        (h, w, L) that sum to one.
    """
    if forward is None:
        return backward
    there = F.pad(forward, (0, backward.shape[-1] - forward.shape[-1]))[..., 1:]
    back = backward[..., 1:]
    objects = there * share + back * (1 - share)  # (h, w, L - 1)
    total = objects.sum(-1, keepdim=True)
    background = (1 - total).clamp_min(0)
    return torch.cat([background, objects], dim=-1) / total.clamp_min(1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in a spool: byte offset and shape; and the device it came from."""

    offset: int
    shape: tuple[int, ...]
    device: torch.device


class Spool:
    """Tensors in a temporary file, as float16. Use it in a `with` block.

    The file has no name from the start where the system allows that (Linux, macOS), so that even a
    kill leaves nothing behind.
    """

    def __init__(self) -> None:
        """Make the file, in the system's folder for temporary files."""
        with _writing():
            self._file = TemporaryFile(prefix="propagate-")  # noqa: SIM115

    def put(self, tensor: torch.Tensor) -> Place:
        """Write a tensor at the end.

        Raises:
            OutputError: There is no space.
        """
        # No number becomes infinite: one that large is as good as the largest.
        values = tensor.clamp(-LARGEST, LARGEST).half().cpu().contiguous().numpy()
        with _writing():
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(values.data)
            # Buffered, a failure would come with some later call.
            self._file.flush()
        return Place(offset, tuple(tensor.shape), tensor.device)

    def get(self, place: Place) -> torch.Tensor:
        """Read a tensor back to where it came from, as float32."""
        buffer = bytearray(prod(place.shape) * VALUE_BYTES)
        self._file.seek(place.offset)
        self._file.readinto(buffer)
        values = torch.frombuffer(buffer, dtype=torch.float16).view(place.shape)
        return values.to(place.device).float()

    def clear(self) -> None:
        """Forget everything, and give the space back."""
        self._file.truncate(0)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        with suppress(OSError):  # closing tries once more to write what did not fit
            self._file.close()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{gettempdir()}: no temporary file for going backwards ({error.strerror}): set TMPDIR "
            "to a folder with room, or pass --forward-only"
        ) from error
