"""Soft labels of cells brought to the pixels, along the edges of the frame.

Near the outline, a second walker runs on pixels: it is tied to the label that the cells give, and
steps less easily across edges of colour.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from propagate.prompts.settings import PromptSettings


def sharpen(labels: np.ndarray, lab: np.ndarray, s: PromptSettings) -> np.ndarray:
    """Bring the label of one object to full size.

    Args:
        labels: (h, w) in 0..1; the object is where it is at least 0.5.
        lab: (H, W, 3) float32 Lab colours.
        s: `PromptSettings.sharpen_*`.

    Returns:
        (H, W) float32 in 0..1.
    """
    height, width = lab.shape[:2]
    small = torch.from_numpy(np.ascontiguousarray(labels, np.float32))[None, None]
    full = F.interpolate(small, (height, width), mode="bilinear")[0, 0].numpy()
    region = full >= 0.5
    if not s.sharpen_px or not s.sharpen_steps or region.all() or not region.any():
        return full
    edge = np.zeros_like(region)
    edge[1:] |= region[1:] != region[:-1]
    edge[:, 1:] |= region[:, 1:] != region[:, :-1]
    # Only a rectangle around the outline is looked at.
    rows, columns = np.flatnonzero(edge.any(1)), np.flatnonzero(edge.any(0))
    reach = s.sharpen_px + 2
    part = (
        slice(max(0, rows[0] - reach), rows[-1] + reach + 1),
        slice(max(0, columns[0] - reach), columns[-1] + reach + 1),
    )
    near = np.asarray(ndimage.distance_transform_edt(~edge[part])) <= s.sharpen_px
    sharp = full.copy()
    sharp[part] = _walk_on_pixels(full[part], region[part], lab[part], near, s)
    return sharp


def _walk_on_pixels(
    label: np.ndarray, region: np.ndarray, lab: np.ndarray, near: np.ndarray, s: PromptSettings
) -> np.ndarray:
    """Relax the labels of the pixels near the outline; the others are inside or outside.

    Checkerboard sweeps of successive over-relaxation: each pixel takes the mean of its neighbours
    and of the label before, weighted by their links.
    """
    right = np.square(lab[:, 1:] - lab[:, :-1]).sum(2)
    below = np.square(lab[1:] - lab[:-1]).sum(2)
    steps = np.concatenate([right[near[:, 1:]], below[near[1:]]])
    scale = max(1e-6, float(steps.mean())) if len(steps) else 1.0
    right = np.exp(-s.sharpen_contrast * right / scale) + 1e-4
    below = np.exp(-s.sharpen_contrast * below / scale) + 1e-4
    links = np.zeros((4, *label.shape), np.float32)  # to the left, right, above, below
    links[0][:, 1:], links[1][:, :-1] = right, right
    links[2][1:], links[3][:-1] = below, below
    own = s.sharpen_pull * label
    total = links.sum(0) + s.sharpen_pull
    now = np.where(near, label, region.astype(np.float32))
    y, x = np.nonzero(near)
    width = label.shape[1]
    flat, places = np.pad(now, 1).ravel(), (y + 1) * (width + 2) + x + 1
    colors = [(y + x) % 2 == parity for parity in (0, 1)]
    work = [
        (
            places[c],
            links[:, y[c], x[c]],
            own[y[c], x[c]],
            total[y[c], x[c]],
        )
        for c in colors
    ]
    for _ in range(s.sharpen_steps):
        for at, link, tie, whole in work:
            around = np.stack(
                [flat[at - 1], flat[at + 1], flat[at - width - 2], flat[at + width + 2]]
            )
            mean = ((link * around).sum(0) + tie) / whole
            flat[at] += 1.5 * (mean - flat[at])
    return np.clip(flat.reshape(label.shape[0] + 2, width + 2)[1:-1, 1:-1], 0, 1)
