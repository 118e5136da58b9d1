"""The files that a model was loaded from, as checksums: a result says what made it."""

from functools import partial
from typing import Any

import torch

from propagate.features.engine import choose_engine
from propagate.features.file_hashes import Origin, hash_files, sha256_of
from propagate.features.int8_weights import FILES, Int8Weights, find_int8
from propagate.features.model_folder import (
    PART_FILES,
    PARTS,
    SECOND_TEXT,
    ModelFolder,
    open_model_folder,
)
from propagate.features.presets import find_preset


def origin_of(
    folder: ModelFolder, untrained_seed: int | None = None, int8: Int8Weights | None = None
) -> Origin:
    """Find and hash the files of a diffusion model that are loaded.

    Args:
        folder: A complete one.
        untrained_seed: Of random weights that replace those of the U-Net.
        int8: The int8 network that is run, if one is.
    """
    parts = ("unet",)
    if folder.is_pipeline:
        parts = PARTS[folder.unet_class]
        parts += SECOND_TEXT if folder.has_two_text_encoders else ()
    files: list[str] = ["reading.json"]
    for part in parts:
        prefix = f"{part}/" if folder.is_pipeline else ""
        files += [f"{prefix}{name}" for names in PART_FILES[part] for name in names]
    origin = hash_files(folder.path, files)
    weights = dict(origin.weights)
    if folder.unet_weights is not None:
        weights = {name: value for name, value in weights.items() if not name.startswith("unet/")}
        weights[folder.unet_weights.name] = sha256_of(folder.unet_weights)
    if untrained_seed is not None:
        weights = {"seed": str(untrained_seed)}
    replaced = FILES if int8 is not None else ()
    return Origin(
        weights,
        origin.model_config,
        {name: sha256_of(folder.path / name) for name in replaced},
    )


def made_of(backbone: Any) -> dict[str, Any]:
    """Say what computes the features, as plain values for a report.

    Args:
        backbone: A loaded one. Of one that somebody else has made, what it does not say is None.
    """
    dtype, origin = getattr(backbone, "dtype", None), getattr(backbone, "origin", None)
    compiled = bool(getattr(backbone, "compiled", False))
    return _made_of(getattr(backbone, "engine", "torch"), dtype, origin, compiled)


def will_be_made_of(
    model: str,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    recipe: str | None = None,
) -> dict[str, Any]:
    """Say the same of a model before it is loaded.

    Args:
        model, device, dtype, engine, recipe: See `load_backbone`.

    Raises:
        ModelError, DeviceError, ValueError: See `load_backbone`.
    """
    chosen = choose_engine(engine, device, dtype, find_int8=partial(find_int8, model, recipe))
    preset = find_preset(model)
    if preset.source is None:
        return _made_of("torch", torch.float32, Origin(), False)
    folder = open_model_folder(model, preset.source, preset.unet_weights)
    origin = origin_of(folder, preset.untrained_seed, chosen.int8)
    return _made_of(chosen.name, chosen.dtype, origin, False)


def _made_of(
    engine: str, dtype: torch.dtype | None, origin: Origin | None, compiled: bool
) -> dict[str, Any]:
    return {
        "engine": engine,
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "compile": compiled,
        "weights": None if origin is None else dict(origin.weights),
        "model_config": None if origin is None else dict(origin.model_config),
        **({"int8": dict(origin.int8)} if origin is not None and origin.int8 else {}),
    }
