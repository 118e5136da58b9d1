"""Whether the files of a project have changed: other programs work in its folder too."""

import os
from collections.abc import Iterable
from pathlib import Path

from propagate.io.masks.png import mask_files
from propagate.io.write.layout import (
    FRAMES,
    INCOMPLETE,
    KEPT,
    MARKER,
    MASKS,
    PROJECT,
    REFERENCES,
    REPORT,
    STATE,
)

# Of each file: the time of its last change, its size and its number; None: it is not there.
Stamp = tuple[int, int, int] | None
Stamps = tuple[tuple[str, Stamp], ...]


def stamp(file: Path) -> Stamp:
    """Say which version of a file is there. A folder's changes when a file in it is replaced."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def stamps_of_run(folder: Path) -> Stamps:
    """Say which version of a run is there.

    Args:
        folder: Of the run.
    """
    names = (REPORT, INCOMPLETE, MARKER, KEPT, STATE, FRAMES, MASKS)
    return _stamps(folder / name for name in names)


def stamps_of_labels(folder: Path) -> Stamps:
    """Say which version of what a person gave is there: references, names and colours.

    Args:
        folder: Of the run.
    """
    references = mask_files(folder / REFERENCES)
    return _stamps((folder / PROJECT, folder / REFERENCES, *references))


def _stamps(files: Iterable[Path]) -> Stamps:
    return tuple((file.name, stamp(file)) for file in files)
