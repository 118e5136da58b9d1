"""SAM and SAM 2 in transformers layout: find the folder, check that it is complete, load it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from propagate.errors import ModelError
from propagate.features.hub import cached, download, root_cause
from propagate.features.model_folder import ModelFolder
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
            f"model {name}: {folder.path} holds {f'a {kind} model' if kind else 'no model'}; "
            "pass a SAM or SAM 2 in transformers layout"
        )
    scaling = _read_scaling(folder)
    return Sam(name, _load_model(folder, CLASSES[kind]), scaling, device, dtype)


def _load_model(folder: ModelFolder, class_name: str) -> Any:
    import transformers

    model_class = getattr(transformers, class_name, None)
    if model_class is None:
        raise ModelError(
            f"model {folder.name}: transformers {transformers.__version__} has no {class_name}; "
            "pip install -U transformers"
        )
    try:
        with _quiet(transformers.utils.logging):
            model, report = model_class.from_pretrained(
                folder.path,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    # Damaged files raise exceptions of many kinds, from three libraries.
    except Exception as error:
        raise ModelError(
            f"model {folder.name}: {folder.path} is damaged or of another kind "
            f"({root_cause(error)}); fetch the model again"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"model {folder.name}: {len(missing)} of its weights are not in {folder.path}, "
            f"{missing[0]} for one; fetch the model again"
        )
    return model.float()


def _read_scaling(folder: ModelFolder) -> PixelScaling:
    """Read the settings of the image processor; missing ones have their defaults."""
    settings = folder.read_json("preprocessor_config.json")
    if settings is None:
        settings = (folder.read_json("processor_config.json") or {}).get("image_processor")
    if settings is None:
        raise ModelError(
            f"model {folder.name}: {folder.path / 'preprocessor_config.json'} is missing; save "
            "the image processor there with save_pretrained"
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
            f"used ({root_cause(error)}); fetch the model again"
        ) from error


def _open_folder(name: str, source: str) -> ModelFolder:
    path = Path(source)
    if path.exists() and not path.is_dir():
        raise ModelError(f"model {name}: {path} is a file; pass the folder of the model")
    if not path.is_dir():
        path = _cached(source) or download(name, source, DOWNLOADED, offline=OFFLINE)
    missing = _missing_file(path)
    if missing is not None:
        unsafe = next(iter(sorted(path.glob("*.bin"))), None)
        reason = (
            f" ({unsafe.name} there is not read: such a file can run code; save it again as "
            "safetensors)"
            if unsafe is not None and missing.endswith(".safetensors")
            else "; compare the folder with what transformers' save_pretrained writes"
        )
        raise ModelError(f"model {name}: {path / missing} is missing{reason}")
    return ModelFolder(name, path)


def _missing_file(folder: Path) -> str | None:
    for files in FILES:
        if not any((folder / file).is_file() for file in files):
            return files[0]
    return None


def _cached(source: str) -> Path | None:
    """Find a complete copy of a hub model in the local cache, without using the network."""
    path = cached(source, DOWNLOADED)
    # An interrupted download leaves an incomplete copy.
    return path if path is not None and _missing_file(path) is None else None


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Silence the progress bars and messages of transformers, and restore its settings."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
