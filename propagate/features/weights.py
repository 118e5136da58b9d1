"""Loading one part of a model folder: whole, quietly, and with errors that name the part."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import DDPMScheduler

from propagate.errors import ModelError
from propagate.features.model_folder import ModelFolder
from propagate.features.reading import Reading, find_block
from propagate.features.unet import one_line


def load_weights(folder: ModelFolder, model_class: Any, part: str | None, dtype: torch.dtype):
    """Load a part with every weight it has; neither library insists on that by itself."""
    with loading(folder, part or "U-Net"):
        model, report = model_class.from_pretrained(
            folder.path / part if part else folder.path,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    check_nothing_is_missing(folder, part or "U-Net", report["missing_keys"])
    return model.eval()


def load_scheduler(folder: ModelFolder) -> DDPMScheduler:
    """Read the noise schedule. Whatever sampler was saved, DDPM's forward process is the same."""
    with loading(folder, "scheduler"):
        return DDPMScheduler.from_pretrained(folder.path / "scheduler")  # pyright: ignore[reportReturnType]


def with_block_found(folder: ModelFolder, unet: Any, reading: Reading) -> Reading:
    """The reading, its block by dotted name."""
    try:
        return replace(reading, block=find_block(unet, reading.block))
    except LookupError as error:
        raise ModelError(
            f"model {folder.name}: its U-Net cannot be read at {reading.block!r}: {error}; use "
            "another recipe, or a Stable Diffusion pipeline"
        ) from error


def check_nothing_is_missing(folder: ModelFolder, part: str, missing: Iterable[str]) -> None:
    """See that no weight's name is in `missing`.

    Raises:
        ModelError: One is.
    """
    names = sorted(missing)
    if names:
        raise ModelError(
            f"model {folder.name}: {len(names)} weights of its {part} are not in its "
            f"file, {names[0]} for one; fetch the model again"
        )


@contextmanager
def loading(folder: ModelFolder, part: str) -> Iterator[None]:
    """Say which part of which model it was that failed to load."""
    try:
        yield
    # Damaged files show as exceptions of any kind, from four libraries.
    except Exception as error:
        raise ModelError(
            f"model {folder.name}: its {part} in {folder.path} is damaged or of another kind "
            f"({one_line(error)}); fetch the model again"
        ) from error


@contextmanager
def quiet(logs: Any) -> Iterator[None]:
    """Keep a library's bars and remarks off stderr, and leave its settings as they were.

    Args:
        logs: Its `utils.logging`, which diffusers and transformers have alike.
    """
    level, bar = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bar:
            logs.enable_progress_bar()
