"""Read the outputs of modules in a U-Net, and project its prompt only once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import Attention


class _Reached(Exception):
    """Stops the U-Net: the last module that is read has run."""


def outputs_of(
    unet: torch.nn.Module, names: Sequence[str], forward: Callable[[], Any]
) -> dict[str, torch.Tensor]:
    """Run a U-Net until all named modules have run, then stop it.

    The queries and keys of an attention are the outputs of its `to_q` and `to_k`, heads
    concatenated. Reading them there works with every implementation of attention.

    Args:
        unet: The network.
        names: Dotted names of modules.
        forward: Runs the network once.

    Returns:
        The outputs by name; the first tensor if a module returns several. Modules that never ran
        are left out.

    Raises:
        AttributeError: The network has no such module.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output
            if len(outputs) == len(names):
                raise _Reached

        return hook

    handles = [unet.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        forward()
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return outputs


class _Projected(torch.nn.Module):
    """Replaces a projection of the prompt by its constant result."""

    def __init__(self, projected: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("projected", projected, persistent=False)

    def forward(self, prompt: torch.Tensor) -> torch.Tensor:
        return self.projected.expand(len(prompt), -1, -1)  # pyright: ignore[reportCallIssue]


@torch.inference_mode()
def project_prompt_once(unet: torch.nn.Module, prompt: torch.Tensor) -> None:
    """Replace a U-Net's projections of the prompt by their results, in place.

    In SDXL this saves 13 % of the weights and 2.1 % of the FLOPs of a forward; in Stable Diffusion
    2.1, 0.3 % of the FLOPs.

    Args:
        unet: The network. Afterwards it ignores any other prompt.
        prompt: (1, T, D), on the U-Net's device and in its precision.
    """
    for name, attention in list(unet.named_modules()):
        # If the prompt is normalized or projected first, each attention gets a different one.
        if (
            isinstance(attention, Attention)
            and attention.is_cross_attention
            and attention.norm_cross is None
            and attention.cross_attention_dim == prompt.shape[2]
        ):
            for tail in ("to_k", "to_v"):
                projection = attention.get_submodule(tail)
                unet.set_submodule(f"{name}.{tail}", _Projected(projection(prompt)))
