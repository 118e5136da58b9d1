"""The files that a model was loaded from, as checksums: a result says what made it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from propagate.features.device import choose_device, choose_dtype
from propagate.features.model_folder import (
    PART_FILES,
    PARTS,
    SECOND_TEXT,
    ModelFolder,
    open_model_folder,
)
from propagate.features.presets import find_preset

INDEX = ".safetensors.index.json"
READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model was loaded from.

    Attributes:
        weights: File, relative to the model's folder -> SHA-256. Random weights: "seed" -> it.
        model_config: The same of the files that say how the weights are used.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    model_config: Mapping[str, str] = field(default_factory=dict)


def origin_of(folder: ModelFolder, untrained_seed: int | None = None) -> Origin:
    """Find and hash the files of a diffusion model that are loaded.

    Args:
        folder: A complete one.
        untrained_seed: Of random weights that replace those of the U-Net.
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
    return Origin(weights, origin.model_config)


def hash_files(folder: Path, names: Iterable[str]) -> Origin:
    """Hash files of a folder, and the files of weights that an index among them names.

    Args:
        folder: The folder.
        names: Relative to it; those that do not exist are left out.
    """
    found = {name for name in names if (folder / name).is_file()}
    for index in [name for name in found if name.endswith(INDEX)]:
        with suppress(OSError, ValueError, AttributeError):
            shards = set(json.loads((folder / index).read_bytes())["weight_map"].values())
            found |= {str(Path(index).parent / shard) for shard in shards}
    hashes = {name: sha256_of(folder / name) for name in sorted(found)}
    weights = {n: value for n, value in hashes.items() if n.endswith(".safetensors")}
    return Origin(weights, {n: value for n, value in hashes.items() if n not in weights})


def sha256_of(path: Path) -> str:
    """Hash a file. A file that has not changed since it was hashed is not read again."""
    found = path.resolve()
    status = found.stat()
    return _sha256(found, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, _size: int, _changed_ns: int, _number: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def made_of(backbone: Any) -> dict[str, Any]:
    """Say what computes the features, as plain values for a report.

    Args:
        backbone: A loaded one. Of one that somebody else has made, what it does not say is None.
    """
    dtype, origin = getattr(backbone, "dtype", None), getattr(backbone, "origin", None)
    compiled = bool(getattr(backbone, "compiled", False))
    return _made_of(dtype, origin, compiled)


def will_be_made_of(model: str, device: str = "auto", dtype: str = "auto") -> dict[str, Any]:
    """Say the same of a model before it is loaded.

    Args:
        model, device, dtype: See `load_backbone`.

    Raises:
        ModelError, DeviceError, ValueError: See `load_backbone`.
    """
    precision = choose_dtype(dtype, choose_device(device))
    preset = find_preset(model)
    if preset.source is None:
        return _made_of(torch.float32, Origin(), False)
    folder = open_model_folder(model, preset.source, preset.unet_weights)
    return _made_of(precision, origin_of(folder, preset.untrained_seed), False)


def _made_of(dtype: torch.dtype | None, origin: Origin | None, compiled: bool) -> dict[str, Any]:
    return {
        "engine": "torch",
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "compile": compiled,
        "weights": None if origin is None else dict(origin.weights),
        "model_config": None if origin is None else dict(origin.model_config),
    }
