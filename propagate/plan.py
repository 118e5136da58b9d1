"""The plan of a video: what is settled before its first frame is followed."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike

import numpy as np

from propagate.config import Config
from propagate.errors import MaskError
from propagate.feature_cache import frame_bytes
from propagate.features.backbone import Backbone
from propagate.features.extract import channel_count, working_size
from propagate.io.decode.frame_range import FrameRange, first_in_range, places_of
from propagate.io.decode.source import Source
from propagate.io.decode.video import FrameSource, is_live, open_source
from propagate.io.masks.files import read_masks
from propagate.io.masks.given import GivenMask, as_mask
from propagate.records import Frame, Mask
from propagate.run_options import RunOptions
from propagate.two_way import Block, plan_blocks

log = logging.getLogger(__name__)

References = Mapping[int, GivenMask]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a source is followed.

    Attributes:
        open: Opens the source, as often as it has to be read.
        references: The masks given, by frame index of the source.
        masks: The same masks, by the place of their frame among the frames that are read.
        blocks: The frames to go back over.
    """

    open: Callable[[], FrameSource]
    references: Mapping[int, Mask]
    masks: Mapping[int, Mask]
    blocks: Sequence[Block]


def plan_source(
    source: Source, references: References, options: RunOptions, backbone: Backbone, config: Config
) -> Plan:
    """Plan how a source is followed.

    Raises:
        MaskError: A reference cannot be used, or is not on one of the frames that are read.
        VideoError: The source cannot be opened.
    """
    opened = options.source_options
    given = as_masks(references)
    masks: Mapping[int, Mask] = given
    first = min(index for index, mask in given.items() if mask.object_ids)
    can_go_back = opened.follow_timeout_s is None and not is_live(source)
    only_forwards = options.backwards == "none" or not can_go_back
    empty = first
    if opened.frame_range is not None:
        # Frames with references are read, wherever they are.
        opened = replace(opened, frame_range=replace(opened.frame_range, also=tuple(given)))
    open_again = partial(open_source, source, opened)
    if opened.may_leave_out:
        masks, empty, is_outside = _places_in_range(
            given, first, open_again, is_live(source), options.max_frames
        )
        if only_forwards and empty and is_outside and _is_past(first, opened.frame_range):
            raise past_the_range(first)
    if only_forwards and empty:
        lie = "frame lies" if empty == 1 else "frames lie"
        log.warning(
            "%d %s before the first reference, on frame %d, and nothing is found there, because "
            "objects are followed forwards only",
            *(empty, lie, first),
        )
    blocks: Sequence[Block] = ()
    if not only_forwards:
        blocks = _blocks(masks, options, backbone, config)
    return Plan(open_again, given, masks, blocks)


def as_masks(references: References, *, of_part: bool = False) -> dict[int, Mask]:
    """Check references before the first frame is decoded.

    Args:
        references: Frame index -> mask.
        of_part: Whether they are those of a part of a video, which may have none.

    Raises:
        MaskError: There is none, or one cannot be used.
        TypeError: They are no mapping from frame numbers to masks.
    """
    if not isinstance(references, Mapping):
        raise TypeError(
            f"references must map frame numbers to masks, as in {{0: mask}}, not be "
            f"{type(references).__name__}"
        )
    if not references and not of_part:
        raise MaskError("no reference: give the mask of at least one frame")
    for index in references:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"references: frame numbers are integers, not {index!r}")
        if index < 0:
            raise MaskError(f"reference on frame {index}: frames are counted from 0")
    # Files are read together, because a colour is the same object in all of them.
    paths = {i: str(m) for i, m in references.items() if isinstance(m, str | PathLike)}
    read = dict(zip(paths, read_masks(paths.values()), strict=True))
    masks = {
        int(index): read.get(index) or as_mask(mask, f"mask of frame {index}")
        for index, mask in references.items()
    }
    if not of_part and not any(mask.object_ids for mask in masks.values()):
        first = next(iter(masks.values()))
        raise MaskError(
            f"{first.source}: no object in {'this mask' if len(masks) == 1 else 'any reference'}",
            "label at least one pixel 1..254",
        )
    return masks


def check_within(
    references: Mapping[int, object], count: int | None, max_frames: int | None = None
) -> None:
    """Refuse references on frames that do not exist or are not read.

    Args:
        references: By frame.
        count: How many frames there are; None: not known.
        max_frames: Where reading stops, if it stops early.

    Raises:
        MaskError: There is one.
    """
    if count == 0:
        raise MaskError("there are no frames to follow anything through")
    if count is not None and (beyond := [index for index in references if index >= count]):
        raise MaskError(
            f"the reference on frame {min(beyond)} is past the end: there are {count} frames, "
            f"0 to {count - 1}",
            "name the frame that the mask was drawn on",
        )
    if max_frames is not None and (beyond := [i for i in references if i >= max_frames]):
        of = "" if count is None else f" of {count}"
        raise MaskError(
            f"the reference on frame {min(beyond)} is not reached: reading stops after "
            f"{max_frames}{of} frames",
            "raise {max_frames}, or leave that reference out",
        )


def past_the_range(first: int) -> MaskError:
    """Say that the first reference lies after all frames that are to be followed."""
    return MaskError(
        f"the first reference, on frame {first}, lies after the end of the range, and objects are "
        "followed forwards only: nothing can be found",
        "leave out {backwards}, choose a later {end}, or give a mask of an earlier frame",
    )


def _is_past(first: int, wanted: FrameRange | None) -> bool:
    """Say whether a frame outside a range, some of whose frames come before it, is after its end.

    A frame between two that are read is outside, too.
    """
    if wanted is None:
        return False
    return (wanted.end is not None and first >= wanted.end) or (
        wanted.stride == 1 and wanted.fps is None
    )


def _places_in_range(
    masks: Mapping[int, Mask],
    first: int,
    open_again: Callable[[], FrameSource],
    live: bool,
    max_frames: int | None,
) -> tuple[dict[int, Mask], int, bool]:
    """Number references by their place among the frames that are read, as a session counts them.

    The source is read up to the last of them now, and once more later. A live source cannot be.

    Args:
        masks: By frame of the source.
        first: The first of these frames whose mask has an object.
        open_again: Opens the source.
        live: Whether it is a live source.
        max_frames: Where reading stops, if it stops early.

    Returns:
        The masks by place; how many frames of the range come before `first`; and whether `first`
        is outside of it.
    """
    if not live:
        before, is_outside = 0, False

        def watched(frames: Iterable[Frame]) -> Iterator[Frame]:
            nonlocal before, is_outside
            for frame in frames:
                before += frame.in_range and frame.index < first
                is_outside |= frame.index == first and not frame.in_range
                yield frame

        with open_again() as frames:
            places = places_of(masks, watched(first_in_range(frames, max_frames)))
        return {places[index]: mask for index, mask in masks.items()}, before, is_outside
    if masks.keys() != {0}:
        raise MaskError(
            "a live source is read only once: with a range, give the mask of its first frame"
        )
    return dict(masks), 0, False


def _blocks(
    masks: Mapping[int, Mask], options: RunOptions, backbone: Backbone, config: Config
) -> list[Block]:
    """Choose the frames to go back over, as many as the feature cache has room for."""
    height, width = next(iter(masks.values())).ids.shape
    rows, columns = working_size(height, width, config, backbone.multiple)
    grid = rows // backbone.stride, columns // backbone.stride
    named = {index: mask.object_ids for index, mask in masks.items()}
    objects = len(set().union(*named.values()))
    channels = channel_count(backbone, config)
    per_frame = frame_bytes(channels, grid, objects, config.matcher.labels_per_cell)
    most_frames = max(1, options.feature_cache_bytes // per_frame)
    return plan_blocks(named, most_frames, options.backwards == "new")
