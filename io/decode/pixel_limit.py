"""Pictures too large to be meant: refused by their header, before anything is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from PIL import Image

# 8192x8192: twice 8K video, and the largest photos of ordinary cameras. In RGB, 192 MiB.
MAX_PIXELS = 2**26

_lock = Lock()


TOO_LARGE_HINT = "if that is right, raise {max_pixels}"


class TooLargeError(ValueError):
    """A picture has more pixels than allowed."""


@contextmanager
def open_image(path: Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image whose pixels are decoded when they are asked for.

    Args:
        path: Of an image that Pillow reads, or its content.
        max_pixels: Most pixels. Pillow's own limit of 179 million does not count here.

    Raises:
        TooLargeError: It has more pixels.
        OSError, ValueError, SyntaxError: No image, or a damaged one; when its pixels are decoded
            too.
    """
    # A named pipe would be waited for, for ever.
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise OSError("it is no file")
    # Pillow has its limit in a global variable, read when it opens; it warns from half of it on.
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise TooLargeError(too_large(width, height, max_pixels))
        yield image


def too_large(width: int, height: int, max_pixels: int) -> str:
    """Say that a picture is too large."""
    return f"{width}x{height} pixels, more than the limit of {max_pixels}"
