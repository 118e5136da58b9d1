"""The cells of a frame as a graph: features, colours, and how alike neighbours are.

H, W: the frame; h, w: its cells; n = h * w: cells in row-major order; E: pairs of neighbours.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of cells.

    Attributes:
        first, second: (E,) numbers of cells.
        length: (E,) their distance in cells.
        cosines: (E,) of their features.
        colors: (E,) squared distance of their colours, divided by the mean over neighbours.
    """

    first: np.ndarray
    second: np.ndarray
    length: np.ndarray
    cosines: np.ndarray
    colors: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A frame's cells.

    Attributes:
        shape: (h, w).
        cells: (n, C) float32, of length one: features, each channel standardized over the frame.
        colors: (n, 3) float32 mean Lab colours.
        neighbours: Pairs at a distance of one cell, diagonals included.
        across: Pairs at a distance of `reach` cells.
    """

    shape: tuple[int, int]
    cells: np.ndarray
    colors: np.ndarray
    neighbours: Pairs
    across: Pairs


def make_grid(features: torch.Tensor, lab: np.ndarray, reach: int) -> Grid:
    """Make the graph of a frame.

    Args:
        features: (C, h, w) of the U-Net, finite.
        lab: (H, W, 3) float32 Lab colours of the frame, or of evenly spaced rows and columns.
        reach: See `Grid.across`, in cells.
    """
    height, width = features.shape[1:]
    flat = features.detach().float().cpu().flatten(1).T  # (n, C)
    spread, mean = torch.std_mean(flat, dim=0, correction=0)
    flat = (flat - mean) / torch.where(spread < 1e-6, torch.inf, spread)
    cells = F.normalize(flat, dim=1).numpy()
    planes = torch.from_numpy(np.ascontiguousarray(lab)).permute(2, 0, 1)[None]
    colors = F.adaptive_avg_pool2d(planes, (height, width))[0].flatten(1).T.numpy()
    near = _pairs((height, width), 1, cells, colors, 1.0)
    scale = max(float(near.colors.mean()), 1e-6) if len(near.colors) else 1.0
    diagonal = max(1, round(0.7 * reach))
    return Grid(
        (height, width),
        cells,
        colors,
        _pairs((height, width), 1, cells, colors, scale),
        _pairs((height, width), reach, cells, colors, scale, diagonal),
    )


def _pairs(
    shape: tuple[int, int],
    step: int,
    cells: np.ndarray,
    colors: np.ndarray,
    scale: float,
    diagonal: int | None = None,
) -> Pairs:
    """Pair each cell with the one `step` to the right and below, and with two on the diagonals."""
    numbers = np.arange(shape[0] * shape[1]).reshape(shape)
    d = diagonal or step
    both = (
        (numbers[:, :-step], numbers[:, step:], float(step)),
        (numbers[:-step], numbers[step:], float(step)),
        (numbers[:-d, :-d], numbers[d:, d:], d * 2**0.5),
        (numbers[:-d, d:], numbers[d:, :-d], d * 2**0.5),
    )
    first = np.concatenate([a.ravel() for a, _, _ in both])
    second = np.concatenate([b.ravel() for _, b, _ in both])
    length = np.concatenate([np.full(a.size, distance) for a, _, distance in both])
    cosines = np.einsum("ec,ec->e", cells[first], cells[second])
    distance = np.square(colors[first] - colors[second]).sum(1)
    return Pairs(first, second, length, cosines, distance / scale)
