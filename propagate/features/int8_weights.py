"""A model's network in whole numbers: `openvino/int8.*` in the folder of the model.

`samples/quantise_tiny.py` makes it once. It is used only with the weights and the reading that it
was made from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from propagate.features.file_hashes import hash_files
from propagate.features.model_folder import ModelFolder, open_model_folder
from propagate.features.presets import find_preset

# The network, its weights, and what they were made from.
NETWORK, WEIGHTS, MADE_FROM = "openvino/int8.xml", "openvino/int8.bin", "openvino/int8.json"
FILES = (NETWORK, WEIGHTS, MADE_FROM)


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """A network in whole numbers, for OpenVINO.

    Attributes:
        network: Its file; that of the weights lies beside it.
        modules: Dotted names of the modules of the U-Net whose outputs it gives, in their order.
    """

    network: Path
    modules: tuple[str, ...]


def find_int8(model: str, recipe: str | None = None) -> Int8Weights | None:
    """Find the int8 network of a model, if it has one for what is read.

    Args:
        model, recipe: See `load_backbone`.

    Raises:
        ModelError: There is no such model, it cannot be reached, or parts of it are missing.
    """
    preset = find_preset(model)
    another_reading = recipe is not None or preset.recipe is not None
    other_weights = preset.untrained_seed is not None or preset.unet_weights is not None
    if preset.source is None or another_reading or other_weights:
        return None
    folder = open_model_folder(model, preset.source)
    stored = folder.read_json(MADE_FROM)
    if stored is None or not all((folder.path / name).is_file() for name in FILES):
        return None
    if made_from(folder, stored["made_from"]) != stored["made_from"]:
        return None
    return Int8Weights(folder.path / NETWORK, tuple(stored["modules"]))


def made_from(folder: ModelFolder, names: Mapping[str, str]) -> dict[str, str]:
    """Hash the files that an int8 network is made from: name -> SHA-256."""
    found = hash_files(folder.path, names)
    return {**found.weights, **found.model_config}
