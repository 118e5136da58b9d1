"""Which mask belongs to which video: one file, numbered files, or a folder of videos' names."""

import re
from collections.abc import Sequence
from pathlib import Path

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.video import name_of
from propagate.io.write.masks import read_mask, read_references
from propagate.records import Mask


def masks_of_sources(
    path: Path, sources: Sequence[str], *, max_pixels: int = MAX_PIXELS
) -> list[dict[int, Mask]]:
    """Find the reference masks of each source.

    Args:
        path: For one source, a mask image of frame 0 or a folder of `<frame number>.png`. For any
            number, a folder that holds `<name>.png` or `<name>/<frame number>.png` for each
            source's name.
        sources: Paths of videos or folders, or live addresses.
        max_pixels: Most pixels of a mask.

    Returns:
        Frame index -> mask, for each source in order.

    Raises:
        MaskError: A source has no mask, two sources share a name, or a mask cannot be used.
    """
    names = [name_of(source) for source in sources]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise MaskError(
            f"two sources are named {sorted(repeated)[0]!r} and would write into one folder; "
            "run them one by one with different -o"
        )
    if not path.is_dir():
        if len(sources) > 1:
            raise MaskError(
                f"{path}: one mask for {len(sources)} sources; give a folder that holds "
                "<name>.png for each"
            )
        return [{0: read_mask(path, max_pixels=max_pixels)}]
    return [_masks_of(path, name, len(sources), max_pixels) for name in names]


def add_references(
    masks: list[dict[int, Mask]], entries: Sequence[str], *, max_pixels: int = MAX_PIXELS
) -> list[dict[int, Mask]]:
    """Add masks of named frames to those of the one source.

    Args:
        masks: For each source, frame index -> mask.
        entries: "120=b.png": frame number, counted from 0, and mask image.
        max_pixels: Most pixels of a mask.

    Raises:
        MaskError: There are several sources, an entry is no such thing, a frame gets a second mask,
            or a mask cannot be used.
    """
    if not entries:
        return masks
    if len(masks) > 1:
        raise MaskError(
            f"{entries[0]}: a reference of one source, and there are {len(masks)}; put numbered "
            "masks into a folder for each, and give the folder above with -m"
        )
    joined = dict(masks[0])
    for entry in entries:
        number, _, path = entry.partition("=")
        if not re.fullmatch("[0-9]+", number) or not path:
            raise MaskError(
                f"{entry!r}: no reference; write FRAME=MASK, the frame's number from 0 and the "
                "mask's path, such as 120=b.png"
            )
        frame = int(number)
        if frame in joined:
            raise MaskError(
                f"{path}: frame {frame} has a second mask, {joined[frame].source}: keep one"
            )
        joined[frame] = read_mask(path, max_pixels=max_pixels)
    return [joined]


def _masks_of(path: Path, name: str, count: int, max_pixels: int) -> dict[int, Mask]:
    if (path / name).is_dir():
        return read_references(path / name, max_pixels=max_pixels)
    if (path / f"{name}.png").is_file():
        return {0: read_mask(path / f"{name}.png", max_pixels=max_pixels)}
    if count > 1:
        raise MaskError(f"{path}: no mask for {name!r}; add {name}.png or a folder {name}/")
    return read_references(path, max_pixels=max_pixels)
