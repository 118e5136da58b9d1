"""A mask as an array of object ids: what is accepted and what is refused.

H, W are the rows and columns of the frame. The value of a pixel is an id: 0 background, 1..254
objects, 255 void (neither object nor background).
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageFilter

from propagate.errors import MaskError
from propagate.records import BACKGROUND_ID, MAX_OBJECT_ID, VOID_ID, Mask


def checksum(ids: np.ndarray) -> str:
    """Return the SHA-256 of ids, (H, W) uint8, by which reports name a reference."""
    return hashlib.sha256(ids.tobytes()).hexdigest()


def mask_from_array(array: np.ndarray, source: str = "mask") -> Mask:
    """Make the mask of one frame from an array of ids.

    A mask with no values but 0 and 255, or a mask of booleans, is black and white: one object with
    id 1. In any other mask 255 is void.

    Args:
        array: (H, W) bool, or any integer dtype with values 0..255. It is copied.
        source: Where the mask came from, for messages.

    Returns:
        The mask; `binary` if it was black and white. It may have no object.

    Raises:
        MaskError: If the mask holds an id outside 0..255, or soft edges.
        TypeError: If the array is neither bool nor integer.
        ValueError: If it is not (H, W).
    """
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"mask: bool or integer ids, not {array.dtype}; threshold it first")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"mask: (H, W), not {array.shape}")
    if array.dtype == bool:
        ids, binary = array.astype(np.uint8), True
    else:
        ids, binary = _checked_ids(array, source)
    if ids.min() == VOID_ID:
        raise MaskError(f"{source}: every pixel is void (255)", "paint the background 0")
    return Mask(ids=ids, binary=binary, source=source)


def whole_ids(values: np.ndarray, source: str, hint: str) -> np.ndarray:
    """Convert values of any kind of number to ids of 8 bits.

    Args:
        values: (H, W), integers or floats.
        source: Where they came from, for messages.
        hint: What to do if a value is no id.

    Returns:
        (H, W) uint8.

    Raises:
        MaskError: A value is not one of the whole numbers 0..255.
    """
    wrong = values[
        ~((values >= BACKGROUND_ID) & (values <= VOID_ID) & (values == np.round(values)))
    ]
    if wrong.size:
        raise MaskError(
            f"{source}: holds the value {wrong.max():g}, but ids are whole numbers, "
            f"1..{MAX_OBJECT_ID}",
            hint,
        )
    return values.astype(np.uint8)


def join_objects(
    objects: Mapping[int, np.ndarray], source: str, names: Mapping[int, str] | None = None
) -> np.ndarray:
    """Make a map of ids of one mask for each object.

    Args:
        objects: Id -> (H, W) bool; at least one.
        source: Where they came from, for messages.
        names: Id -> what messages call the object; else "object 3".

    Returns:
        (H, W) uint8.

    Raises:
        MaskError: There are too many, or they differ in size or overlap.
    """
    if len(objects) > MAX_OBJECT_ID:
        raise MaskError(f"{source}: {len(objects)} objects, at most {MAX_OBJECT_ID} are possible")
    called = names or {object_id: f"object {object_id}" for object_id in objects}
    height, width = next(iter(objects.values())).shape
    ids = np.zeros((height, width), np.uint8)
    for object_id, pixels in objects.items():
        if pixels.shape != ids.shape:
            raise MaskError(
                f"{source}: {called[object_id]} is {pixels.shape[1]}x{pixels.shape[0]}, the others "
                f"are {width}x{height}"
            )
        if taken := int(ids[pixels].max(initial=0)):
            raise MaskError(
                f"{source}: {called[object_id]} overlaps {called[taken]}",
                "give each pixel to one object",
            )
        ids[pixels] = object_id
    return ids


def check_object(mask: Mask) -> None:
    """Refuse a mask without objects where one is needed.

    Raises:
        MaskError: It has none.
    """
    if not mask.object_ids:
        raise MaskError(f"{mask.source}: no object in this mask", "label at least one pixel 1..254")


def check_size(mask: Mask, height: int, width: int) -> None:
    """Refuse a mask that does not have the size of its frame.

    Args:
        mask: Any mask.
        height: Rows of the frame.
        width: Columns of the frame.

    Raises:
        MaskError: If the sizes differ.
    """
    mask_height, mask_width = mask.ids.shape
    if (mask_height, mask_width) != (height, width):
        turned = (mask_height, mask_width) == (width, height)
        raise MaskError(
            f"{mask.source}: the mask is {mask_width}x{mask_height}, the frame {width}x{height}",
            "turn the mask by 90 degrees: frames are read upright, as a player shows them"
            if turned
            else f"resize the mask to {width}x{height} by nearest neighbour, or use the frame it "
            "fits",
        )


def check_ids(ids: np.ndarray) -> None:
    """Check an array of ids that is to be written.

    Raises:
        ValueError: If it is not (H, W) uint8.
    """
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise ValueError(f"ids: (H, W) uint8, not {ids.shape} {ids.dtype}")


def _checked_ids(array: np.ndarray, source: str) -> tuple[np.ndarray, bool]:
    """Return the ids as uint8, and whether the mask was black and white."""
    lowest, highest = int(array.min()), int(array.max())
    if lowest < BACKGROUND_ID or highest > VOID_ID:
        wrong = lowest if lowest < BACKGROUND_ID else highest
        raise MaskError(
            f"{source}: holds the id {wrong}, but ids of objects are 1..{MAX_OBJECT_ID}",
            "renumber the objects, or split them over several runs",
        )
    ids = array.astype(np.uint8)
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    if present.tolist() == [BACKGROUND_ID, VOID_ID]:
        return ids // VOID_ID, True
    if _is_soft(ids):
        raise MaskError(
            f"{source}: a soft mask, {len(present)} grey levels with blurred edges",
            "threshold it, so that every pixel holds one object id, or 0 and 255 for one object",
        )
    return ids, False


def _is_soft(ids: np.ndarray) -> bool:
    """Distinguish grey levels of blurred edges from ids, however many ids there are.

    The grey values of a blurred edge lie on a slope: within two pixels of such a pixel there is
    both a lower and a higher value. Void (255) counts as higher only if both it and a lower value
    touch the pixel, because a small object may lie in a ring of void. An object has an inside where
    all values are its own, and most of its border is with the background alone. So a mask is soft
    if more than half of its values (except 0 and 255) have more than half of their pixels on such a
    slope. A mask without 255 must have three such values, because two thin objects may well lie on
    the rim of a third.

    No mask of DAVIS, YouTube-VOS or a grid of 100 objects of 4x4 pixels is soft by this rule;
    every smoothed, resampled or JPEG-compressed black-and-white mask that was tried is.
    """
    pixels = np.bincount(ids.ravel(), minlength=256)
    values = np.count_nonzero(pixels[1:VOID_ID])
    enough = 1 if pixels[VOID_ID] else 3
    if values < enough:
        return False

    def extremes(values: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        image = Image.fromarray(values)
        lowest, highest = ImageFilter.MinFilter(side), ImageFilter.MaxFilter(side)
        return np.asarray(image.filter(lowest)), np.asarray(image.filter(highest))

    known = np.where(ids == VOID_ID, BACKGROUND_ID, ids)
    lowest, touching = extremes(ids, 3)
    on_slope = (lowest < ids) & (ids < touching)
    lowest, _ = extremes(ids, 5)
    _, highest = extremes(known, 5)
    on_slope |= (lowest < ids) & (ids < highest)
    pixels_on_slope = np.bincount(ids[on_slope & (ids < VOID_ID)], minlength=256)
    slope_values = np.count_nonzero((2 * pixels_on_slope > pixels)[1:VOID_ID])
    return bool(slope_values >= enough and 2 * slope_values > values)
