"""Cells: frames as the matching stages see them.

The letters of shapes, in all of `matching/`:

    H W  pixels of the frame          h w  cells of the feature grid      C  channels
    M    remembered frames            k    matches of a cell              L  labels: K objects + 1
    R    reference frames, the first of the M

Label 0 is background. Cells are vectors of length one with channels last, so a cosine is a dot
product over contiguous numbers.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from propagate.matchers import CellSettings, Matcher


@dataclass(frozen=True, slots=True, eq=False)
class FrameCells:
    """A frame, ready to be matched.

    Attributes:
        cells: (h, w, C), normalised.
        semantic: (h, w, N) PDM's semantic map of each named class.
        colors: (2h, 2w, 3) standardized colours on the 2x subcell grid; None if masks are not made
            on it.
    """

    cells: torch.Tensor
    semantic: torch.Tensor
    colors: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subcells:
    """A frame on the 2x subcell grid.

    Attributes:
        colors: (2h, 2w, 3), standardized.
        labels: (2h, 2w, L) soft labels.
    """

    colors: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RememberedFrames:
    """What is remembered: the reference frames in the order given, then others, oldest first.

    Attributes:
        cells: M frames (h, w, C).
        labels: (M, h, w, L) soft labels.
        reference_count: R.
        flows: (M, h, w, 2) the displacement (dy, dx) of each cell of the last frame to its place in
            each remembered frame, in cells.
        subcells: Of the same frames, or empty.
        semantic: (R, h, w, N) semantic maps of the reference frames.
    """

    cells: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    reference_count: int
    flows: torch.Tensor
    subcells: tuple[Subcells, ...]
    semantic: torch.Tensor

    @property
    def reference_cells(self) -> torch.Tensor:
        """(R, h, w, C)."""
        return torch.stack(self.cells[: self.reference_count])

    @property
    def reference_labels(self) -> torch.Tensor:
        """(R, h, w, L)."""
        return self.labels[: self.reference_count]


Statistics = tuple[torch.Tensor, torch.Tensor]


def frame_cells(
    features: torch.Tensor,
    semantic: torch.Tensor,
    colors: torch.Tensor,
    statistics: Statistics | None,
    matcher: Matcher,
) -> tuple[FrameCells, Statistics | None]:
    """Make features comparable.

    Args:
        features: (C, h, w) of the U-Net.
        semantic: (N, h, w) of the named classes.
        colors: (12, h, w) of the cells, or (0, h, w) if the matcher does not use them.
        statistics: Of the first frame; None if this is the first.
        matcher: Says what is standardized, and whether there is a subcell grid.

    Returns:
        The frame, and the statistics to use for the next one.
    """
    settings: CellSettings = matcher.cells
    if settings.standardize and statistics is None:
        statistics = channel_statistics(torch.cat([features, colors]))
    fine_colors = None
    if settings.color_weight and statistics is not None:
        mean, scale = statistics
        count = len(features)
        cells = join_colors(
            normalize(features, mean[:count], scale[:count]),
            normalize(colors, mean[count:], scale[count:]),
            settings.color_weight,
        )
        if matcher.subcell:
            standardized = (colors - mean[count:, None, None]) / scale[count:, None, None]
            fine_colors = subcell_colors(standardized)
    else:
        cells = normalize(features, *(statistics or ()))
    return FrameCells(cells, semantic.permute(1, 2, 0).contiguous(), fine_colors), statistics


def channel_statistics(features: torch.Tensor) -> Statistics:
    """Mean and standard deviation of each channel over a frame (C, h, w): two (C,) tensors."""
    spread, mean = torch.std_mean(features.flatten(1), dim=1, correction=0)
    # A channel with one value everywhere carries no information: it becomes zero.
    return mean, torch.where(spread < 1e-6, torch.inf, spread)


def normalize(
    features: torch.Tensor, mean: torch.Tensor | None = None, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn (C, h, w) features into (h, w, C) vectors of length one.

    Args:
        features: (C, h, w).
        mean, scale: (C,) from `channel_statistics`, to standardize the channels first.
    """
    cells = features.permute(1, 2, 0)
    if mean is not None and scale is not None:
        # Contiguous first: the operations that follow are then faster.
        cells = (cells.contiguous() - mean).div_(scale)
    return F.normalize(cells, dim=-1).contiguous()


def join_colors(cells: torch.Tensor, colors: torch.Tensor, weight: float) -> torch.Tensor:
    """Add colours to features.

    Args:
        cells: (h, w, C), normalised.
        colors: (h, w, D), normalised.
        weight: Of the colours.

    Returns:
        (h, w, C + D), normalised: a cosine is (cosine of cells + weight^2 cosine of colors) /
        (1 + weight^2).
    """
    return torch.cat([cells, weight * colors], dim=-1).div_(math.sqrt(1 + weight**2))


def subcell_colors(colors: torch.Tensor) -> torch.Tensor:
    """Put the colours (12, h, w) of cells on the subcell grid: (2h, 2w, 3)."""
    return F.pixel_shuffle(colors, 2).permute(1, 2, 0).contiguous()


def within_reach(labels: torch.Tensor, radius: int) -> torch.Tensor:
    """Mark the cells that have an object within the search window, in any frame.

    Args:
        labels: (M, h, w, L) soft labels.
        radius: Of the window, in cells.

    Returns:
        (h, w) bool. Elsewhere all matches vote for background.
    """
    return dilate((labels[..., 1:] > 0).any(-1).any(0)[None], radius)[0]


def dilate(regions: torch.Tensor, by: int) -> torch.Tensor:
    """Dilate regions, (N, h, w) bool, by a square that reaches `by` cells in each direction."""
    side = 2 * by + 1
    # First along rows, then along columns: far fewer comparisons than the whole square.
    rows = F.max_pool2d(regions[:, None].float(), (1, side), stride=1, padding=(0, by))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(by, 0))[:, 0] > 0


def centroid(weights: torch.Tensor) -> torch.Tensor:
    """Centre of mass (y, x) of (h, w) weights, in cells."""
    height, width = weights.shape
    total = weights.sum().clamp_min(1e-6)
    rows = torch.arange(height, device=weights.device)
    columns = torch.arange(width, device=weights.device)
    return torch.stack([weights.sum(1) @ rows.float(), weights.sum(0) @ columns.float()]) / total
