"""What every backbone offers: frames in, a grid of feature vectors out."""

from typing import Protocol

import torch

from propagate.features.reading import Reading


class Backbone(Protocol):
    """Reads a grid of feature vectors out of frames.

    Attributes:
        name: What the user called it.
        stride: Pixels of the working size per cell, in both directions.
        multiple: Both sides of the working size must be multiples of this.
        channels: Length of a feature vector.
        device: Where it computes and where its features lie.
    """

    name: str
    stride: int
    multiple: int
    channels: int
    device: torch.device

    @property
    def reading(self) -> Reading | None:
        """What of a U-Net it reads, and at which noise level; None without one."""
        ...

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features.

        Args:
            images: (B, 3, H, W) float32 in 0..1, RGB, on `device`; H and W multiples of `multiple`.

        Returns:
            (B, C, H / stride, W / stride) float32. A frame's features do not depend on the frames
            it shares a batch with.
        """
        ...


class SemanticBackbone(Backbone, Protocol):
    """A backbone that was told of classes."""

    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what `extract` gives, (B, C, h, w), and semantic features (B, S, h, w)."""
        ...

    def class_tokens(self) -> dict[str, torch.Tensor]:
        """Each named class as a semantic feature, (S,)."""
        ...
