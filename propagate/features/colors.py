"""Colours as features: no weights, no U-Net. What a diffusion model has to beat."""

import torch
import torch.nn.functional as F

# Per-cell colour statistics are all it knows: the mean, and a coarse 2 x 2 layout of the cell.
LAYOUT = 2
COLOR_CHANNELS = 3 * LAYOUT * LAYOUT


def cell_colors(images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Average the colours of each quarter of each cell.

    Args:
        images: (B, 3, H, W).
        grid: (h, w) cells that tile the images.

    Returns:
        (B, 12, h, w), the channels of a cell side by side, as those of a U-Net's features are.
    """
    quarters = F.adaptive_avg_pool2d(images, (LAYOUT * grid[0], LAYOUT * grid[1]))
    colors = F.pixel_unshuffle(quarters, LAYOUT)
    return colors.contiguous(memory_format=torch.channels_last)


class ColorBackbone:
    """Mean RGB of each quarter of an 8 x 8 px cell: 12 channels, stride 8.

    The constant 0.5 that is subtracted makes dark and bright point in different directions, so that
    a cosine tells them apart.
    """

    name = "color"
    stride = 8
    multiple = 8
    channels = COLOR_CHANNELS
    reading = None

    def __init__(self, device: torch.device) -> None:
        """Make it; `device` is where frames come in."""
        self.device = device

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features. See `Backbone.extract`."""
        height, width = images.shape[2:]
        return cell_colors(images - 0.5, (height // self.stride, width // self.stride))
