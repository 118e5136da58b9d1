"""Pictures as a notebook shows them.

H, W are the rows and columns of a picture.
"""

import numpy as np
from PIL import Image

from propagate.io.write.encode import encode_image
from propagate.io.write.overlay import draw_alone
from propagate.io.write.panels import fitted_size

# A notebook's page is about as wide.
MOST_COLUMNS = 800


def picture_png(image: np.ndarray) -> bytes:
    """Encode a picture as PNG, shrunk to at most 800 columns.

    Args:
        image: (H, W, 3) uint8, RGB.
    """
    height, width = fitted_size(image.shape[0], image.shape[1], (image.shape[0], MOST_COLUMNS))
    picture = Image.fromarray(image)
    if width < image.shape[1]:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return encode_image(picture, "PNG")


def mask_png(ids: np.ndarray) -> bytes:
    """Encode a mask as PNG: its objects in colours on dark grey, at most 800 columns.

    Args:
        ids: (H, W) uint8.
    """
    height, width = fitted_size(ids.shape[0], ids.shape[1], (ids.shape[0], MOST_COLUMNS))
    if width < ids.shape[1]:
        picture = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST)
        ids = np.asarray(picture)
    return encode_image(draw_alone(ids), "PNG")
