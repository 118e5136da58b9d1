"""Index PNGs: read as ids, written with the palette of DAVIS."""

from pathlib import Path

import numpy as np
from PIL import Image

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.masks.files import read_pixels
from propagate.io.masks.ids import check_ids
from propagate.io.masks.palette import palette
from propagate.io.masks.picture import SAVE_AS_INDEX
from propagate.io.masks.reading import MaskReading
from propagate.io.write.encode import encode_image
from propagate.io.write.files import write_atomically

SUFFIX = ".png"
# Masks have large areas of one id. Here zlib's run-length strategy takes a third of the time of its
# default strategy, and files are a quarter larger.
_ZLIB_RLE = 3


def mask_file(folder: Path, frame: str) -> Path:
    """Return the path of the mask of a frame in a folder of masks."""
    return folder / f"{frame}{SUFFIX}"


def mask_files(folder: Path) -> list[Path]:
    """List the masks in a folder, by name; none if there is no such folder."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def read_ids(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read the pixel values of an image as object ids. There may be no object.

    Args:
        path: The image. A picture of colours must have the colours of DAVIS, which mean the same
            ids in every picture.
        max_pixels: The most pixels the image may have.

    Returns:
        (H, W) uint8; bool for a black-and-white image of one bit per pixel.

    Raises:
        MaskError: If there is no such image, it is too large, or its pixel values are not ids.
    """
    pixels = read_pixels(path, MaskReading(max_pixels=max_pixels))
    if pixels.values is None:
        raise MaskError(f"{path}: colours that are not those of DAVIS", SAVE_AS_INDEX)
    return pixels.values


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
