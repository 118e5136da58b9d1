"""From painted pixels to seed cells."""

import numpy as np
import torch
import torch.nn.functional as F

from propagate.prompts.paint import Paint
from propagate.prompts.walker import FREE


def seeds_of(paint: Paint, others: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Find the seed cells of one object.

    A cell with painted pixels is a seed of the kind that covers more of it; of equal shares, of the
    object. A cell that a box leaves out altogether is background.

    Args:
        paint: Of the object.
        others: (H, W) bool: pixels that are painted as other objects.
        shape: (h, w) of the cells.

    Returns:
        (n,) int8: 1 object, 0 background, -1 free.
    """
    on = covered(paint.on, shape)
    off = covered(paint.off | others, shape)
    seeds = np.where(on >= off, 1, 0).astype(np.int8)
    seeds[(on == 0) & (off == 0)] = FREE
    if paint.boxes is not None:
        seeds[(covered(paint.boxes, shape) == 0)] = 0
    return seeds.ravel()


def covered(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the share of each cell that pixels, (H, W) bool, cover: (h, w) float64."""
    if not pixels.any():
        return np.zeros(shape)
    return F.adaptive_avg_pool2d(torch.from_numpy(pixels)[None].double(), shape)[0].numpy()
