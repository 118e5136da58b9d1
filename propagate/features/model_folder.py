"""Find model folders in diffusers layout and check that they are complete."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.errors import ModelError
from propagate.features.hub import cached, download

PIXEL_UNET = "UNet2DModel"
TEXT_UNET = "UNet2DConditionModel"
# The parts of a pipeline that are loaded, by the class of its U-Net.
PARTS = {
    PIXEL_UNET: ("unet", "scheduler"),
    TEXT_UNET: ("unet", "scheduler", "vae", "text_encoder", "tokenizer"),
}
# Additional parts of Stable Diffusion XL.
SECOND_TEXT = ("text_encoder_2", "tokenizer_2")
# The files of a part; one file of each tuple is enough. A model in several files has an index.
DIFFUSERS_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
_TEXT_ENCODER = (("config.json",), ("model.safetensors", "model.safetensors.index.json"))
_TOKENIZER = (("tokenizer.json", "vocab.json"), ("tokenizer.json", "merges.txt"))
PART_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    "unet": (("config.json",), DIFFUSERS_WEIGHTS),
    "vae": (("config.json",), DIFFUSERS_WEIGHTS),
    "scheduler": (("scheduler_config.json",),),
    "text_encoder": _TEXT_ENCODER,
    "text_encoder_2": _TEXT_ENCODER,
    "tokenizer": _TOKENIZER,
    "tokenizer_2": _TOKENIZER,
}

OFFLINE = "without a network, use tiny, color or a local folder"
FETCH_HINT = "fetch the model again"
MIXED_HINT = "use parts of one model only"


@dataclass(frozen=True, slots=True)
class UnetWeights:
    """Weights on the hub that replace those of a pipeline's U-Net.

    Attributes:
        source: Hub id (owner/name).
        file: Name of the safetensors file, with the weight names of `UNet2DConditionModel`.
    """

    source: str
    file: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that diffusers' `save_pretrained` wrote: a pipeline, or a U-Net alone.

    Attributes:
        name: The name the user gave, for messages.
        path: The folder.
        unet_weights: A file that replaces the weights in `unet/`.
    """

    name: str
    path: Path
    unet_weights: Path | None = None

    def read_json(self, file: str) -> dict[str, Any] | None:
        """Read a JSON file of the folder; None if it does not exist.

        Raises:
            ModelError: The file is no JSON object.
        """
        path = self.path / file
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {self.name}: {path} cannot be read ({error})", FETCH_HINT
            ) from error
        if not isinstance(content, dict):
            raise ModelError(f"model {self.name}: {path} is no JSON object", FETCH_HINT)
        return content

    @property
    def is_pipeline(self) -> bool:
        """Whether it is a pipeline, with parts in subfolders and a model_index.json."""
        return (self.path / "model_index.json").is_file()

    @property
    def unet_class(self) -> str:
        """Class of the U-Net, a key of `PARTS`.

        Raises:
            ModelError: There is no U-Net, or its class is not supported.
        """
        if self.is_pipeline:
            index = self.read_json("model_index.json") or {}
            entry = index.get("unet")
            found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        else:
            config = self.read_json("config.json")
            if config is None:
                raise ModelError(
                    f"model {self.name}: {self.path} has neither model_index.json nor config.json",
                    "pass a folder that diffusers' save_pretrained wrote",
                )
            found = config.get("_class_name")
            if found == TEXT_UNET:
                raise ModelError(
                    f"model {self.name}: {self.path} is a {TEXT_UNET} alone",
                    "pass the whole pipeline, with VAE, text encoder and tokenizer",
                )
        if found not in PARTS:
            raise ModelError(
                f"model {self.name}: it is built around {found or 'no U-Net'}",
                f"pass a {PIXEL_UNET} or a Stable Diffusion 1.x, 2.x or XL pipeline",
            )
        return found

    @property
    def has_two_text_encoders(self) -> bool:
        """Whether it is a Stable Diffusion XL pipeline."""
        index = self.read_json("model_index.json") or {}
        entry = index.get("text_encoder_2")
        # A pipeline saved without this part has [null, null] here.
        return isinstance(entry, list) and entry[-1:] != [None]

    def check_complete(self) -> None:
        """Check that every file that will be loaded exists.

        Raises:
            ModelError: A file is missing, or this kind of model is not supported.
        """
        parts = PARTS[self.unet_class] + (SECOND_TEXT if self.has_two_text_encoders else ())
        folders = (
            {part: self.path / part for part in parts} if self.is_pipeline else {"unet": self.path}
        )
        if self.unet_weights is not None and not self.unet_weights.is_file():
            raise ModelError(f"model {self.name}: {self.unet_weights} is missing", FETCH_HINT)
        for part, folder in folders.items():
            wanted = PART_FILES[part]
            if part == "unet" and self.unet_weights is not None:
                wanted = tuple(files for files in wanted if files is not DIFFUSERS_WEIGHTS)
            check_files(self.name, folder, wanted)

    @property
    def is_complete(self) -> bool:
        """Whether no file is missing. The files are not opened."""
        try:
            self.check_complete()
        except ModelError:
            return False
        return True


def check_files(name: str, folder: Path, wanted: Iterable[Sequence[str]]) -> None:
    """Check that a folder has one file of each of these groups.

    Raises:
        ModelError: A group has none.
    """
    for files in wanted:
        if any((folder / file).is_file() for file in files):
            continue
        missing = f"model {name}: {folder / files[0]} is missing"
        unsafe = next(iter(sorted(folder.glob("*.bin"))), None)
        if unsafe is not None and files[0].endswith(".safetensors"):
            raise ModelError(
                f"{missing}, and {unsafe.name} is not read because it can run code",
                "save the model again with safe_serialization=True",
            )
        raise ModelError(missing, "compare the folder with what save_pretrained writes")


def refuse_file(name: str, path: Path) -> None:
    """Refuse a file in place of a model's folder.

    Raises:
        ModelError: The path is a file.
    """
    if path.exists() and not path.is_dir():
        raise ModelError(f"model {name}: {path} is a file", "pass the folder of the model")


def open_model_folder(
    name: str, source: str, unet_weights: UnetWeights | None = None
) -> ModelFolder:
    """Open a local folder, or a hub id from the local cache or by download.

    A cached model is used without asking the hub for a newer version, so that a result can be
    reproduced with and without a network.

    Args:
        name: The name the user gave, for messages.
        source: Folder, or hub id (owner/name).
        unet_weights: Weights that replace those of the pipeline's U-Net.

    Raises:
        ModelError: The model does not exist or cannot be reached, or files are missing.
    """
    path = Path(source)
    refuse_file(name, path)
    folder = cached_model_folder(name, source, unet_weights)
    if folder is None:
        files = None
        path = (
            path
            if path.is_dir()
            else download(name, source, _patterns(unet_weights), offline=OFFLINE)
        )
        if unet_weights is not None:
            files = download(name, unet_weights.source, [unet_weights.file], offline=OFFLINE)
            files /= unet_weights.file
        folder = ModelFolder(name, path, files)
    folder.check_complete()
    return folder


def cached_model_folder(
    name: str, source: str, unet_weights: UnetWeights | None = None
) -> ModelFolder | None:
    """Return the model if it is complete in its folder or the local cache. Uses no network."""
    path = Path(source) if Path(source).is_dir() else cached(source, _patterns(unet_weights))
    if path is None:
        return None
    folder = ModelFolder(name, path)
    if unet_weights is not None:
        files = cached(unet_weights.source, [unet_weights.file])
        if files is None:
            return None
        folder = ModelFolder(name, path, files / unet_weights.file)
    # An interrupted download leaves an incomplete copy in the cache.
    return folder if folder.is_complete else None


def _patterns(unet_weights: UnetWeights | None) -> list[str]:
    """Return the patterns of the files that are loaded from a hub model.

    Copies in other formats and precisions and unused parts, such as the safety checker, are left
    out.
    """
    weights = {
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
        "text_encoder": "model",
        "text_encoder_2": "model",
    }
    if unet_weights is not None:
        del weights["unet"]
    return [
        *("model_index.json", "reading.json"),
        # For a U-Net alone.
        *("config.json", "diffusion_pytorch_model.safetensors"),
        *(f"{part}/*.json" for part in PART_FILES),
        *(f"{part}/merges.txt" for part in ("tokenizer", "tokenizer_2")),
        *(f"{part}/{name}.safetensors" for part, name in weights.items()),
        *(f"{part}/{name}-*-of-*.safetensors" for part, name in weights.items()),
    ]
