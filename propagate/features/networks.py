"""The parts of a model that an engine runs: tensors in, a tuple of tensors out."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from propagate.features.hooks import outputs_of

if TYPE_CHECKING:
    # A U-Net on pixels needs none, and its import takes long.
    from diffusers import AutoencoderKL


class NeverRuns(LookupError):
    """A module that is to be read never runs; the argument is its name."""


class UNetPart(torch.nn.Module):
    """A U-Net up to the last of the modules that are read.

    Attributes:
        modules_read: Dotted names of the modules; () runs all of the U-Net and returns its output.
    """

    def __init__(
        self,
        unet: torch.nn.Module,
        modules_read: Sequence[str],
        prompt: torch.Tensor | None,
        pooled: torch.Tensor | None,
        picture_stride: int,
    ) -> None:
        """Set up a part of a U-Net, which is shared, not copied.

        Args:
            unet: The network.
            modules_read: Dotted names.
            prompt: (1, T, D) if it takes a prompt.
            pooled: (1, D) if it takes a second one.
            picture_stride: Pixels of the picture per cell of the input.
        """
        super().__init__()
        self.prompt: torch.Tensor | None
        self.pooled: torch.Tensor | None
        self.unet = unet
        self.modules_read = tuple(modules_read)
        self.register_buffer("prompt", prompt, persistent=False)
        self.register_buffer("pooled", pooled, persistent=False)
        self._picture_stride = picture_stride

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run it.

        Args:
            noisy: (B, C, h, w), in the precision of the U-Net.
            timestep: (1,), int64.

        Returns:
            The outputs of the modules, in their order, or the output of the U-Net.

        Raises:
            NeverRuns: The U-Net never runs one of the modules.
        """
        whole = partial(self.unet, noisy, timestep, **self._conditions(noisy))
        if not self.modules_read:
            return (whole().sample,)
        outputs = outputs_of(self.unet, self.modules_read, whole)
        for name in self.modules_read:
            if name not in outputs:
                raise NeverRuns(name)
        return tuple(outputs[name] for name in self.modules_read)

    def _conditions(self, noisy: torch.Tensor) -> dict[str, Any]:
        text: dict[str, Any] = {}
        if self.prompt is not None:
            text["encoder_hidden_states"] = self.prompt.expand(len(noisy), -1, -1)
        if self.pooled is not None:
            height, width = (int(side) * self._picture_stride for side in noisy.shape[2:])
            # The order of diffusers: original size, top left corner of the crop, target size.
            sizes = torch.tensor([[height, width, 0, 0, height, width]], device=noisy.device)
            text["added_cond_kwargs"] = {
                "text_embeds": self.pooled.expand(len(noisy), -1),
                "time_ids": sizes.expand(len(noisy), -1),
            }
        return text


class VaeEncoder(torch.nn.Module):
    """The encoder of a VAE."""

    def __init__(self, vae: "AutoencoderKL") -> None:
        """Set up the encoder, which is shared, not copied."""
        super().__init__()
        self.vae = vae

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of the latents of (B, 3, H, W) in -1..1."""
        posterior = self.vae.encode(images).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
        return posterior.mode(), posterior.std
