"""Reference masks on disk: which mask belongs to which video and to which frame."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.video import name_of
from propagate.io.masks.png import SUFFIX, mask_file, read_mask
from propagate.records import Mask


def read_references(
    path: str | Path, *, frame: int = 0, max_pixels: int = MAX_PIXELS
) -> dict[int, Mask]:
    """Read the reference masks of a video: one mask, or a folder of `<frame number>.png`.

    The frame number of a file in a folder is the last group of digits of its stem: 12 for
    `00012.png` and for `clip2_0012.png`. Files that are not PNGs are ignored.

    Args:
        path: An image, or a folder of PNGs.
        frame: The frame that a single image belongs to.
        max_pixels: The most pixels a mask may have.

    Returns:
        The masks by frame number, in increasing order.

    Raises:
        MaskError: If a mask cannot be used (see `read_mask`), the folder holds none, a file has no
            number, or two files have the same number.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return {frame: read_mask(path, max_pixels=max_pixels)}
    numbered: dict[int, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() != SUFFIX or file.name.startswith("."):
            continue
        digits = re.findall(r"[0-9]+", file.stem)
        if not digits:
            raise MaskError(f"{file}: no frame number in this name", "use a name like 00012.png")
        number = int(digits[-1])
        if number in numbered:
            raise _second_mask(file, number, numbered[number].name)
        numbered[number] = file
    if not numbered:
        raise MaskError(f"{path}: no mask in this folder", "put <frame number>.png files there")
    return {
        number: read_mask(numbered[number], max_pixels=max_pixels) for number in sorted(numbered)
    }


def masks_of_sources(
    path: Path, sources: Sequence[str], *, max_pixels: int = MAX_PIXELS
) -> list[dict[int, Mask]]:
    """Find the reference masks of each source.

    Args:
        path: For one source, a mask image of frame 0 or a folder of `<frame number>.png`. For any
            number of sources, a folder that holds `<name>.png` or `<name>/<frame number>.png` for
            each of their names.
        sources: Paths of videos or folders, or live addresses.
        max_pixels: The most pixels a mask may have.

    Returns:
        For each source in order, its masks by frame number.

    Raises:
        MaskError: If a source has no mask, two sources have the same name, or a mask cannot be
            used.
    """
    names = [name_of(source) for source in sources]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise MaskError(
            f"two sources are named {sorted(repeated)[0]!r} and would write into one folder",
            "run them one by one, with a different {out} for each",
        )
    if not path.is_dir():
        if len(sources) > 1:
            raise MaskError(
                f"{path}: one mask for {len(sources)} sources",
                "give a folder that holds <name>.png for each",
            )
        return [{0: read_mask(path, max_pixels=max_pixels)}]
    return [_masks_of(path, name, len(sources), max_pixels) for name in names]


def add_references(
    masks: list[dict[int, Mask]], entries: Sequence[str], *, max_pixels: int = MAX_PIXELS
) -> list[dict[int, Mask]]:
    """Add masks of given frames to those of the only source.

    Args:
        masks: For each source, its masks by frame number.
        entries: "120=b.png": frame number, counted from 0, and mask image.
        max_pixels: The most pixels a mask may have.

    Raises:
        MaskError: If there are several sources, an entry has another form, a frame gets a second
            mask, or a mask cannot be used.
    """
    if not entries:
        return masks
    if len(masks) > 1:
        raise MaskError(
            f"{entries[0]}: a reference of one source, but there are {len(masks)} sources",
            "put numbered masks into a folder for each source, and give the folder above as {mask}",
        )
    joined = dict(masks[0])
    for entry in entries:
        number, _, path = entry.partition("=")
        if not re.fullmatch("[0-9]+", number) or not path:
            raise MaskError(
                f"{entry!r}: not a reference",
                "write FRAME=MASK, the frame's number from 0 and the mask's path, such as "
                "120=b.png",
            )
        frame = int(number)
        if frame in joined:
            raise _second_mask(path, frame, joined[frame].source)
        joined[frame] = read_mask(path, max_pixels=max_pixels)
    return [joined]


def _second_mask(path: str | Path, frame: int, first: str) -> MaskError:
    return MaskError(f"{path}: frame {frame} has a second mask, {first}", "keep one")


def _masks_of(path: Path, name: str, count: int, max_pixels: int) -> dict[int, Mask]:
    if (path / name).is_dir():
        return read_references(path / name, max_pixels=max_pixels)
    if mask_file(path, name).is_file():
        return {0: read_mask(mask_file(path, name), max_pixels=max_pixels)}
    if count > 1:
        raise MaskError(
            f"{path}: no mask for {name!r}", "add <name>.png or a folder <name>/ for each source"
        )
    return read_references(path, max_pixels=max_pixels)
