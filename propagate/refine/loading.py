"""SAM and SAM 2 in transformers layout: find the folder, check that it is complete, load it."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from propagate.errors import ModelError
from propagate.features.hub import cached, download, one_line
from propagate.features.model_folder import FETCH_HINT, ModelFolder, check_files, refuse_file
from propagate.features.origin import hash_files
from propagate.features.weights import align, check_nothing_is_missing, loading, quiet
from propagate.refine.sam import PixelScaling, Sam

# The model_type in config.json -> the class that reads it. Meta's own SAM 2 folders are of type
# sam2_video: the same model with a memory, which is not loaded.
CLASSES = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
# The files of a model; one of each tuple is enough. transformers 5 writes the settings of the image
# processor into the second file of its tuple.
FILES = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("model.safetensors", "model.safetensors.index.json"),
)
OFFLINE = "without a network, pass a folder in transformers layout"
DOWNLOADED = (*(file for files in FILES for file in files), "model-*-of-*.safetensors")


def open_sam(name: str, source: str, device: torch.device, dtype: torch.dtype) -> Sam:
    """Load a model from a folder, from the local cache of the hub, or else by download.

    Args:
        name: What the user called it, for messages.
        source: Folder or hub id of a `SamModel`, `Sam2Model` or `Sam2VideoModel`.
        device: Where to compute.
        dtype: Precision of the image encoder.

    Raises:
        ModelError: It cannot be reached, is of another kind, or files are missing or damaged.
    """
    folder = _open_folder(name, source)
    kind = (folder.read_json("config.json") or {}).get("model_type")
    if kind not in CLASSES:
        raise ModelError(
            f"model {name}: {folder.path} holds {f'a {kind} model' if kind else 'no model'}",
            "pass a SAM or SAM 2 in transformers layout",
        )
    scaling = _read_scaling(folder)
    sam = Sam(name, _load_model(folder, CLASSES[kind]), scaling, device, dtype)
    sam.origin = hash_files(folder.path, [name for names in FILES for name in names])
    return sam


def _load_model(folder: ModelFolder, class_name: str) -> Any:
    import transformers

    model_class = getattr(transformers, class_name, None)
    if model_class is None:
        raise ModelError(
            f"model {folder.name}: transformers {transformers.__version__} has no {class_name}",
            "pip install -U transformers",
        )
    with loading(folder, "SAM"), quiet(transformers.utils.logging):
        model, report = model_class.from_pretrained(
            folder.path,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    check_nothing_is_missing(folder, "SAM", report["missing_keys"])
    return align(model.float())


def _read_scaling(folder: ModelFolder) -> PixelScaling:
    """Read the settings of the image processor; missing ones have their defaults."""
    settings = folder.read_json("preprocessor_config.json")
    if settings is None:
        settings = (folder.read_json("processor_config.json") or {}).get("image_processor")
    if settings is None:
        raise ModelError(
            f"model {folder.name}: {folder.path / 'preprocessor_config.json'} is missing",
            "save the image processor there with save_pretrained",
        )
    usual = PixelScaling()
    try:
        normalized = settings.get("do_normalize", True)
        return PixelScaling(
            mean=tuple(settings.get("image_mean", usual.mean)) if normalized else (0.0,) * 3,
            std=tuple(settings.get("image_std", usual.std)) if normalized else (1.0,) * 3,
            factor=settings.get("rescale_factor", usual.factor),
            resample=Image.Resampling(settings.get("resample", usual.resample)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"model {folder.name}: the settings of its image processor in {folder.path} cannot be "
            f"used ({one_line(error)})",
            FETCH_HINT,
        ) from error


def _open_folder(name: str, source: str) -> ModelFolder:
    path = Path(source)
    refuse_file(name, path)
    if not path.is_dir():
        path = _cached(source) or download(name, source, DOWNLOADED, offline=OFFLINE)
    check_files(name, path, FILES)
    return ModelFolder(name, path)


def _cached(source: str) -> Path | None:
    """Return a complete copy in the local cache of the hub, or None. Uses no network."""
    path = cached(source, DOWNLOADED)
    if path is None:
        return None
    try:
        check_files(source, path, FILES)
    except ModelError:  # an interrupted download leaves an incomplete copy
        return None
    return path
