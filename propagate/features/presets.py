"""The models that have a name."""

from dataclasses import dataclass
from pathlib import Path

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
        size_mb=4266,
    ),
    "sd21": Preset(
        source="stabilityai/stable-diffusion-2-1",
        description="Stable Diffusion 2.1; downloaded on first use",
        license="CreativeML OpenRAIL++-M",
        size_mb=5214,
    ),
}


def is_present(preset: Preset) -> bool:
    """Whether the model can be loaded without a download."""
    if preset.source is None:
        return True
    if Path(preset.source).is_absolute():
        return Path(preset.source, "model_index.json").exists()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(preset.source, "model_index.json"), str)
