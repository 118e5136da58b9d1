"""Load one part of a model folder, quietly, checked, and with errors that name the part."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import DDPMScheduler

from propagate.errors import ModelError
from propagate.features.hub import one_line
from propagate.features.model_folder import FETCH_HINT, ModelFolder
from propagate.features.reading import Reading, find_block

# What PyTorch gives to the tensors that it makes.
ALIGNMENT_BYTES = 64


def load_weights(folder: ModelFolder, model_class: Any, part: str | None, dtype: torch.dtype):
    """Load a part and check that its file has every weight, which the libraries do not do."""
    with loading(folder, part or "U-Net"):
        model, report = model_class.from_pretrained(
            folder.path / part if part else folder.path,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    check_nothing_is_missing(folder, part or "U-Net", report["missing_keys"])
    return align(model.eval())


@torch.no_grad()
def align(model: Any) -> Any:
    """Copy the weights that do not begin at a multiple of 64 bytes to memory that does.

    Weights that are mapped from a file begin where its header ends. On a CPU the order of the sums
    in a matrix product depends on that, so copies of one model would have features that differ in
    their last bits.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % ALIGNMENT_BYTES:
            weight.data = weight.data.clone()
    return model


def load_scheduler(folder: ModelFolder) -> DDPMScheduler:
    """Read the noise schedule. Its forward process is that of DDPM, whatever sampler was saved."""
    with loading(folder, "scheduler"):
        return DDPMScheduler.from_pretrained(folder.path / "scheduler")  # pyright: ignore[reportReturnType]


def with_block_found(folder: ModelFolder, unet: Any, reading: Reading) -> Reading:
    """Return the reading with the dotted name of its block.

    Raises:
        ModelError: The U-Net has no such block.
    """
    try:
        return replace(reading, block=find_block(unet, reading.block))
    except LookupError as error:
        raise ModelError(
            f"model {folder.name}: its U-Net cannot be read at {reading.block!r}: {error}",
            "use another {recipe}, or a Stable Diffusion pipeline",
        ) from error


def check_nothing_is_missing(folder: ModelFolder, part: str, missing: Iterable[str]) -> None:
    """Check that the list of missing weights is empty.

    Raises:
        ModelError: It is not.
    """
    names = sorted(missing)
    if names:
        raise ModelError(
            f"model {folder.name}: the file of its {part} lacks {len(names)} of its weights, "
            f"for example {names[0]}",
            FETCH_HINT,
        )


@contextmanager
def loading(folder: ModelFolder, part: str) -> Iterator[None]:
    """Turn any failure to load into a `ModelError` that names the model and the part."""
    try:
        yield
    # Damaged files raise exceptions of any kind, from four libraries.
    except Exception as error:
        raise ModelError(
            f"model {folder.name}: its {part} in {folder.path} is damaged or of another kind "
            f"({one_line(error)})",
            FETCH_HINT,
        ) from error


@contextmanager
def quiet(logs: Any) -> Iterator[None]:
    """Silence a library's progress bars and log messages, then restore its settings.

    Args:
        logs: `diffusers.utils.logging` or `transformers.utils.logging`.
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
