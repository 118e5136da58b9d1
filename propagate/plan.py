"""The plan of a video: what is settled before its first frame is followed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike

import numpy as np

from propagate.config import Config
from propagate.errors import MaskError
from propagate.feature_cache import frame_bytes
from propagate.features.backbone import Backbone
from propagate.features.extract import channel_count, working_size
from propagate.io.decode.frame_range import first_in_range, places_of
from propagate.io.decode.source import Source
from propagate.io.decode.video import FrameSource, is_live, open_source
from propagate.io.masks.files import read_masks
from propagate.io.masks.given import GivenMask, as_mask
from propagate.records import Mask
from propagate.run_options import RunOptions
from propagate.two_way import Block, plan_blocks

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
    if opened.frame_range is not None:
        # Frames with references are read, wherever they are.
        opened = replace(opened, frame_range=replace(opened.frame_range, also=tuple(given)))
    open_again = partial(open_source, source, opened)
    if opened.may_leave_out:
        masks = _places_in_range(given, open_again, is_live(source), options.max_frames)
    blocks: Sequence[Block] = ()
    if options.backwards != "none" and opened.follow_timeout_s is None and not is_live(source):
        blocks = _blocks(masks, options, backbone, config)
    return Plan(open_again, given, masks, blocks)


def as_masks(references: References) -> dict[int, Mask]:
    """Check references before the first frame is decoded.

    Raises:
        MaskError: There is none, or one cannot be used.
        TypeError: They are no mapping from frame numbers to masks.
    """
    if not isinstance(references, Mapping):
        raise TypeError(
            f"references must map frame numbers to masks, as in {{0: mask}}, not be "
            f"{type(references).__name__}"
        )
    if not references:
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
    if not any(mask.object_ids for mask in masks.values()):
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


def _places_in_range(
    masks: Mapping[int, Mask],
    open_again: Callable[[], FrameSource],
    live: bool,
    max_frames: int | None,
) -> dict[int, Mask]:
    """Number references by their place among the frames that are read, as a session counts them.

    The source is read up to the last of them now, and once more later. A live source cannot be.
    """
    if not live:
        with open_again() as frames:
            places = places_of(masks, first_in_range(frames, max_frames))
        return {places[index]: mask for index, mask in masks.items()}
    if masks.keys() != {0}:
        raise MaskError(
            "a live source is read only once: with a range, give the mask of its first frame"
        )
    return dict(masks)


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
