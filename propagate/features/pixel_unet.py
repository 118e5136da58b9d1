"""Load a diffusion model as a backbone. Stable Diffusion is left to `stable_diffusion.py`."""

from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel

from propagate.errors import ModelError
from propagate.features.engine import Engine, TorchEngine
from propagate.features.folding import fold_constants
from propagate.features.hub import one_line
from propagate.features.int8_weights import Int8Weights
from propagate.features.model_folder import (
    PIXEL_UNET,
    ModelFolder,
    UnetWeights,
    open_model_folder,
)
from propagate.features.origin import origin_of
from propagate.features.reading import Reading
from propagate.features.text import Text
from propagate.features.unet import DiffusionBackbone
from propagate.features.weights import (
    load_scheduler,
    load_weights,
    loading,
    quiet,
    with_block_found,
)

READING_FILE = "reading.json"
READING_KEYS = ("block", "timestep", "scale", "tensor", "ensemble", "noise", "finer")


def load_diffusion(
    name: str,
    source: str,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None = None,
    text: Text | None = None,
    *,
    unet_weights: UnetWeights | None = None,
    untrained_seed: int | None = None,
    engine: Engine | None = None,
    int8: Int8Weights | None = None,
    compiled: bool = False,
) -> DiffusionBackbone:
    """Load a U-Net from a folder or hub id in diffusers layout.

    Args:
        name: Name for messages.
        source: A folder or hub id: a `UNet2DModel` alone, a pipeline with one, or a Stable
            Diffusion pipeline, including XL.
        device: The device to compute on.
        dtype: Precision of the U-Net and the VAE. A VAE with `force_upcast` in its config runs in
            float32.
        reading: What to read; None: what the folder's `reading.json` says, or else a block chosen
            from the structure of the U-Net.
        text: The prompt; None: an empty one.
        unet_weights: Weights that replace those of the pipeline's U-Net.
        untrained_seed: Seed of random weights that replace those of a U-Net on pixels.
        engine: Runs the networks; None: PyTorch.
        int8: The int8 network that the engine runs, if it does.
        compiled: Compile the U-Net's blocks. See `DiffusionBackbone`.

    Raises:
        ModelError: The model cannot be reached or is of another kind, or parts are missing or
            damaged.
    """
    folder = open_model_folder(name, source, unet_weights)
    reading = reading or _stored_reading(folder)
    engine = engine or TorchEngine(dtype)
    with quiet(diffusers.utils.logging):
        if folder.unet_class != PIXEL_UNET:
            # Imported here because `tiny` does not need VAE and text encoders.
            from propagate.features.stable_diffusion import load_latent

            backbone = load_latent(folder, device, dtype, reading, text or Text(), engine, compiled)
            backbone.origin = origin_of(folder)
            return backbone
        if text is not None and text.class_names:
            raise ModelError(
                f"model {name}: its U-Net takes no text",
                "leave {class_names} out, or pass a Stable Diffusion pipeline",
            )
        backbone = _load_pixel(folder, device, dtype, reading, untrained_seed, engine, compiled)
        backbone.origin = origin_of(folder, untrained_seed, int8)
        return backbone


def _load_pixel(
    folder: ModelFolder,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None,
    untrained_seed: int | None,
    engine: Engine,
    compiled: bool,
) -> DiffusionBackbone:
    """Load a U-Net on pixels. If it has 3 p^2 input channels, p by p pixels become channels."""
    part = "unet" if folder.is_pipeline else None
    if untrained_seed is None:
        unet = load_weights(folder, UNet2DModel, part, dtype)
    else:
        unet = _untrained(folder, part, untrained_seed).to(dtype)
    scheduler = load_scheduler(folder) if folder.is_pipeline else DDPMScheduler()
    channels = unet.config["in_channels"]
    fold = round((channels / 3) ** 0.5)
    if 3 * fold**2 != channels:
        raise ModelError(
            f"model {folder.name}: its U-Net takes {channels} channels",
            "pass one that takes RGB (3), or RGB folded p by p (3 p^2)",
        )
    levels = len(unet.config["block_out_channels"])
    if reading is None:
        # The up block whose output, before it is enlarged, has stride 8, or the nearest to that.
        level = min(max(0, (8 // fold).bit_length() - 1), levels - 1)
        block = levels - 1 - level
        reading = Reading(f"up_blocks.{block}.resnets.{len(unet.up_blocks[block].resnets) - 1}", 20)

    reading = with_block_found(folder, unet, reading)
    if reading.inversion is None and not compiled:
        read = [name for name in (reading.block, reading.finer) if name]
        fold_constants(unet, reading.timestep, read)

    def encode(images: torch.Tensor, _engine: Engine) -> torch.Tensor:
        return F.pixel_unshuffle(images, fold)

    multiple = fold * 2 ** (levels - 1)
    return DiffusionBackbone(
        *(folder.name, unet, scheduler, reading, encode, multiple, device),
        engine=engine,
        compiled=compiled,
    )


def _untrained(folder: ModelFolder, part: str | None, seed: int) -> Any:
    """Build a U-Net with random weights, as before training."""
    with loading(folder, part or "U-Net"), torch.random.fork_rng(devices=[]):
        config: Any = UNet2DModel.load_config(folder.path / part if part else folder.path)
        torch.manual_seed(seed)
        unet: Any = UNet2DModel.from_config(config)
        return unet.eval()


def _stored_reading(folder: ModelFolder) -> Reading | None:
    stored = folder.read_json(READING_FILE)
    if stored is None:
        return None
    try:
        return Reading(**stored)
    except (TypeError, ValueError) as error:
        unknown = ", ".join(stored.keys() - set(READING_KEYS))
        reason = f"unknown key {unknown}" if unknown else one_line(error)
        raise ModelError(
            f"model {folder.name}: {folder.path / READING_FILE} cannot be used ({reason})",
            f"it needs block and timestep, and may have {', '.join(READING_KEYS[2:])}",
        ) from error
