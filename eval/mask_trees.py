"""Folders of masks, with one subfolder for each sequence, in any of several layouts.

The layout is detected from the content of the subfolders:

    <sequence>/<frame>.png              object ids as pixel values: DAVIS, YouTube-VOS, MOSE, LVOS
    <sequence>/<object id>/<frame>.png  one object each, any value but 0: SA-V
    <sequence>/masks/<frame>.png        a run of this program
    <sequence>/masks.json               a run that wrote run lengths and no PNGs
    <sequence>/refined/<frame>.png      the refined masks of a run, read only on request

Hidden files and files other than PNGs are ignored. Nothing is guessed: a tree with two layouts, an
unfinished run, or a mask with other content than ids is an error that names the file. One frame is
decoded at a time. The run lengths of a `masks.json` stay in memory while its frames are read.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from propagate.errors import MaskError
from propagate.eval.labels import Labels, UnusableMaskError, no_such_mask, read_ids, size_text
from propagate.eval.near_names import some_mask
from propagate.io.decode.image_folder import text_and_numbers
from propagate.io.masks.masks_json import MasksJson, read_masks_json
from propagate.io.masks.png import SUFFIX, mask_file
from propagate.io.write.layout import INCOMPLETE, MARKER, MASKS, RUN_LENGTHS
from propagate.io.write.layout import REFINED as REFINED_MASKS


@dataclass(frozen=True, slots=True)
class MaskTree:
    """Masks of many sequences, read one frame at a time. May be sent to another process.

    Attributes:
        root: The folder.
        layout: A pattern of paths: `<sequence>/<frame>.png`.
        sequences: The names of the subfolders, sorted; some may hold no mask.
        limits: By sequence, the only frames to look at. A sequence that is not named has no limit.
    """

    root: Path
    layout: str
    sequences: tuple[str, ...]
    limits: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def frames(self, sequence: str) -> tuple[str, ...]:
        """Name the frames of a sequence, in order; none if it holds no mask.

        The names are sorted as text, as in davis2017-evaluation. Names that would be sorted
        otherwise by their numbers (2 and 10) are refused: sorted as text, the first and last frame
        are not those of the video; sorted by number, the score is not the official one.

        Raises:
            UnusableMaskError: If there is no such sequence, its run is not finished, the order of
                its frames is not clear, or its `masks.json` cannot be read.
        """
        folder = self.root / sequence
        names = tuple(sorted(_LAYOUTS[self.layout].frames(folder)))
        _check_order(folder, names)
        limit = self.limits.get(sequence)
        return names if limit is None else tuple(name for name in names if name in limit)

    def where(self, sequence: str, frame: str) -> Path:
        """Name the mask of a frame for a message, whether it exists or not.

        With one folder per object it is `<sequence>/*/<frame>.png`; in a JSON file it is
        `<sequence>/masks.json:<frame>`.
        """
        return _LAYOUTS[self.layout].where(self.root / sequence, frame)

    def read(self, sequence: str, frame: str) -> Labels:
        """Read the objects of one frame.

        Raises:
            UnusableMaskError: If the mask is missing or broken, or has other content than ids.
        """
        return _LAYOUTS[self.layout].read(self.root / sequence, frame)


def open_mask_tree(
    root: str | Path, *, what: str = "predictions", refined: bool = False
) -> MaskTree:
    """Look through a folder of masks and detect its layout; no mask is read yet.

    Args:
        root: The folder that holds one folder per sequence.
        what: What the masks are, for messages.
        refined: Read the refined masks of runs, `<sequence>/refined/<frame>.png`.

    Raises:
        UnusableMaskError: If there is no such folder, or it holds no masks, or masks in two
            layouts.
    """
    root = Path(root)
    if not root.is_dir():
        raise UnusableMaskError(root, f"no such folder of {what}", "check the path")
    sequences = tuple(entry.name for entry in _entries(root) if entry.is_dir())
    examples: dict[str, str] = {}
    for sequence in sequences:
        layouts = [REFINED] if refined else _layouts_of(root / sequence)
        for layout in layouts:
            examples.setdefault(layout, sequence)
    # The folder of a single run looks like a tree of one sequence called "masks".
    if not examples or sequences == (MASKS,):
        raise _no_sequences(root, what)
    if len(examples) > 1:
        found = ", ".join(f"{layout} of {sequence}" for layout, sequence in examples.items())
        raise UnusableMaskError(root, f"{what} in two layouts ({found})", "keep one of them here")
    return MaskTree(root, next(iter(examples)), sequences)


def _no_sequences(root: Path, what: str) -> UnusableMaskError:
    if _layouts_of(root):
        found = f"the {what} of one sequence, not a folder of sequences"
        return UnusableMaskError(root, found, "give the folder above it")
    hint = f"give a folder of {' or '.join(_LAYOUTS)}"
    there = some_mask(root)
    found = f"no {what} in this folder" + (f"; there is {there}" if there else "")
    return UnusableMaskError(root, found, hint)


# --- what lies on the disk -----------------------------------------------------------------------


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder by name, without hidden files and what macOS adds to archives."""
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name != "__MACOSX"]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UnusableMaskError(folder, f"cannot be listed ({reason})", "check the path") from error
    return sorted(visible, key=lambda entry: entry.name)


def _folders(parent: Path) -> dict[str, Path]:
    return {entry.name: Path(entry.path) for entry in _entries(parent) if entry.is_dir()}


def _stems(folder: Path) -> list[str]:
    """Name the PNGs of a folder."""
    return [e.name.removesuffix(SUFFIX) for e in _entries(folder) if e.name.endswith(SUFFIX)]


def _layouts_of(folder: Path) -> list[str]:
    """List the layouts in which the folder of a sequence holds masks."""
    found: list[str] = []
    if _stems(folder):
        found.append(_INDEX)
    folders = _folders(folder)
    if any(_stems(path) for name, path in folders.items() if name.isdecimal()):
        found.append(_OBJECTS)
    if MASKS in folders and _stems(folders[MASKS]):
        found.append(_RUN)
    if not found and (folder / RUN_LENGTHS).is_file():
        found.append(_RUN_RLE)
    return found


def _check_order(folder: Path, names: tuple[str, ...]) -> None:
    by_number = sorted(names, key=lambda name: (text_and_numbers(name), name))
    for name, other in zip(names, by_number, strict=True):
        if name != other:
            found = f"{name}.png comes before {other}.png as text, but after it by its number"
            hint = "pad the numbers in truth and predictions (00002, 00010)"
            raise UnusableMaskError(folder, found, hint)


# --- one folder per object -----------------------------------------------------------------------


def _object_folders(folder: Path) -> dict[int, Path]:
    """Find the folder of each object by its id."""
    folders: dict[int, Path] = {}
    for name, path in _folders(folder).items():
        if not name.isdecimal():
            continue
        object_id = int(name)
        if object_id in folders:
            found = f"a second folder of object {object_id}, besides {folders[object_id].name}"
            raise UnusableMaskError(path, found, "keep one of them")
        folders[object_id] = path
    return folders


def _frames_of_objects(folder: Path) -> set[str]:
    for name, path in _folders(folder).items():
        if not name.isdecimal() and _stems(path):
            found = "a folder of masks whose name is not an object id"
            raise UnusableMaskError(path, found, "rename it (001), or move it away")
    return {name for path in _object_folders(folder).values() for name in _stems(path)}


def _where_objects(folder: Path, frame: str) -> Path:
    return mask_file(folder / "*", frame)


def _read_objects(folder: Path, frame: str) -> Labels:
    """Read the masks of all objects. An absent object needs a file too, with an empty mask."""
    masks: dict[int, np.ndarray] = {}
    shape: tuple[int, ...] = ()
    for object_id, object_folder in _object_folders(folder).items():
        path = mask_file(object_folder, frame)
        ids = read_ids(path)
        mask, largest = ids > 0, ids.max()
        if np.count_nonzero(mask) > np.count_nonzero(ids == largest):
            found = f"values {ids[mask].min()} and {largest} in the mask of one object"
            raise UnusableMaskError(path, found, "use 0 and one other value")
        shape = shape or ids.shape
        if ids.shape != shape:
            found = f"{size_text(ids.shape)} pixels, the objects before it {size_text(shape)}"
            raise UnusableMaskError(path, found, "write all objects at one size")
        masks[object_id] = mask
    if not masks:
        raise no_such_mask(_where_objects(folder, frame))
    return Labels.of_masks(masks, shape)


# --- runs of this program ------------------------------------------------------------------------


def _check_finished(folder: Path) -> None:
    # A run removes its marker when its report is written.
    if (folder / INCOMPLETE).exists() or (folder / MARKER).exists():
        raise UnusableMaskError(folder, "an unfinished run", "run it again to its end")


# --- run lengths of a run ------------------------------------------------------------------------


def _frames_of_run_lengths(folder: Path) -> Collection[str]:
    _check_finished(folder)
    return _run_lengths(folder).counts if (folder / RUN_LENGTHS).exists() else ()


def _where_run_lengths(folder: Path, frame: str) -> Path:
    return folder / f"{RUN_LENGTHS}:{frame}"


def _read_frame_of_run_lengths(folder: Path, frame: str) -> Labels:
    content = _run_lengths(folder)
    path = _where_run_lengths(folder, frame)
    if frame not in content.counts:
        raise no_such_mask(path)
    try:
        return Labels.of_masks(content.masks(frame), content.shape)
    except ValueError as error:
        raise UnusableMaskError(path, str(error), "run it again") from error


def _run_lengths(folder: Path) -> MasksJson:
    path = folder / RUN_LENGTHS
    try:
        status = path.stat() if path.exists() else None
        return _read_once(path, status and (status.st_mtime_ns, status.st_size))
    except MaskError as error:
        raise UnusableMaskError(
            path, error.message.removeprefix(f"{path}: "), error.hint
        ) from error


# Two files, because truth and predictions are read in turns.
@lru_cache(maxsize=2)
def _read_once(path: Path, version: tuple[int, int] | None) -> MasksJson:
    """Read a file once for all its frames; its time and size distinguish it from a later one."""
    return read_masks_json(path)


# --- the layouts ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the masks of one sequence are stored; each function takes the sequence's folder first."""

    frames: Callable[[Path], Iterable[str]]
    where: Callable[[Path, str], Path]
    read: Callable[[Path, str], Labels]


def _index_pngs(run_folder: str = "") -> _Layout:
    """Make the layout of one PNG of ids per frame, in a folder of a run or in none."""

    def frames(folder: Path) -> list[str]:
        if not run_folder:
            return _stems(folder)
        _check_finished(folder)
        return _stems(folder / run_folder) if (folder / run_folder).is_dir() else []

    def where(folder: Path, frame: str) -> Path:
        return mask_file(folder / run_folder, frame)

    def read(folder: Path, frame: str) -> Labels:
        return Labels.of_ids(read_ids(where(folder, frame)))

    return _Layout(frames, where, read)


_INDEX = "<sequence>/<frame>.png"
_OBJECTS = "<sequence>/<object id>/<frame>.png"
_RUN = "<sequence>/masks/<frame>.png"
_RUN_RLE = "<sequence>/masks.json"
REFINED = f"<sequence>/{REFINED_MASKS}/<frame>.png"
_LAYOUTS = {
    _INDEX: _index_pngs(),
    _OBJECTS: _Layout(_frames_of_objects, _where_objects, _read_objects),
    _RUN: _index_pngs(MASKS),
    _RUN_RLE: _Layout(_frames_of_run_lengths, _where_run_lengths, _read_frame_of_run_lengths),
    # Read only on request: scores are those of the masks without a refiner.
    REFINED: _index_pngs(REFINED_MASKS),
}
