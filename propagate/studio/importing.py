"""A mask from a file that a person gives, checked before anything of it is unpacked."""

import sys
import zipfile
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import numpy as np

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import open_image
from propagate.io.masks.files import ARRAYS, PICTURES, read_mask
from propagate.io.masks.ids import check_size
from propagate.records import MAX_OBJECT_ID, Mask
from propagate.studio.temporary import TemporaryFolder

_MOST_BYTES = 2**28
_KINDS = (*PICTURES, *ARRAYS, ".jpg", ".jpeg")


def import_mask(data: bytes, name: str, height: int, width: int) -> Mask:
    """Read a mask as `read_mask` does.

    Args:
        data: The content of the file.
        name: What the person calls the file; its suffix says what it is.
        height, width: Of the frame, in pixels.

    Raises:
        MaskError: It is no mask, or not of this size.
    """
    name = Path(name.replace("\\", "/")).name or "mask"
    suffix = Path(name).suffix.lower()
    if suffix not in _KINDS:
        raise MaskError(f"{name}: no mask", f"give one of {', '.join((*PICTURES, *ARRAYS))}")
    with closing(TemporaryFolder()) as folder:
        file = folder.path / f"mask{suffix}"
        file.write_bytes(data)
        try:
            if suffix in ARRAYS:
                _check_array(file, height * width)
            else:
                _check_picture(file, height, width)
            mask = read_mask(file)
        except MaskError as error:
            message = error.message.replace(str(file), name)
            raise MaskError(message, error.hint) from error
    mask = Mask(
        mask.ids, mask.binary, name, tuple(note.replace(str(file), name) for note in mask.notes)
    )
    check_size(mask, height, width)
    return mask


def _check_picture(file: Path, height: int, width: int) -> None:
    """Refuse a picture of more pixels than the frame has, by its header."""
    with suppress(OSError, SyntaxError, ValueError), open_image(file, sys.maxsize) as image:
        if image.width * image.height > height * width:
            raise MaskError(
                f"{file}: the mask is {image.width}x{image.height}, the frame {width}x{height}",
                f"resize the mask to {width}x{height} by nearest neighbour",
            )


def _check_array(file: Path, pixels: int) -> None:
    """Refuse an array that is larger than one layer of the frame for each object."""
    try:
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                sizes = [_array_bytes(archive.open(member)) for member in archive.infolist()]
        else:
            with file.open("rb") as opened:
                sizes = [_array_bytes(opened)]
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise MaskError(f"{file}: no readable array ({error})", "write it by numpy.save") from error
    if sum(sizes) > min(MAX_OBJECT_ID * pixels, _MOST_BYTES):
        raise MaskError(f"{file}: an array of {sum(sizes)} bytes", "save (H, W) ids of 8 bits")


def _array_bytes(file: IO[bytes]) -> int:
    """Return how much memory an array takes, by its header."""
    with file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    return int(np.prod(shape, dtype=object)) * dtype.itemsize
