"""Model folders in diffusers layout: where one is, and whether all of it is there."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.errors import ModelError

PIXEL_UNET = "UNet2DModel"
TEXT_UNET = "UNet2DConditionModel"
# What is loaded of a pipeline, by the class of its U-Net.
PARTS = {
    PIXEL_UNET: ("unet", "scheduler"),
    TEXT_UNET: ("unet", "scheduler", "vae", "text_encoder", "tokenizer"),
}
# The files of a part; of those in one tuple, any one will do. A split model has an index.
DIFFUSERS_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
PART_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    "unet": (("config.json",), DIFFUSERS_WEIGHTS),
    "vae": (("config.json",), DIFFUSERS_WEIGHTS),
    "scheduler": (("scheduler_config.json",),),
    "text_encoder": (("config.json",), ("model.safetensors", "model.safetensors.index.json")),
    "tokenizer": (("tokenizer.json", "vocab.json"), ("tokenizer.json", "merges.txt")),
}
# What a download fetches: not the copies of the weights in other formats and precisions.
DOWNLOADED = (
    "model_index.json",
    "config.json",
    "reading.json",
    "diffusion_pytorch_model.safetensors",
    *(f"{part}/*.json" for part in PART_FILES),
    "tokenizer/*.txt",
    "*/model.safetensors",
    "*/model-*-of-*.safetensors",
    "*/diffusion_pytorch_model.safetensors",
    "*/diffusion_pytorch_model-*-of-*.safetensors",
)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that diffusers' `save_pretrained` wrote: a pipeline, or a U-Net alone.

    Attributes:
        name: What the user called the model, for messages.
        path: Where it is.
    """

    name: str
    path: Path

    def read_json(self, file: str) -> dict[str, Any] | None:
        """Read one of its small files; None where it is not there.

        Raises:
            ModelError: It is no JSON object.
        """
        path = self.path / file
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {self.name}: {path} cannot be read ({error}); fetch the model again"
            ) from error
        if not isinstance(content, dict):
            raise ModelError(f"model {self.name}: {path} is no JSON object; fetch the model again")
        return content

    @property
    def is_pipeline(self) -> bool:
        """Whether the parts lie in folders of their own, listed in model_index.json."""
        return (self.path / "model_index.json").is_file()

    @property
    def unet_class(self) -> str:
        """Class of the U-Net, one of the keys of `PARTS`.

        Raises:
            ModelError: There is none, or it is another.
        """
        if self.is_pipeline:
            index = self.read_json("model_index.json") or {}
            entry = index.get("unet")
            found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
            if "text_encoder_2" in index:
                found = f"{found} with two text encoders (SDXL)"
        else:
            config = self.read_json("config.json")
            if config is None:
                raise ModelError(
                    f"model {self.name}: {self.path} holds neither model_index.json nor "
                    "config.json; pass a folder that diffusers' save_pretrained wrote"
                )
            found = config.get("_class_name")
            if found == TEXT_UNET:
                raise ModelError(
                    f"model {self.name}: {self.path} is a {TEXT_UNET} alone; pass the whole "
                    "pipeline, with VAE, text encoder and tokenizer"
                )
        if found not in PARTS:
            raise ModelError(
                f"model {self.name}: it is built around {found or 'no U-Net'}; "
                f"pass a {PIXEL_UNET} or a Stable Diffusion 1.x or 2.x pipeline"
            )
        return found

    def check_complete(self) -> None:
        """See that every file that will be loaded is there.

        Raises:
            ModelError: One is not, or the model is of a kind that cannot be used.
        """
        unet_class = self.unet_class
        folders = (
            {part: self.path / part for part in PARTS[unet_class]}
            if self.is_pipeline
            else {"unet": self.path}
        )
        for part, folder in folders.items():
            for files in PART_FILES[part]:
                if any((folder / file).is_file() for file in files):
                    continue
                unsafe = next(iter(sorted(folder.glob("*.bin"))), None)
                reason = (
                    f" ({unsafe.name} there is not read: such a file can run code; save it again "
                    "with safe_serialization=True)"
                    if unsafe is not None and files[0].endswith(".safetensors")
                    else "; compare the folder with what diffusers' save_pretrained writes"
                )
                raise ModelError(f"model {self.name}: {folder / files[0]} is missing{reason}")

    @property
    def is_complete(self) -> bool:
        """Whether it can be loaded, as far as the names of its files tell."""
        try:
            self.check_complete()
        except ModelError:
            return False
        return True


def open_model_folder(name: str, source: str) -> ModelFolder:
    """Find a model: a folder as it is, a hub id in the local cache, else downloaded.

    A cached model is used as it is, without asking the hub for a newer one: a result can be rerun,
    with and without a network.

    Args:
        name: What the user called it, for messages.
        source: Folder, or hub id (owner/name).

    Raises:
        ModelError: There is none, it cannot be reached, or files are missing.
    """
    path = Path(source)
    if path.exists() and not path.is_dir():
        raise ModelError(f"model {name}: {path} is a file; pass the folder of the model")
    if path.is_dir():
        folder = ModelFolder(name, path)
    else:
        folder = cached_model_folder(name, source) or _download(name, source)
    folder.check_complete()
    return folder


def cached_model_folder(name: str, source: str) -> ModelFolder | None:
    """The complete copy of a hub model in the local cache, if there is one. Uses no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = snapshot_download(source, local_files_only=True, allow_patterns=list(DOWNLOADED))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
    folder = ModelFolder(name, Path(path))
    # An interrupted download leaves a part of it.
    return folder if folder.is_complete else None


def _download(name: str, source: str) -> ModelFolder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        return ModelFolder(name, Path(snapshot_download(source, allow_patterns=list(DOWNLOADED))))
    except HFValidationError as error:
        reason, cause = "that is neither a folder here nor a hub id (owner/name)", error
    except GatedRepoError as error:
        reason = "its owner asks for consent: give it on the model's page, then `hf auth login`"
        cause = error
    except RepositoryNotFoundError as error:
        reason = "the hub has no such model: it has moved, or is private (`hf auth login`)"
        cause = error
    # Whatever the HTTP client of the day raises: no network, a proxy, a full disk.
    except Exception as error:
        reason = f"it could not be downloaded ({_root_cause(error)})"
        cause = error
    what = name if name == source else f"{name} ({source})"
    raise ModelError(
        f"model {what}: {reason}; without a network there are tiny, color and local folders"
    ) from cause


def _root_cause(error: BaseException) -> str:
    """What went wrong first, on one line: the hub's own message is a paragraph of advice."""
    *_, root = _chain(error)
    return " ".join(str(root).split())[:200].rstrip(".") or type(root).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
