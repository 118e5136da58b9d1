"""Matching: features made comparable, and the labels that the matches of a cell give it.

Pure functions. The letters of every shape:

    H W  pixels of the frame          h w  cells of the feature grid      C  channels
    M    frames of the memory         k    matches kept per cell          L  labels: K objects + 1

Label 0 is background. Features are L2-normalised, channels last, so that a cosine is a dot product
over contiguous numbers. A cell of the memory has one number: m * h * w + y * w + x.
"""

import math

import torch
import torch.nn.functional as F


def normalize(
    features: torch.Tensor, mean: torch.Tensor | None = None, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn (C, h, w) features into (h, w, C) vectors of length one.

    Args:
        features: (C, h, w).
        mean, scale: (C,), from `channel_statistics`: what all cells share is taken away, and every
            channel counts alike, before the length is made one.
    """
    cells = features.permute(1, 2, 0)
    if mean is not None and scale is not None:
        # Laid out first: what follows then runs over contiguous numbers.
        cells = (cells.contiguous() - mean).div_(scale)
    return F.normalize(cells, dim=-1).contiguous()


def join_colors(cells: torch.Tensor, colors: torch.Tensor, weight: float) -> torch.Tensor:
    """Let colours count beside features.

    Args:
        cells: (h, w, C), normalised.
        colors: (h, w, D), normalised.
        weight: Of the colours.

    Returns:
        (h, w, C + D), normalised: its cosines are (cos of cells + weight^2 cos of colors) /
        (1 + weight^2).
    """
    return torch.cat([cells, weight * colors], dim=-1).div_(math.sqrt(1 + weight**2))


def within_reach(labels: torch.Tensor, radius: int) -> torch.Tensor:
    """Mark the cells with a label other than background within the window, in any frame.

    Args:
        labels: (M, h, w, L) soft labels.
        radius: Of the window, in cells.

    Returns:
        (h, w) bool. Where it is false, whatever is matched votes for background.
    """
    return widened((labels[..., 1:] > 0).any(-1).any(0)[None], radius)[0]


def widened(regions: torch.Tensor, by: int) -> torch.Tensor:
    """Add to regions, (N, h, w) bool, all cells that are so many rows and columns off, or fewer."""
    side = 2 * by + 1
    # A square is a row of columns, which is far less to look at.
    rows = F.max_pool2d(regions[:, None].float(), (1, side), stride=1, padding=(0, by))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(by, 0))[:, 0] > 0


def channel_statistics(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel over a frame (C, h, w): two (C,) tensors."""
    spread, mean = torch.std_mean(features.flatten(1), dim=1, correction=0)
    # A channel that says the same everywhere says nothing: it stays at zero.
    return mean, torch.where(spread < 1e-6, torch.inf, spread)


def centre(weights: torch.Tensor) -> torch.Tensor:
    """Centre of mass (y, x) of (h, w) weights, in cells."""
    height, width = weights.shape
    total = weights.sum().clamp_min(1e-6)
    rows = torch.arange(height, device=weights.device)
    columns = torch.arange(width, device=weights.device)
    return torch.stack([weights.sum(1) @ rows.float(), weights.sum(0) @ columns.float()]) / total


def moved_instance(
    features: torch.Tensor, labels: torch.Tensor, label: int, by: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move one instance of a frame to where it has gone, and make all around it void.

    An instance that has moved farther than the search window reaches is out of reach of its own
    reference; moved along with it, the reference is within reach again.

    Args:
        features: (h, w, C) of the frame.
        labels: (h, w, L) of the frame.
        label: Which one.
        by: (dy, dx) cells; what leaves the grid is lost.

    Returns:
        Features and labels like those given, zero wherever the instance is not.
    """
    (rows_to, rows), (columns_to, columns) = map(_overlap, by, labels.shape[:2])
    own = labels[rows, columns, label]
    moved_features, moved_labels = torch.zeros_like(features), torch.zeros_like(labels)
    moved_labels[rows_to, columns_to, label] = own
    moved_features[rows_to, columns_to] = features[rows, columns] * (own > 0)[..., None]
    return moved_features, moved_labels


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Where cells land and where they come from, along one side, when moved by so many."""
    kept = max(0, size - abs(by))
    to, whence = max(0, by), max(0, -by)
    return slice(to, to + kept), slice(whence, whence + kept)
