"""The colours that DAVIS and YouTube-VOS give to ids."""

from functools import cache

import numpy as np


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
