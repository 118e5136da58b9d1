"""Masks as images: read from index PNGs, written as palette PNGs.

H, W are the rows and columns of the frame.
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import (
    MAX_PIXELS,
    TOO_LARGE_HINT,
    TooLargeError,
    open_image,
)
from propagate.io.masks.ids import check_ids, mask_from_array
from propagate.io.write.encode import encode_image
from propagate.io.write.files import write_atomically
from propagate.records import MAX_OBJECT_ID, VOID_ID, Mask

SUFFIX = ".png"
# Masks have large areas of one id. Here zlib's run-length strategy takes a third of the time of its
# default strategy, and files are a quarter larger.
_ZLIB_RLE = 3
_SAVE_AS_INDEX = "save it as an 8-bit index (palette) or grey PNG whose values are object ids"
_RGB_WEIGHTS = np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)


def mask_file(folder: Path, frame: str) -> Path:
    """Return the path of the mask of a frame in a folder of masks."""
    return folder / f"{frame}{SUFFIX}"


def read_mask(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Mask:
    """Read the mask of one frame from an image of mode P, L, LA or 1.

    Pixel values are ids, as in `mask_from_array`. The colours of a palette and an alpha channel
    have no meaning.

    Args:
        path: A PNG, or an image in another lossless format that Pillow reads.
        max_pixels: The most pixels the image may have.

    Returns:
        The mask; its `source` is the path.

    Raises:
        MaskError: If there is no such image, it is too large, its pixel values are not ids (RGB,
            16-bit, JPEG), or `mask_from_array` refuses it.
    """
    return mask_from_array(read_ids(path, max_pixels=max_pixels), source=str(path))


def read_ids(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, from_data_set: bool = False
) -> np.ndarray:
    """Read the pixel values of an image as object ids. There may be no object.

    Args:
        path: The image; see `read_mask`.
        max_pixels: The most pixels the image may have.
        from_data_set: Accept also what published data sets hold: values of 16 bits up to 255, and
            RGB images in which every colour is that of an id in the DAVIS palette.

    Returns:
        (H, W) uint8; bool for a black-and-white image of one bit per pixel.

    Raises:
        MaskError: If there is no such image, it is too large, or its pixel values are not ids.
    """
    return ids_of_image(_decode(Path(path), max_pixels), str(path), from_data_set=from_data_set)


def ids_of_image(image: Image.Image, source: str, *, from_data_set: bool = False) -> np.ndarray:
    """Return the pixel values of a decoded image as object ids. See `read_ids`.

    Args:
        image: The image.
        source: Where it came from, for messages.
        from_data_set: See `read_ids`.

    Raises:
        MaskError: Its pixel values are not ids.
    """
    mode = image.mode
    if mode == "LA":  # DAVIS-2016 has one such file, bear/00077.png.
        image = image.getchannel("L")
    elif mode == "F" or (mode.startswith("I") and not from_data_set):
        raise MaskError(f"{source}: a mask of 16 bits or more (mode {mode})", _SAVE_AS_INDEX)
    elif mode in ("RGB", "RGBA") and from_data_set:
        return _ids_of_colours(image, source)
    elif mode not in ("1", "L", "P") and not mode.startswith("I"):
        raise _colours_instead_of_ids(source, mode)
    values = np.asarray(image)
    if values.dtype in (np.uint8, bool):
        return values
    if values.min() < 0 or values.max() > VOID_ID:
        wrong = values.max() if values.max() > VOID_ID else values.min()
        raise MaskError(f"{source}: id {wrong}", f"use ids of 8 bits, 1..{MAX_OBJECT_ID}")
    return values.astype(np.uint8)


def _decode(path: Path, max_pixels: int) -> Image.Image:
    """Decode an image in a format that keeps pixel values as they are."""
    if not os.path.exists(path):
        raise MaskError(f"{path}: no such mask", "check the path")
    try:
        with open_image(path, max_pixels) as image:
            image.load()
    except TooLargeError as error:
        raise MaskError(f"{path}: {error}", TOO_LARGE_HINT) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MaskError(f"{path}: no readable image ({error})", _SAVE_AS_INDEX) from error
    if image.format == "JPEG":
        raise MaskError(f"{path}: a JPEG, which changes the ids it stores", _SAVE_AS_INDEX)
    return image


def _ids_of_colours(image: Image.Image, source: str) -> np.ndarray:
    """Read ids from RGB colours, each of which must be the DAVIS colour of one id.

    An image of greys only is refused: (64, 64, 64) is the colour of id 56, but it may as well be a
    grey value of 64.
    """
    unclear = _colours_instead_of_ids(source, image.mode)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        raise unclear
    colours = np.asarray(image)[..., :3]
    if colours.any() and (colours == colours[..., :1]).all():
        raise unclear
    known = palette() @ _RGB_WEIGHTS  # (256,), one number per colour
    seen = colours @ _RGB_WEIGHTS  # (H, W)
    order = np.argsort(known)
    nearest = np.searchsorted(known, seen, sorter=order).clip(max=order.size - 1)
    ids = order[nearest].astype(np.uint8)
    if (known[ids] != seen).any():
        raise unclear
    return ids


def _colours_instead_of_ids(source: str, mode: str) -> MaskError:
    return MaskError(f"{source}: colours instead of ids (mode {mode})", _SAVE_AS_INDEX)


@cache
def palette() -> np.ndarray:
    """Compute the PASCAL VOC palette, which DAVIS and YouTube-VOS masks use.

    The bits of an id go to red, green and blue in turn, three at a time, and fill each colour from
    its most significant bit down.

    Returns:
        (256, 3) uint8, RGB by id; read-only.
    """
    ids = np.arange(256, dtype=np.uint8)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    colours.setflags(write=False)
    return colours


def write_mask(path: str | Path, ids: np.ndarray) -> None:
    """Write a palette PNG in the style of DAVIS; it appears complete or not at all.

    Args:
        path: The PNG, in a folder that exists. An existing file is replaced.
        ids: (H, W) uint8.

    Raises:
        OutputError: If it cannot be written.
        ValueError: If `ids` is not (H, W) uint8.
    """
    check_ids(ids)
    image = Image.fromarray(ids)
    image.putpalette(palette().tobytes())
    write_atomically(path, encode_image(image, "PNG", compress_type=_ZLIB_RLE))
