"""Which mask belongs to which video: one file, numbered files, or a folder of videos' names."""

import os
from collections.abc import Sequence
from pathlib import Path

from propagate.errors import MaskError
from propagate.io.masks import read_mask, read_references
from propagate.records import Mask


def masks_of_sources(path: Path, sources: Sequence[str], frame: int = 0) -> list[dict[int, Mask]]:
    """Find the reference masks of each source.

    Args:
        path: For one source, a mask image or a folder of `<frame number>.png`. For any number, a
            folder that holds `<name>.png` or `<name>/<frame number>.png` for each source's name.
        sources: Paths of videos or folders, or live addresses.
        frame: The frame that a single image is for.

    Returns:
        Frame index -> mask, for each source in order.

    Raises:
        MaskError: A source has no mask, two sources share a name, or a mask cannot be used.
    """
    names = [_name_of(source) for source in sources]
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
        return [{frame: read_mask(path)}]
    return [_masks_of(path, name, len(sources), frame) for name in names]


def _name_of(source: str) -> str:
    """The name of a file's or folder's results; for a stream, the last part of its address."""
    path = Path(source)
    # Path.is_dir raises where a folder above may not be entered; opening the source says it better.
    return path.resolve().name if os.path.isdir(path) else path.stem


def _masks_of(path: Path, name: str, count: int, frame: int) -> dict[int, Mask]:
    if (path / name).is_dir():
        return read_references(path / name)
    if (path / f"{name}.png").is_file():
        return {frame: read_mask(path / f"{name}.png")}
    if count > 1:
        raise MaskError(f"{path}: no mask for {name!r}; add {name}.png or a folder {name}/")
    return read_references(path)
