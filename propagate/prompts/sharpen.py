"""Soft labels of cells brought to the pixels, along the edges of the frame.

Near the outline, a second walker runs on pixels: it is tied to the label that the cells give, and
steps less easily across edges of colour. What it costs grows with the outline, not with the frame.
"""

import numpy as np
import torch
import torch.nn.functional as F

from propagate.prompts.colours import Colours
from propagate.prompts.settings import PromptSettings

# To the left, right, above, below: rows and columns.
_SIDES = ((0, -1), (0, 1), (-1, 0), (1, 0))


def sharpen(labels: np.ndarray, colours: Colours, s: PromptSettings) -> np.ndarray:
    """Bring the label of one object to full size.

    Args:
        labels: (h, w) in 0..1; the object is where it is at least 0.5.
        colours: Of the frame.
        s: `PromptSettings.sharpen_*`.

    Returns:
        (H, W) float32 in 0..1.
    """
    small = torch.from_numpy(np.ascontiguousarray(labels, np.float32))[None, None]
    full = F.interpolate(small, colours.shape, mode="bilinear")[0, 0].numpy()
    region = full >= 0.5
    if not s.sharpen_px or not s.sharpen_steps or region.all() or not region.any():
        return full
    rows, columns = _outline(region)
    # In a rectangle around the outline, the object is where it is; only near the outline it moves.
    reach = s.sharpen_px + 2
    top, left = max(0, rows.min() - reach), max(0, columns.min() - reach)
    part = full[top : rows.max() + reach + 1, left : columns.max() + reach + 1]
    y, x = np.nonzero(_within(rows - top, columns - left, s.sharpen_px, part.shape))
    before = part[y, x]
    part[:] = part >= 0.5
    part[y, x] = before
    _walk_on_pixels(part, y, x, _links(y + top, x + left, colours, s), s)
    return full


def _outline(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixels that differ from the one above or to the left: their rows and columns."""
    edge = np.zeros_like(region)
    edge[1:] |= region[1:] != region[:-1]
    edge[:, 1:] |= region[:, 1:] != region[:, :-1]
    rows, columns = np.nonzero(edge)
    return rows, columns


def _within(
    rows: np.ndarray, columns: np.ndarray, reach: int, shape: tuple[int, int]
) -> np.ndarray:
    """Mark all pixels within `reach` pixels of the given ones: bool of that shape."""
    marked = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach), bool)
    for down in range(-reach, reach + 1):
        half = int((reach**2 - down**2) ** 0.5)
        for right in range(-half, half + 1):
            marked[rows + reach + down, columns + reach + right] = True
    return marked[reach : reach + shape[0], reach : reach + shape[1]]


def _walk_on_pixels(
    labels: np.ndarray, y: np.ndarray, x: np.ndarray, links: np.ndarray, s: PromptSettings
) -> None:
    """Relax, in place, the labels of the pixels at rows y and columns x; the others stay.

    Links, (4, N), are as `_links` gives them.

    Checkerboard sweeps of successive over-relaxation: each pixel takes the mean of its neighbours
    and of the label before, weighted by their links.
    """
    own = s.sharpen_pull * labels[y, x]
    total = links.sum(0) + s.sharpen_pull
    width = labels.shape[1]
    flat, places = np.pad(labels, 1).ravel(), (y + 1) * (width + 2) + x + 1
    turns = [(y + x) % 2 == parity for parity in (0, 1)]
    work = [(places[c], links[:, c], own[c], total[c]) for c in turns]
    for _ in range(s.sharpen_steps):
        for at, link, tie, whole in work:
            around = np.stack(
                [flat[at - 1], flat[at + 1], flat[at - width - 2], flat[at + width + 2]]
            )
            mean = ((link * around).sum(0) + tie) / whole
            flat[at] += s.sharpen_relaxation * (mean - flat[at])
    labels[y, x] = np.clip(flat[places], 0, 1)


def _links(y: np.ndarray, x: np.ndarray, colours: Colours, s: PromptSettings) -> np.ndarray:
    """How easily a walk steps to each of `_SIDES`: (4, N) float32, 0 out of the frame."""
    height, width = colours.shape
    here = colours.at(y, x)
    steps, inside = [], []
    for down, right in _SIDES:
        row, column = y + down, x + right
        known = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        there = colours.at(np.clip(row, 0, height - 1), np.clip(column, 0, width - 1))
        steps.append(np.square(here - there).sum(1))
        inside.append(known)
    seen = np.concatenate([steps[side][inside[side]] for side in (0, 2)])
    scale = max(1e-6, float(seen.mean())) if len(seen) else 1.0
    easily = np.exp(-s.sharpen_contrast * np.stack(steps) / scale) + s.smallest_affinity
    return np.where(np.stack(inside), easily, 0).astype(np.float32)
