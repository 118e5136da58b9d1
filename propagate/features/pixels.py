"""Colours as features: no weights, no U-Net. What a diffusion model has to beat."""

import torch
import torch.nn.functional as F

# Per-cell colour statistics are all it knows: the mean, and a coarse 2 x 2 layout of the cell.
LAYOUT = 2


class ColorBackbone:
    """Mean RGB of each quarter of an 8 x 8 px cell: 12 channels, stride 8.

    The constant 0.5 that is subtracted makes dark and bright point in different directions, so that
    a cosine tells them apart.
    """

    name = "color"
    stride = 8
    multiple = 8
    channels = 3 * LAYOUT * LAYOUT

    def __init__(self, device: torch.device) -> None:
        """Make it; `device` is where frames come in."""
        self.device = device

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features. See `Backbone.extract`."""
        quarters = F.avg_pool2d(images - 0.5, self.stride // LAYOUT)  # (B, 3, 2h, 2w)
        return F.pixel_unshuffle(quarters, LAYOUT)  # (B, 12, h, w)
