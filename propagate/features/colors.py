"""Colours as features, without a U-Net: the baseline that a diffusion model has to beat."""

import torch
import torch.nn.functional as F

from propagate.features.origin import Origin

# A cell is described by the mean colours of its 2 x 2 quarters.
LAYOUT = 2
COLOR_CHANNELS = 3 * LAYOUT * LAYOUT


def cell_colors(images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Average the colours of each quarter of each cell.

    Args:
        images: (B, 3, H, W).
        grid: (h, w) cells that tile the images.

    Returns:
        (B, 12, h, w), channels last in memory like the features of a U-Net.
    """
    quarters = F.adaptive_avg_pool2d(images, (LAYOUT * grid[0], LAYOUT * grid[1]))
    colors = F.pixel_unshuffle(quarters, LAYOUT)
    return colors.contiguous(memory_format=torch.channels_last)


class ColorBackbone:
    """Mean RGB of each quarter of an 8 x 8 px cell: 12 channels, stride 8.

    It subtracts 0.5, so that dark and bright point in different directions and a cosine can tell
    them apart.
    """

    name = "color"
    stride = 8
    multiple = 8
    channels = COLOR_CHANNELS
    reading = None
    dtype = torch.float32
    origin = Origin()

    def __init__(self, device: torch.device) -> None:
        """Compute on `device`."""
        self.device = device

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features. See `Backbone.extract`."""
        height, width = images.shape[2:]
        return cell_colors(images - 0.5, (height // self.stride, width // self.stride))
