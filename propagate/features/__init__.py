"""Backbones: what turns frames into a grid of feature vectors. One registry, and it is a dict."""

from collections.abc import Sequence
from typing import Protocol

import torch

from propagate.collector import collector_paused
from propagate.config import TEMPLATE
from propagate.errors import DeviceError, ModelError
from propagate.features.device import choose_device, choose_dtype
from propagate.features.presets import find_preset
from propagate.features.reading import Reading
from propagate.features.recipes import RECIPES


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


def load_backbone(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    recipe: str | None = None,
    class_names: Sequence[str] = (),
    template: str = TEMPLATE,
    compile: bool = False,
) -> Backbone:
    """Load a model by preset name, local folder or hub id.

    Args:
        model: A key of `PRESETS`, a folder in diffusers layout (a `UNet2DModel`, or a pipeline with
            one or with VAE, text encoder and `UNet2DConditionModel`), or such a hub id.
        device: "auto" (CUDA if there is one, else CPU) or a torch device name.
        dtype: "auto" (half precision where the device computes it faster) or "float32", "bfloat16",
            "float16".
        recipe: A key of `RECIPES`: what is read, and how the frame is noised. None: what the preset
            or the model's own `reading.json` says, else "default".
        class_names: Classes the U-Net is told of ("dog"), for semantic maps; each once.
        template: The prompt around them, with {name} in their place.
        compile: Compile the U-Net's blocks with `torch.compile`: the first frames of a size take
            minutes, the others less.

    Raises:
        ValueError: No recipe has that name, or the names or the template cannot be used.
        ModelError: There is no such model, it cannot be reached, or parts of it are missing.
        DeviceError: The device is not there, or too small for the model.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    if recipe is not None and recipe not in RECIPES:
        raise ValueError(f"no recipe is named {recipe!r}; there are {', '.join(RECIPES)}")
    preset = find_preset(model)
    if preset.source is None:
        from propagate.features.pixels import ColorBackbone

        if recipe is not None or class_names:
            raise ModelError(
                f"model {model}: it reads plain colours; leave recipe and class names out, or pass "
                "another model"
            )
        return ColorBackbone(where)
    # Imported here: diffusers takes seconds, and whoever asks for colours need not wait for it.
    with collector_paused():
        from propagate.features.loading import load_diffusion
        from propagate.features.text import Text

    chosen = preset.recipe if recipe is None else RECIPES[recipe]
    text = Text("" if chosen is None else chosen.prompt, tuple(class_names), template)
    try:
        return load_diffusion(
            *(model, preset.source, where, precision, chosen and chosen.reading, text),
            unet_weights=preset.unet_weights,
            untrained_seed=preset.untrained_seed,
            compiled=compile,
        )
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"model {model} does not fit into the memory of {where}: use a smaller one, "
            "or --device cpu"
        ) from error
