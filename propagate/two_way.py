"""Both ways: frames before a reference are reached backwards from it, frames between two merged.

Frames come once and in order. So the frames up to a reference, a block, are gone over like this:

    forwards     as they come; the features and labels of each frame go into the feature cache
    backwards    over the features in the cache, from the reference to the first frame
    merge        the two labels of each frame, which give its mask

The forward pass is what a one-way run does, and frames outside the blocks come out the same. Pixels
are never kept.
"""

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F

from propagate.errors import PropagateError, Stopped
from propagate.feature_cache import FeatureCache, Place
from propagate.records import Frame, Mask, Result
from propagate.session import Session

log = logging.getLogger(__name__)

Clock = Callable[[str], AbstractContextManager[None]]
Numbered = Iterator[tuple[int, tuple[Frame, torch.Tensor]]]
# Called after each frame of a pass over a block, with the number of its frames, and of those passed
# so far: those of the backward pass are added to those of the forward pass.
OnPass = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Block:
    """Frames that are gone over backwards from a reference.

    Attributes:
        start: The first of them.
        end: The last: a frame with a reference.
        whole: Whether the block is complete; if not, the limit of the feature cache cut it short.
        new_only: Whether only objects that no earlier reference names come from the backward pass.
    """

    start: int
    end: int
    whole: bool
    new_only: bool = False

    def moved(self, by: int) -> "Block":
        """The same block, if frames are counted from another one."""
        return replace(self, start=self.start + by, end=self.end + by)


def first_named(named: Mapping[int, Collection[int]]) -> dict[int, list[int]]:
    """Keep of each reference the objects that no earlier one names.

    References that name none of these are left out, except those without objects.

    Args:
        named: Frame of each reference -> ids of the objects in it.
    """
    known: set[int] = set()
    first: dict[int, list[int]] = {}
    for frame, ids in sorted(named.items()):
        new = [i for i in ids if i not in known]
        known |= set(ids)
        if new or not ids:
            first[frame] = new
    return first


def plan_blocks(
    named: Mapping[int, Collection[int]], most_frames: int, new_only: bool = False
) -> list[Block]:
    """Choose the frames to go back over.

    A block reaches from a reference back to the frame after the reference before it. It continues
    across a reference that does not name all objects of the later ones: an object first named on
    frame 120 was there before frame 60 too, whatever was corrected on frame 60. A reference without
    objects says that none is visible: no block ends there, and none continues across it.

    Args:
        named: Frame of each reference -> ids of the objects in it.
        most_frames: Length of the longest block; a longer one loses its first frames.
        new_only: Whether blocks are for objects that no earlier reference names.

    Returns:
        The blocks in order, without overlap. A reference on the frame after another has none.
    """
    if new_only:
        named = first_named(named)
    references = sorted(named)
    later: set[int] = set()
    blocks: list[Block] = []
    for end, before in reversed(list(zip(references, [-1, *references], strict=False))):
        first = before + 1
        if not named[end]:
            later = set()
            continue
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
    return [
        replace(block, new_only=new_only)
        for block in reversed(blocks)
        if block.start < block.end or not block.whole
    ]


def follow_both_ways(
    session: Session,
    read: Iterable[tuple[Frame, torch.Tensor]],
    masks: Mapping[int, Mask],
    blocks: Iterable[Block],
    clock: Clock,
    on_pass: OnPass = lambda frames, passed: None,
) -> Generator[Result, None, None]:
    """Follow the objects through frames, and backwards through the blocks.

    Args:
        session: A new one.
        read: Each frame, in order, with its features (C, h, w).
        masks: Frame -> reference.
        blocks: From `plan_blocks`.
        clock: Counts the time of the stage "match".
        on_pass: Called while a block gives no results yet; what it raises ends the work.

    Yields:
        One result per frame, in order. The results of a block come when its last frame was read.

    Raises:
        OutputError: The temporary file cannot be written.
        PropagateError: What reading and matching raise, after the results of the frames before it.
    """
    frames: Numbered = enumerate(read)
    done = 0
    with FeatureCache() as cache:
        for block in blocks:
            if not block.whole:
                log.warning(
                    "going back from frame %d ends at frame %d, because the feature cache is full; "
                    "frames before that are followed forwards only",
                    block.end,
                    block.start,
                )
            yield from _forwards(session, islice(frames, block.start - done), masks, clock)
            count = block.end + 1 - block.start
            inside, tell = islice(frames, count), partial(on_pass, count)
            passed = _pass_forwards(session, inside, masks, cache, clock, tell)
            yield from _merged(session, passed, masks, cache, clock, block.new_only, tell)
            if passed.failure is not None:
                raise passed.failure
            done = block.end + 1
            cache.clear()
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
class _CachedFrame:
    """A frame of a block. Its tensors are in the feature cache."""

    index: int
    size: tuple[int, int]
    time_s: float
    features: Place
    labels: Place | None


@dataclass(frozen=True, slots=True)
class _ForwardPass:
    """A block after its forward pass.

    Attributes:
        frames: Its frames.
        last_reference: The frame where the backward pass starts.
        backward: A session that starts there; None if reading broke off before any reference.
        failure: Why reading broke off, if it did.
    """

    frames: list[_CachedFrame]
    last_reference: int
    backward: Session | None
    failure: PropagateError | None


def _pass_forwards(
    session: Session,
    frames: Numbered,
    masks: Mapping[int, Mask],
    cache: FeatureCache,
    clock: Clock,
    tell: Callable[[int], None],
) -> _ForwardPass:
    cached: list[_CachedFrame] = []
    last_reference, backward = 0, None
    try:
        for index, (frame, features) in frames:
            size = frame.image.shape[:2]
            with clock("match"):
                labels = session.label(size, features, masks.get(index))
                places = cache.put(features), None if labels is None else cache.put(labels)
            cached.append(_CachedFrame(index, size, frame.time_s, *places))
            if index in masks and masks[index].object_ids:
                last_reference, backward = index, session.reversed()
            tell(len(cached))
    except Stopped:
        raise
    except PropagateError as error:
        # The frames before it come out first, as in a one-way run.
        return _ForwardPass(cached, last_reference, backward, error)
    return _ForwardPass(cached, last_reference, backward, None)


def _merged(
    session: Session,
    passed: _ForwardPass,
    masks: Mapping[int, Mask],
    cache: FeatureCache,
    clock: Clock,
    new_only: bool,
    tell: Callable[[int], None],
) -> Iterator[Result]:
    """Go back over a block; give its results in order."""
    labels_backward: dict[int, Place] = {}
    for frame in reversed(passed.frames):
        if passed.backward is not None and frame.index < passed.last_reference:
            with clock("match"):
                given = masks.get(frame.index)
                labels = passed.backward.label(frame.size, cache.get(frame.features), given)
                assert labels is not None  # it started with objects
                labels_backward[frame.index] = cache.put(labels)
            tell(len(passed.frames) + len(labels_backward))
    known: Mapping[int, Collection[int]] = {
        index: mask.object_ids if new_only else mask.tells_of(session.object_ids)
        for index, mask in masks.items()
        if index <= passed.last_reference
    }
    if new_only:
        known = first_named(known)
    for frame in passed.frames:
        with clock("match"):
            labels = None if frame.labels is None else cache.get(frame.labels)
            if frame.index in labels_backward:
                other = cache.get(labels_backward[frame.index])
                share = forward_share(frame.index, session.object_ids, known)
                labels = merge_labels(labels, other, other.new_tensor(share))
            given = masks.get(frame.index)
            result = session.result(frame.index, frame.size, labels, given, frame.time_s)
        yield result


def forward_share(
    index: int, object_ids: Sequence[int], named: Mapping[int, Collection[int]]
) -> list[float]:
    """How much the forward pass counts for each object, 0..1.

    A pass counts more the nearer the reference is that it brings the object from. A pass without
    such a reference does not know the object and does not count.

    Args:
        index: The frame.
        object_ids: The objects.
        named: Frame of each reference seen by either pass -> ids of the objects in it.
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
    """Merge the labels of two passes over a frame, object by object.

    Background is what no object claims. Each object may come from a pass that does not know the
    others, so together they may claim more than one; then they share the cell in proportion.

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
