"""The published label-propagation protocols, dense and literal: what the presets are held against.

Written from the algorithms of three scripts, the settings are those of their README files:

    DINO  facebookresearch/dino eval_video_segmentation.py (Apache-2.0)
    DIFT  Tsingularity/dift eval_davis.py (MIT), with Stable Diffusion 2.1
    CRW   ajabri/videowalk code/test.py with its code/utils and code/data/vos.py (MIT)

Each function takes the features of all frames and the mask of the first one, and returns the masks
of all frames; how the scripts read and resize frames is no part of it. Letters of the shapes:

    T  frames      H W  pixels      h w  cells      n  h * w      C  channels      M  context frames
    L  labels: background and the objects 1..L-1 of the first mask
"""

from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def dino_masks(features: torch.Tensor, first: np.ndarray, stride: int) -> list[np.ndarray]:
    """DINO: top 5 within 12 cells, of the first frame and the 7 before.

    Args:
        features: (T, C, h, w).
        first: (H, W) uint8, ids 0..L-1.
        stride: Pixels per cell of the size at which features are read.

    Returns:
        T arrays (H, W) uint8.
    """
    return _windowed_masks(features, first, stride, 7, top_k=5, radius=12, temperature=0.1)


def dift_masks(features: torch.Tensor, first: np.ndarray, stride: int) -> list[np.ndarray]:
    """DIFT: DINO's script with top 15 within 15 cells, of the first frame and the 28 before.

    On one clip of DAVIS, `shooting`, the script keeps 10 frames instead, for lack of GPU memory.

    Args:
        features, first, stride: See `dino_masks`.
    """
    return _windowed_masks(features, first, stride, 28, top_k=15, radius=15, temperature=0.2)


def _windowed_masks(
    features: torch.Tensor,
    first: np.ndarray,
    stride: int,
    recent_frames: int,
    *,
    top_k: int,
    radius: int,
    temperature: float,
) -> list[np.ndarray]:
    grid = (features.shape[2], features.shape[3])
    height, width = first.shape
    near = square_neighbourhood(grid, radius)
    # The first frame stays in front for ever; it is never among the recent ones.
    first_labels = labels_of_nearest_pixels(first, grid)
    recent: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=recent_frames)
    masks = [first]
    for target in features[1:]:
        context = [(features[0], first_labels), *recent]
        sources = torch.stack([source for source, _ in context])
        known = torch.stack([labels for _, labels in context])
        labels = dense_vote(target, sources, known, near, top_k, temperature)
        recent.append((target, labels))
        large = F.interpolate(labels[None], scale_factor=stride, mode="bilinear")[0]
        winner = stretched(large).max(0).indices.byte()
        resized = Image.fromarray(winner.numpy()).resize((width, height), Image.Resampling.NEAREST)
        masks.append(np.array(resized))
    return masks


def square_neighbourhood(grid: tuple[int, int], radius: int) -> torch.Tensor:
    """1 where two cells of the grid are at most `radius` rows and columns apart: (n, n)."""
    height, width = grid
    near = torch.zeros(height, width, height, width)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - radius), y + radius + 1)
            columns = slice(max(0, x - radius), x + radius + 1)
            near[y, x, rows, columns] = 1
    return near.view(height * width, height * width)


def labels_of_nearest_pixels(first: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
    """One-hot labels (L, h, w) of the mask, reduced by PIL's nearest neighbour."""
    small = Image.fromarray(first).resize((grid[1], grid[0]), Image.Resampling.NEAREST)
    ids = torch.from_numpy(np.array(small))
    # An object that has no cell stays in the list and is zero for ever.
    return torch.stack([(ids == i).float() for i in range(int(first.max()) + 1)])


def dense_vote(
    target: torch.Tensor,
    sources: torch.Tensor,
    labels: torch.Tensor,
    near: torch.Tensor,
    top_k: int,
    temperature: float,
) -> torch.Tensor:
    """Soft labels (L, h, w) of a frame, from every cell of every context frame at once.

    Args:
        target: (C, h, w).
        sources: (M, C, h, w), not normalised: it is done here, again for each frame.
        labels: (M, L, h, w).
        near: (n, n), 1 where a source cell may be looked at.
        top_k: Affinities kept, and all that equal the last of them.
        temperature: Divides the cosines.
    """
    queries = F.normalize(target.flatten(1), dim=0).T  # (n, C)
    keys = F.normalize(sources.flatten(2), dim=1)  # (M, C, n)
    affinity = torch.exp(queries @ keys / temperature)  # (M, n, n): queries, keys
    affinity *= near
    affinity = affinity.transpose(1, 2).reshape(-1, len(queries))  # (M n keys, n queries)
    last_kept = affinity.topk(top_k, dim=0).values.min(0).values
    affinity[affinity < last_kept] = 0
    affinity = affinity / affinity.sum(0)
    voted = labels.transpose(0, 1).flatten(1) @ affinity  # (L, n)
    return voted.unflatten(1, target.shape[1:])


def stretched(labels: torch.Tensor) -> torch.Tensor:
    """Every label (L, ...) that is anywhere, from 0 at its lowest to 1 at its highest.

    One that is the same everywhere is divided by zero, and the largest of NaN is NaN: it wins.
    """
    labels = labels.clone()
    for label in labels:
        if label.max() > 0:
            label -= label.min()
            label /= label.max()
    return labels


def crw_masks(features: torch.Tensor, first: np.ndarray) -> list[np.ndarray]:
    """CRW: top 10 of the whole first frame, and within a circle of 12 of the 20 before.

    The clip is preceded by 20 copies of its first frame, so that there are 20 before.

    Args:
        features: (T, C, h, w).
        first: (H, W) uint8, ids 0..L-1.

    Returns:
        T arrays (H, W) uint8.
    """
    copies, top_k, temperature = 20, 10, 0.05
    height, width = features.shape[2:]
    padded = torch.cat([features[:1].expand(copies, -1, -1, -1), features])
    cells = F.normalize(padded, dim=1).flatten(2)  # (copies + T, C, n)
    far = ~circular_neighbourhood((height, width), radius=12)
    one_hot = np.stack([first == i for i in range(first.max() + 1)], axis=-1)
    first_labels = bilinear(one_hot, (height, width)).reshape(height * width, -1)  # (n, L)
    labels = [torch.from_numpy(first_labels).float()] * (copies + 1)
    masks = [first]
    for now in range(copies + 1, len(cells)):
        context = [0, *range(now - copies, now)]
        affinity = torch.stack([cells[i].T @ cells[now] for i in context])  # (M, n keys, n queries)
        affinity[1:, far] -= 1e10
        affinity = affinity.flatten(0, 1) / temperature  # (M n, n)
        best, places = affinity.topk(top_k, dim=0)  # (k, n)
        weights = best.softmax(0)
        known = torch.cat([labels[i] for i in context])  # (M n, L)
        voted = (known[places] * weights[..., None]).sum(0)  # (n, L)
        labels.append(voted)
        large = bilinear(voted.view(height, width, -1).numpy(), first.shape)
        masks.append(large.argmax(-1).astype(np.uint8))
    return masks


def circular_neighbourhood(grid: tuple[int, int], radius: float) -> torch.Tensor:
    """Whether two cells of the grid are less than `radius` apart: (n, n) bool."""
    y, x = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    places = torch.stack([y, x], dim=-1).view(-1, 2).float()
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist") < radius


def bilinear(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """OpenCV's INTER_LINEAR of (H, W, L) to (H', W', L): float64, no averaging when reducing."""
    for axis, wanted in enumerate(size):
        length = values.shape[axis]
        centre = (np.arange(wanted) + 0.5) * length / wanted - 0.5
        centre = centre.clip(0, length - 1)
        below = np.floor(centre).astype(int)
        above = np.minimum(below + 1, length - 1)
        weight = np.expand_dims(centre - below, tuple(range(1, values.ndim - axis)))
        low, high = values.take(below, axis), values.take(above, axis)
        values = low * (1 - weight) + high * weight
    return values
