"""Files of masks, each of one frame: pictures and NumPy arrays."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import TOO_LARGE_HINT, TooLargeError, open_image, too_large
from propagate.io.masks.ids import join_objects, mask_from_array, whole_ids
from propagate.io.masks.picture import (
    BLACK,
    SAVE_AS_INDEX,
    Pixels,
    check_flat,
    colour_name,
    pixels_of,
)
from propagate.io.masks.reading import MaskReading, Value255
from propagate.records import MAX_OBJECT_ID, VOID_ID, Mask

# Formats that keep pixel values as they are.
PICTURES = (".bmp", ".gif", ".png", ".tif", ".tiff", ".webp")
ARRAYS = (".npy", ".npz")


def read_mask(path: str | Path, reading: MaskReading | None = None) -> Mask:
    """Read the mask of one frame.

    Args:
        path: A picture in a lossless format, or a NumPy array (.npy, or .npz with one array) of
            (H, W) ids or booleans, or of (N, H, W) booleans, a layer for each object 1..N.
        reading: How pixel values are read; None: as `MaskReading()` says.

    Values of grey and palette pictures, of up to 16 bits, are ids: 0 is the background, 1..254 are
    objects, 255 is void. A picture of 0 and 255 alone is one object, id 1. In a picture of few flat
    colours black is the background; DAVIS' colours have DAVIS' ids, other colours get 1, 2, ... in
    decreasing order of (R, G, B). The colours of a palette count only if its index 0 is not black.
    The EXIF orientation is applied.

    Returns:
        The mask; its `source` is the path, and `notes` say how it was understood. It may have no
        object, which says that none is visible.

    Raises:
        MaskError: If there is no such file, it is too large, or its pixels are not clearly ids or
            flat colours: JPEG, soft edges, dithering, a photograph, translucent pixels.
    """
    return read_masks([path], reading)[0]


def read_masks(paths: Iterable[str | Path], reading: MaskReading | None = None) -> list[Mask]:
    """Read masks like `read_mask`; the same colour is the same object in all of them."""
    reading = reading or MaskReading()
    pictures = [read_pixels(path, reading) for path in paths]
    return _masks_of(pictures, reading)


def mask_of_image(image: Image.Image, source: str) -> Mask:
    """Make a mask of a decoded image, as `read_mask` reads it from a file."""
    reading = MaskReading()
    return _masks_of([pixels_of(image, source, reading)], reading)[0]


def read_pixels(path: str | Path, reading: MaskReading) -> Pixels:
    """Read a file to values or colours. See `read_mask` for what is refused."""
    path = Path(path)
    if not os.path.exists(path):
        raise MaskError(f"{path}: no such mask", "check the path")
    if path.suffix.lower() in ARRAYS:
        return _read_array(path, reading)
    try:
        with open_image(path, reading.max_pixels) as image:
            image.load()
            if image.format == "JPEG":
                raise MaskError(f"{path}: a JPEG, which changes the ids it stores", SAVE_AS_INDEX)
            return pixels_of(image, str(path), reading)
    except TooLargeError as error:
        raise MaskError(f"{path}: {error}", TOO_LARGE_HINT) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MaskError(f"{path}: no readable image ({error})", SAVE_AS_INDEX) from error


def _read_array(path: Path, reading: MaskReading) -> Pixels:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            with loaded:
                if len(loaded.files) != 1:
                    names = ", ".join(loaded.files[:8]) or "none"
                    raise MaskError(
                        f"{path}: holds {len(loaded.files)} arrays ({names})", "give one array"
                    )
                array = loaded[loaded.files[0]]
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise MaskError(f"{path}: no readable array ({error})", "write it by numpy.save") from error
    if array.dtype == bool and array.ndim == 3 and _has_objects_last(array.shape):
        raise MaskError(
            f"{path}: an array of shape {array.shape}, whose last axis seems to be the objects",
            "save (N, H, W) booleans: numpy.moveaxis(array, 2, 0)",
        )
    if array.dtype == bool and array.ndim == 3 and array.size:
        array = join_objects(dict(enumerate(array, start=1)), str(path))
    if array.ndim != 2 or not array.size:
        raise MaskError(
            f"{path}: an array of shape {array.shape}", "save (H, W) ids, or (N, H, W) booleans"
        )
    if array.size > reading.max_pixels:
        height, width = array.shape
        raise MaskError(f"{path}: {too_large(width, height, reading.max_pixels)}", TOO_LARGE_HINT)
    if array.dtype != bool:
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise MaskError(f"{path}: an array of {array.dtype}", "save integers or booleans")
        array = whole_ids(array, str(path), "threshold scores, or renumber the objects")
    return Pixels(str(path), array)


def _has_objects_last(shape: tuple[int, ...]) -> bool:
    """Say whether the last of three axes is by far the shortest, as that of objects is."""
    return 0 < 4 * shape[2] <= min(shape[:2])


def _masks_of(pictures: Sequence[Pixels], reading: MaskReading) -> list[Mask]:
    """Make masks; colours get their ids from all pictures together."""
    known: set[int] = set()
    for picture in pictures:
        if picture.colours is not None:
            known |= set(np.unique(picture.colours).tolist()) - {BLACK}
    if len(known) > MAX_OBJECT_ID:
        raise MaskError(f"{len(known)} colours in all masks, at most {MAX_OBJECT_ID} are possible")
    ids = {colour: number for number, colour in enumerate(sorted(known, reverse=True), 1)}
    masks = []
    for picture in pictures:
        if picture.colours is None:
            masks.append(_mask_of_values(picture, reading))  # refuses soft edges
            check_flat(picture)
            continue
        check_flat(picture)
        used = np.unique(picture.colours)
        table = np.array([ids.get(int(colour), 0) for colour in used], np.uint8)
        named = ", ".join(
            f"{colour_name(colour)} is object {number}"
            for colour, number in ids.items()
            if colour in used
        )
        masks.append(
            Mask(
                table[np.searchsorted(used, picture.colours)],
                source=picture.source,
                notes=(*picture.notes, f"colours: {named}" if named else "no colour but black"),
            )
        )
    return masks


def _mask_of_values(pixels: Pixels, reading: MaskReading) -> Mask:
    values, notes, source = pixels.values, list(pixels.notes), pixels.source
    assert values is not None
    areas = np.bincount(values.ravel(), minlength=VOID_ID + 1)
    present = set(np.flatnonzero(areas).tolist())
    is_black_and_white = present <= {0, VOID_ID}
    if VOID_ID in present and reading.value_255 != "void":
        values, said = _with_255_as(reading.value_255, values, 1 if is_black_and_white else None)
        notes += said
    elif VOID_ID in present and not is_black_and_white:
        if 0 not in present:
            raise MaskError(
                f"{source}: nothing is background: 255 is void, on {areas[VOID_ID]} of "
                f"{values.size} pixels",
                "pass {value_255=background} if 255 is the background",
            )
        notes.append(
            f"255 is void: {areas[VOID_ID]} pixels belong to no object; pass {{value_255=object}} "
            "if they are one"
        )
    mask = mask_from_array(values, source)
    if mask.binary:
        notes.append("black and white: one object, id 1")
    return replace(mask, notes=tuple(notes))


def _with_255_as(
    meaning: Value255, values: np.ndarray, object_id: int | None
) -> tuple[np.ndarray, list[str]]:
    """Make 255 an object, or the background and 0 an object, in (H, W) uint8 values.

    Args:
        meaning: "object" or "background".
        values: The values.
        object_id: Of the new object; None: the largest that is free.

    Returns:
        The ids, and what to say of them.
    """
    if object_id is None:
        object_id = next(i for i in range(MAX_OBJECT_ID, 0, -1) if not (values == i).any())
    moved = VOID_ID if meaning == "object" else 0
    ids, notes = np.where(values == moved, np.uint8(object_id), values), []
    if meaning == "background":
        ids = np.where(values == VOID_ID, np.uint8(0), ids)
        notes.append("255 is the background")
    if (values == moved).any():
        notes.append(f"{moved} is object {object_id}")
    return ids, notes
