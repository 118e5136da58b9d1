"""Outputs of modules, an attention's projections among them, of a forward that stops early."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class _Reached(Exception):
    """Leaves the U-Net; nothing after it is computed."""


def outputs_of(
    unet: torch.nn.Module, names: Sequence[str], forward: Callable[[], Any]
) -> dict[str, torch.Tensor]:
    """Run a U-Net until each of the named modules has run, and no further.

    An attention's queries and keys are the outputs of its `to_q` and `to_k`, heads side by side;
    read there, the attention itself may be computed in any way, or not at all.

    Args:
        unet: The network.
        names: Dotted names of modules.
        forward: Runs the network once.

    Returns:
        The outputs by name, of the first tensor where there are several; those that never ran are
        left out.

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
