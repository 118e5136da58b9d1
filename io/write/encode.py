"""Images as the bytes of a file."""

import io
from typing import Any

import numpy as np
from PIL import Image


def encode_image(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    """Encode an image.

    Args:
        image: An image, or (H, W, 3) uint8 RGB.
        format: "PNG" or "JPEG".
        options: Of Pillow's writer for the format, such as `quality` of a JPEG.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
