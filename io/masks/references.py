"""Reference masks on disk: which mask belongs to which video and to which frame."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from propagate.errors import MaskError, few
from propagate.io.decode.image_folder import SUFFIXES, list_images, natural_key
from propagate.io.decode.source import Source
from propagate.io.decode.video import frame_names, name_of
from propagate.io.masks.annotations import read_annotations
from propagate.io.masks.files import ARRAYS, PICTURES, read_mask, read_masks
from propagate.io.masks.ids import join_objects
from propagate.io.masks.places import number_in, places_by_name, second_mask
from propagate.io.masks.png import mask_file
from propagate.io.masks.reading import MaskReading
from propagate.records import Mask

JSON = ".json"
# What file managers leave in folders.
_JUNK = ("thumbs.db", "desktop.ini")
# What people note beside masks.
_NOTES = (".csv", ".md", ".txt")
_OTHER_TOOLS = {".xml": "XML, as of CVAT or Pascal VOC", ".txt": "text, as of YOLO"}


class BadReferenceError(MaskError):
    """A text is no reference: it has another form, or names no frame."""


def read_references(
    path: str | Path,
    *,
    frame: int = 0,
    source: Source | None = None,
    reading: MaskReading | None = None,
) -> dict[int, Mask]:
    """Read the reference masks of a video: one mask, a folder of masks, or a JSON file.

    A mask of a folder belongs to the frame of its name, see `places_by_name`. If all files are
    black and white and their names can be no frames, each is one object of one frame.

    Args:
        path: A file that `read_mask` or `read_annotations` reads, or a folder of such masks.
        frame: The frame that a single mask belongs to, unless its name is that of another image of
            a source that is a folder.
        source: The video. The images of a folder have names, the frames of a video only numbers.
        reading: How masks are read; None: as `MaskReading()` says.

    Returns:
        The masks by frame number, in increasing order; their `notes` say what was decided.

    Raises:
        MaskError: If a mask cannot be used (see `read_mask`), the folder holds none, or a file that
            is none, or names do not say clearly which frame a mask belongs to.
    """
    path, reading = Path(path), reading or MaskReading()
    names = None if source is None else frame_names(source)
    if os.path.isdir(path):
        return _read_folder(path, frame, names, reading)
    if path.suffix.lower() == JSON:
        video = "" if source is None else name_of(source)
        return read_annotations(path, frame=frame, frame_names=names, video=video, reading=reading)
    _check_kind(path)
    mask = read_mask(path, reading)
    if names is not None and path.stem in names and names.index(path.stem) != frame:
        index = names.index(path.stem)
        note = f"belongs to the frame of its name, which is frame {index}, not {frame}"
        return {index: replace(mask, notes=(*mask.notes, note))}
    return {frame: mask}


def masks_of_sources(
    path: Path, sources: Sequence[str], *, reading: MaskReading | None = None
) -> list[dict[int, Mask]]:
    """Find the reference masks of each source.

    Args:
        path: For one source, whatever `read_references` reads. For any number of sources, a folder
            that holds `<name>.png` or a folder `<name>/` for each of their names.
        sources: Paths of videos or folders, or live addresses.
        reading: How masks are read.

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
        return [read_references(path, source=sources[0], reading=reading)]
    several = len(sources) > 1
    return [
        read_references(_of_source(path, name, several), source=source, reading=reading)
        for name, source in zip(names, sources, strict=True)
    ]


def add_references(
    masks: list[dict[int, Mask]],
    entries: Sequence[str],
    *,
    source: Source | None = None,
    reading: MaskReading | None = None,
) -> list[dict[int, Mask]]:
    """Add masks of given frames to those of the only source.

    Args:
        masks: For each source, its masks by frame number.
        entries: "120=b.png": a frame and its mask. The frame is its number, counted from 0, or the
            name of an image of a folder, with its suffix or without.
        source: The source, if its images have names.
        reading: How masks are read.

    Raises:
        BadReferenceError: An entry has another form, or names no image of the folder.
        MaskError: There are several sources, a frame gets a second mask, or a mask cannot be used.
    """
    if not entries:
        return masks
    if len(masks) > 1:
        raise MaskError(
            f"{entries[0]}: a reference of one source, but there are {len(masks)} sources",
            "put numbered masks into a folder for each source, and give the folder above as {mask}",
        )
    names = None if source is None else frame_names(source)
    files = {} if source is None or names is None else _frame_files(source, names)
    frames, paths, notes = [], [], []
    for entry in entries:
        place, _, path = entry.partition("=")
        place = files.get(place, place)
        named = names is not None and place in names
        if "://" in path:
            raise MaskError(f"{path}: is an address; a mask is a file on this machine")
        if not path or not (named or re.fullmatch("[0-9]+", place)):
            raise BadReferenceError(
                f"{entry!r}: not a reference",
                "write FRAME=MASK, the frame's number from 0 or the name of an image of the "
                "folder, and the mask's path, such as 120=b.png",
            )
        frame = names.index(place) if names is not None and named else int(place)
        is_other = place.isdecimal() and frame != int(place) < len(names or ())
        notes.append(f"{place} is the name of frame {frame}" if is_other else "")
        frames.append(frame)
        paths.append(path)
    joined = dict(masks[0])
    for frame, mask, note in zip(frames, read_masks(paths, reading), notes, strict=True):
        if frame in joined:
            raise second_mask(mask.source, frame, joined[frame].source)
        joined[frame] = replace(mask, notes=(*mask.notes, note)) if note else mask
    return [dict(sorted(joined.items()))]


def _frame_files(source: Source, names: Sequence[str]) -> dict[str, str]:
    """Return the name of each frame by that of its file."""
    path = Path(str(source))
    if os.path.isdir(path):
        return {file.name: file.stem for file in list_images(path)}
    return {f"{name}{suffix}": name for name in names for suffix in SUFFIXES}


def _of_source(path: Path, name: str, several: bool) -> Path:
    """Return the file or folder of a source's masks in a folder of masks."""
    if (path / name).is_dir():
        return path / name
    if mask_file(path, name).is_file():
        return mask_file(path, name)
    if several:
        raise MaskError(
            f"{path}: no mask for {name!r}", "add <name>.png or a folder <name>/ for each source"
        )
    return path


def _read_folder(
    path: Path, frame: int, names: Sequence[str] | None, reading: MaskReading
) -> dict[int, Mask]:
    files, others = _mask_files(path)
    stems = [file.stem for file in files]
    masks = read_masks(files, reading)
    if others:
        note = f"left out: {few(others, 5)}"
        masks[0] = replace(masks[0], notes=(*masks[0].notes, note))
    if _are_objects(path, stems, masks, names, reading):
        return {frame: _joined(path, stems, masks)}
    try:
        places = places_by_name(stems, names)
    except MaskError as error:
        raise MaskError(f"{path}: {error.message}", error.hint) from error
    found = {
        place.index: replace(mask, notes=(*mask.notes, *([place.note] if place.note else [])))
        for place, mask in zip(places, masks, strict=True)
    }
    return dict(sorted(found.items()))


def _mask_files(folder: Path) -> tuple[list[Path], list[str]]:
    """List the masks of a folder in natural order, and what is no mask but may lie there.

    Raises:
        MaskError: It holds no mask, or a file that may be meant as one and cannot be read.
    """
    entries = [
        entry
        for entry in sorted(folder.iterdir(), key=natural_key)
        if not entry.name.startswith(".") and entry.name.casefold() not in _JUNK
    ]
    files = [entry for entry in entries if entry.suffix.lower() in (*PICTURES, *ARRAYS)]
    if not files:
        raise MaskError(
            f"{folder}: no mask in this folder",
            "put masks there that are named after their frames, such as 00012.png",
        )
    others = [entry for entry in entries if entry not in files]
    for entry in others:
        if entry.suffix.lower() not in _NOTES and entry.is_file():
            _check_kind(entry)
            raise MaskError(f"{entry}: is among masks and is none", "move it out of the folder")
    return files, [entry.name for entry in others]


def _check_kind(path: Path) -> None:
    """Refuse formats of other annotation tools by name, and JPEGs before they are decoded.

    Raises:
        MaskError: It is one of these.
    """
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        raise MaskError(
            f"{path}: a JPEG, which changes the ids it stores", "save the mask as a PNG"
        )
    if suffix in _OTHER_TOOLS and path.is_file():
        raise MaskError(
            f"{path}: {_OTHER_TOOLS[suffix]}, is not read",
            "export PNG masks, COCO or YouTube-VIS",
        )


def _are_objects(
    path: Path,
    stems: Sequence[str],
    masks: Sequence[Mask],
    names: Sequence[str] | None,
    reading: MaskReading,
) -> bool:
    """Decide whether the masks of a folder are the objects of one frame.

    Raises:
        MaskError: Names and pixels allow both.
    """
    if reading.masks_are != "auto":
        return reading.masks_are == "objects"
    is_named = any(stem in (names or ()) for stem in stems)
    may_be_ids = _are_ids(stems)
    if len(masks) < 2 or not all(mask.binary for mask in masks):
        return False
    if not may_be_ids and (is_named or all(stem.isdecimal() for stem in stems)):
        return False
    if _overlap(masks):
        return False
    numbers = [number_in(stem) for stem in stems]
    known = [number for number in numbers if number is not None]
    if not known or len(set(known)) == 1:
        return True  # such names are no frames
    if None in numbers or sorted(known) != list(range(min(known), min(known) + len(known))):
        return False
    if min(known) > 1:
        return False
    raise MaskError(
        f"{path}: {len(masks)} black-and-white masks, {stems[0]}, {stems[1]}, ...: objects of one "
        f"frame, or masks of the frames {few([str(number) for number in known], 4)}",
        "pass {masks_are=objects} or {masks_are=frames}",
    )


def _are_ids(stems: Sequence[str]) -> bool:
    """Say whether names are the ids 1, 2, ...; those of frames have leading zeros, or a 0."""
    width = max(2, len(str(len(stems))))
    return all(re.fullmatch("[0-9]+", stem) and len(stem) <= width for stem in stems) and (
        sorted(map(int, stems)) == list(range(1, len(stems) + 1))
    )


def _overlap(masks: Sequence[Mask]) -> bool:
    shape = masks[0].ids.shape
    if any(mask.ids.shape != shape for mask in masks):
        return True
    covered = np.zeros(shape, np.uint16)
    for mask in masks:
        covered += mask.ids == 1
    return bool((covered > 1).any())


def _common_start(stems: Sequence[str]) -> str:
    """Return what all names begin with; of a single name, nothing."""
    first, last = min(stems), max(stems)
    count = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return first[:count]


def _joined(path: Path, stems: Sequence[str], masks: Sequence[Mask]) -> Mask:
    """Make one mask of the objects of one frame, one from each file."""
    for mask in masks:
        if mask.object_ids not in ((1,), ()):
            raise MaskError(
                f"{mask.source}: several objects", "pass {masks_are=frames}, or save one in a file"
            )
    layers = {number: mask.ids == 1 for number, mask in enumerate(masks, 1)}
    files = {number: mask.source for number, mask in enumerate(masks, 1)}
    ids = join_objects(layers, str(path), files)
    prefix = _common_start(stems)
    names = {number: stem.removeprefix(prefix) or stem for number, stem in enumerate(stems, 1)}
    listed = ", ".join(f"{number} is {stem}" for number, stem in enumerate(stems, 1))
    note = f"{len(masks)} black-and-white files, one for each object: {listed}"
    return Mask(ids, source=str(path), notes=(note,), names=names)
