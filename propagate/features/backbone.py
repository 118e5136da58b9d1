"""What every backbone offers: frames in, a grid of feature vectors out."""

from typing import Protocol

import torch

from propagate.features.reading import Reading


class Backbone(Protocol):
    """Computes a grid of feature vectors from frames.

    Attributes:
        name: The name the user gave.
        stride: Pixels of the working size per cell, in both directions.
        multiple: Both sides of the working size must be multiples of this.
        channels: Length of a feature vector.
        device: The device it computes on; features stay there.

    A report also names, if the backbone has them, `dtype` (a `torch.dtype`), `compiled` (a bool)
    and `origin` (an `Origin`).
    """

    name: str
    stride: int
    multiple: int
    channels: int
    device: torch.device

    @property
    def reading(self) -> Reading | None:
        """What it reads from a U-Net, and at which noise level; None if it has no U-Net."""
        ...

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features.

        Args:
            images: (B, 3, H, W) float32 in 0..1, RGB, on `device`; H and W multiples of `multiple`.

        Returns:
            (B, C, H / stride, W / stride) float32. A frame's features do not depend on the other
            frames of its batch.
        """
        ...


class SemanticBackbone(Backbone, Protocol):
    """A backbone whose prompt names classes."""

    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the features of `extract`, (B, C, h, w), and semantic features (B, S, h, w)."""
        ...

    def class_tokens(self) -> dict[str, torch.Tensor]:
        """Return each named class as a semantic feature, (S,)."""
        ...
