"""What is read from a U-Net, and how its input is noised."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from propagate.features.inversion import Inversion

TensorName = Literal["resnet", "q", "k", "qk"]
NoiseName = Literal["fixed", "none"]

# Modules of a transformer block: self-attention, then cross-attention.
QUERIES = "attn1.to_q"
KEYS = "attn1.to_k"
CROSS_QUERIES = "attn2.to_q"
CROSS_KEYS = "attn2.to_k"
# The modules of each tensor, relative to `Reading.block`. Several are averaged.
MODULES: dict[TensorName, tuple[str, ...]] = {
    "resnet": ("",),
    "q": (QUERIES,),
    "k": (KEYS,),
    "qk": (QUERIES, KEYS),
}
# Blocks that are found from the structure of the U-Net.
UP_BLOCK = "second-finest-up-block"
FIRST_ATTENTION = "first-attention-of-last-layer"
LAST_ATTENTION = "last-attention-of-last-layer"


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read from a U-Net. A model folder may contain its own as `reading.json`.

    Attributes:
        block: Dotted name of a module of the U-Net, for `q`, `k` and `qk` of a transformer block;
            or one of `UP_BLOCK`, `FIRST_ATTENTION`, `LAST_ATTENTION`.
        timestep: Noise level of the frame, in steps of the training schedule. With an inversion,
            the nearest level of the inversion is used.
        scale: Size of the U-Net's input image relative to the working size of the frame.
        tensor: `resnet`: the module's output; `q` or `k`: queries or keys of the block's
            self-attention, heads concatenated; `qk`: their mean (PDM, eq. 1).
        ensemble: Number of noises; each takes a forward, and their features are averaged (DIFT).
        noise: `fixed`: the same noise for every frame; `none`: the U-Net gets the clean frame and
            still gets `timestep` (CleanDIFT).
        inversion: Noise the frame by inversion to the top of the schedule and denoise it to
            `timestep`. None: add a fixed noise.
        posterior_seed: Seed of a sample from the VAE's posterior; None: use its mode.
        finer: Dotted name of a module at a finer level. Its output is averaged over each cell of
            the block and appended as more channels. None: only the block is read.
    """

    block: str
    timestep: int
    scale: float = 1.0
    tensor: TensorName = "resnet"
    ensemble: int = 1
    noise: NoiseName = "fixed"
    inversion: Inversion | None = None
    posterior_seed: int | None = None
    finer: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.block, str) or not self.block:
            raise ValueError(f"block: the dotted name of a module, not {self.block!r}")
        if not isinstance(self.timestep, int) or self.timestep < 0:
            raise ValueError(f"timestep: an integer, 0 or more, not {self.timestep!r}")
        if not isinstance(self.scale, int | float) or not 0 < self.scale < math.inf:
            raise ValueError(f"scale: a number above 0, not {self.scale!r}")
        if self.tensor not in get_args(TensorName):
            raise ValueError(f"tensor: {', '.join(get_args(TensorName))}, not {self.tensor!r}")
        if not isinstance(self.ensemble, int) or self.ensemble < 1:
            raise ValueError(f"ensemble: an integer, 1 or more, not {self.ensemble!r}")
        if self.noise not in get_args(NoiseName):
            raise ValueError(f"noise: {', '.join(get_args(NoiseName))}, not {self.noise!r}")
        if self.noise == "none" and (self.inversion is not None or self.ensemble > 1):
            raise ValueError("noise: fixed with an inversion or an ensemble")
        if self.inversion is not None and not isinstance(self.inversion, Inversion):
            raise ValueError(f"inversion: an Inversion or None, not {self.inversion!r}")
        if self.inversion is not None and self.ensemble > 1:
            raise ValueError("ensemble: 1 with an inversion, which has no noise to draw")
        if not isinstance(self.posterior_seed, int | None):
            raise ValueError(f"posterior_seed: an integer or None, not {self.posterior_seed!r}")
        if not isinstance(self.finer, str | None) or self.finer == "":
            raise ValueError(f"finer: the dotted name of a module or None, not {self.finer!r}")


def find_block(unet: torch.nn.Module, block: str) -> str:
    """Return the dotted name of `Reading.block` in this U-Net.

    Raises:
        LookupError: The block is an attention, and no up block has one.
    """
    ups = unet.get_submodule("up_blocks")
    if block == UP_BLOCK:
        # DIFT's choice in a U-Net of four levels. Counting from the end fits any depth.
        return f"up_blocks.{max(0, len(list(ups.children())) - 2)}"
    if block not in (FIRST_ATTENTION, LAST_ATTENTION):
        return block
    # SDXL's finest layer has no attention, so its last layer is the one before.
    for level, layer in reversed(list(ups.named_children())):
        names = [name for name, _ in layer.named_modules() if name.endswith("transformer_blocks.0")]
        if names:
            return f"up_blocks.{level}.{names[0 if block == FIRST_ATTENTION else -1]}"
    raise LookupError("it has no transformer block on its way up")


def attention_in(unet: torch.nn.Module, block: str) -> str | None:
    """Return the dotted name of a module's last transformer block, which may be the module itself.

    Its cross-attention can be read at no cost, because it runs with the module.
    """
    if block not in dict(unet.named_modules()):
        return None
    inside = [name for name, _ in unet.get_submodule(block).named_modules()]
    for name in reversed(inside):
        if re.search(r"transformer_blocks\.\d+$", f"{block}.{name}" if name else block):
            return f"{block}.{name}" if name else block
    return None
