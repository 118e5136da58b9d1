"""Names that nearly are the wanted one: other case, suffix or padding, or one folder deeper.

They are quoted in errors and never used: a score over guessed names could be a wrong one.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from propagate.io.masks.files import ARRAYS, PICTURES

# What people keep masks in; other files are no near miss of a mask.
_SUFFIXES = frozenset((*PICTURES, *ARRAYS, ".jpg", ".jpeg"))
_DEPTH = 3


def near_masks(folder: Path, frames: Iterable[str]) -> dict[str, str]:
    """Find the files that may be meant as the masks of frames.

    Args:
        folder: Of the sequence. Its subfolders are looked into as well.
        frames: Names of frames, without suffix, that have no mask where it should be.

    Returns:
        By frame, the file relative to the folder. A frame to which no name is near has none.
    """
    files = list(_masks_below(folder, 2))
    near = ((frame, _nearest(frame, files)) for frame in frames)
    return {frame: found for frame, found in near if found is not None}


def near_folder(root: Path, name: str) -> str | None:
    """Find the folder that may be meant by a name, in a folder or one level deeper.

    Args:
        root: The folder to look in.
        name: Of the folder that does not exist there.

    Returns:
        The folder, relative to the root; None if no name is near.
    """
    here = [PurePath(e.name) for e in _listed(root) if e.is_dir()]
    below = [top / e.name for top in here for e in _listed(root / top) if e.is_dir()]
    return _nearest(name, [*here, *below])


def some_mask(root: Path) -> str | None:
    """Find any file that may be a mask, at most two folders deep; None if there is none."""
    found = next(_masks_below(root, _DEPTH), None)
    return None if found is None else found.as_posix()


def _nearest(wanted: str, paths: Sequence[PurePath]) -> str | None:
    """Choose the first path of the best kind: the same but for case and padding; its number."""
    plain = _plain(wanted)
    for path in paths:
        if _plain(_name(path)) == plain:
            return path.as_posix()
    if wanted.isdecimal():
        for path in paths:
            if _numbers(_name(path)) == [int(wanted)]:
                return path.as_posix()
    return None


def _name(path: PurePath) -> str:
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def _plain(name: str) -> str:
    """Write a name in lower case, its numbers without padding."""
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), name.casefold())


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _masks_below(folder: Path, depth: int) -> Iterator[PurePath]:
    """List files that may be masks, relative to a folder, those of the folder itself first."""
    entries = _listed(folder)
    for entry in entries:
        if PurePath(entry.name).suffix.lower() in _SUFFIXES and entry.is_file():
            yield PurePath(entry.name)
    if depth > 1:
        for entry in entries:
            if entry.is_dir():
                below = _masks_below(folder / entry.name, depth - 1)
                yield from (entry.name / path for path in below)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder by name without hidden files; nothing if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError:
        return []
