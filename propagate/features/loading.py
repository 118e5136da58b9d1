"""From a model folder to a backbone: the two kinds of diffusion model, and their parts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from propagate.errors import ModelError
from propagate.features.diffusion import DiffusionBackbone, one_line
from propagate.features.model_folder import (
    PIXEL_UNET,
    ModelFolder,
    UnetWeights,
    open_model_folder,
)
from propagate.features.reading import Reading, find_block
from propagate.features.recipes import RECIPES
from propagate.features.text import EmbeddedText, Text, embed_text, embed_text_twice

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
    compiled: bool = False,
) -> DiffusionBackbone:
    """Load a U-Net from a folder or hub id in diffusers layout.

    Args:
        name: For messages.
        source: A folder or hub id: a `UNet2DModel` alone, a pipeline around one, or a Stable
            Diffusion pipeline, XL included.
        device: Where to compute.
        dtype: Precision of the U-Net and of the VAE; of a VAE whose config says `force_upcast`,
            float32.
        reading: What to read; None: what the folder's `reading.json` says, else chosen from the
            U-Net's shape.
        text: What the U-Net is told; None: an empty prompt.
        unet_weights: What takes the place of the weights of a pipeline's U-Net.
        untrained_seed: Draws the weights of a U-Net on pixels, in place of those in its file.
        compiled: Compile the U-Net's blocks. See `DiffusionBackbone`.

    Raises:
        ModelError: It cannot be reached, is of another kind, or parts are missing or damaged.
    """
    folder = open_model_folder(name, source, unet_weights)
    reading = reading or _stored_reading(folder)
    with _quiet_libraries():
        if folder.unet_class != PIXEL_UNET:
            return _load_latent(folder, device, dtype, reading, text or Text(), compiled)
        if text is not None and text.class_names:
            raise ModelError(
                f"model {name}: its U-Net takes no text; leave the class names out, or pass a "
                "Stable Diffusion pipeline"
            )
        return _load_pixel(folder, device, dtype, reading, untrained_seed, compiled)


def _load_pixel(
    folder: ModelFolder,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None,
    untrained_seed: int | None,
    compiled: bool,
) -> DiffusionBackbone:
    """A U-Net on pixels; with 3 p^2 input channels the picture is folded p by p into channels."""
    part = "unet" if folder.is_pipeline else None
    if untrained_seed is None:
        unet = _load_weights(folder, UNet2DModel, part, dtype)
    else:
        unet = _untrained(folder, part, untrained_seed).to(dtype)
    scheduler = _load_scheduler(folder) if folder.is_pipeline else DDPMScheduler()
    channels = unet.config["in_channels"]
    fold = round((channels / 3) ** 0.5)
    if 3 * fold**2 != channels:
        raise ModelError(
            f"model {folder.name}: its U-Net takes {channels} channels; pass one that takes RGB "
            "(3), or RGB folded p by p (3 p^2)"
        )
    levels = len(unet.config["block_out_channels"])
    if reading is None:
        # On the way up, before it is enlarged, the level of stride 8, or the nearest there is.
        level = min(max(0, (8 // fold).bit_length() - 1), levels - 1)
        block = levels - 1 - level
        reading = Reading(f"up_blocks.{block}.resnets.{len(unet.up_blocks[block].resnets) - 1}", 20)

    reading = _with_block_found(folder, unet, reading)

    def encode(images: torch.Tensor) -> torch.Tensor:
        return F.pixel_unshuffle(images, fold)

    multiple = fold * 2 ** (levels - 1)
    return DiffusionBackbone(
        folder.name, unet, scheduler, reading, encode, multiple, device, compiled=compiled
    )


def _load_latent(
    folder: ModelFolder,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None,
    text: Text,
    compiled: bool,
) -> DiffusionBackbone:
    """A Stable Diffusion pipeline; only the parts needed are kept."""
    embedded = _embed_text(folder, text)
    if folder.unet_weights is None:
        unet = _load_weights(folder, UNet2DConditionModel, "unet", dtype)
    else:
        unet = _load_text_unet(folder, folder.unet_weights, dtype)
    _check_text_fits(folder, embedded, unet)
    scheduler = _load_scheduler(folder)
    # What the file says: where it says nothing, as in models older than the setting, half precision
    # is enough, although diffusers' own default is the other way.
    stored = folder.read_json("vae/config.json") or {}
    vae_dtype = torch.float32 if stored.get("force_upcast") else dtype
    vae = _load_weights(folder, AutoencoderKL, "vae", vae_dtype)
    vae.decoder = None
    vae = vae.to(device, memory_format=torch.channels_last).eval()
    reading = _with_block_found(folder, unet, reading or RECIPES["default"].reading)
    seed = reading.posterior_seed

    def encode(images: torch.Tensor) -> torch.Tensor:
        images = images.to(vae.dtype, memory_format=torch.channels_last)
        posterior = vae.encode(images).latent_dist
        # The mode, if no sample is asked for, or always the same sample: the same frame has the
        # same features.
        latents = posterior.mode().float()
        if seed is not None:
            rng = torch.Generator().manual_seed(seed)
            noise = torch.randn(1, *latents.shape[1:], generator=rng).to(device)
            latents = latents + posterior.std.float() * noise
        return latents * vae.config["scaling_factor"]

    multiple = 2 ** (len(vae.config["block_out_channels"]) - 1)
    return DiffusionBackbone(
        *(folder.name, unet, scheduler, reading, encode, multiple, device, embedded),
        compiled=compiled,
    )


def _check_text_fits(folder: ModelFolder, text: EmbeddedText, unet: UNet2DConditionModel) -> None:
    """See that the U-Net takes what the text encoders give.

    Raises:
        ModelError: It does not.
    """
    given, taken = text.prompt.shape[2], unet.config["cross_attention_dim"]
    if given != taken:
        encoders = "text encoder gives" if text.pooled is None else "two text encoders give"
        raise ModelError(
            f"model {folder.name}: its {encoders} {given} numbers per token, its U-Net takes "
            f"{taken}; put parts of one model together"
        )
    given = None if text.pooled is None else text.pooled.shape[1]
    taken = None
    if unet.config["addition_embed_type"] == "text_time":
        # Beside the text, six sizes in pixels.
        taken = unet.config["projection_class_embeddings_input_dim"]
        taken -= 6 * unet.config["addition_time_embed_dim"]
    if given != taken:
        raise ModelError(
            f"model {folder.name}: its second text encoder gives {given or 'no'} numbers per "
            f"prompt, its U-Net takes {taken or 'none'}; put parts of one model together"
        )


def _with_block_found(folder: ModelFolder, unet: Any, reading: Reading) -> Reading:
    """The reading, its block by dotted name."""
    try:
        return replace(reading, block=find_block(unet, reading.block))
    except LookupError as error:
        raise ModelError(
            f"model {folder.name}: its U-Net cannot be read at {reading.block!r}: {error}; use "
            "another recipe, or a Stable Diffusion pipeline"
        ) from error


def _embed_text(folder: ModelFolder, text: Text) -> EmbeddedText:
    """Embed a text once. The text encoders are not kept."""
    tokenizer = _load_tokenizer(folder, "tokenizer")
    encoder = _load_weights(folder, CLIPTextModel, "text_encoder", torch.float32)
    if not folder.has_two_text_encoders:
        return embed_text(folder.name, text, tokenizer, encoder)
    second = _load_weights(folder, CLIPTextModelWithProjection, "text_encoder_2", torch.float32)
    tokenizers = (tokenizer, _load_tokenizer(folder, "tokenizer_2"))
    return embed_text_twice(folder.name, text, tokenizers, (encoder, second))


def _load_tokenizer(folder: ModelFolder, part: str) -> CLIPTokenizer:
    with _loading(folder, part):
        return CLIPTokenizer.from_pretrained(folder.path / part)


def _load_scheduler(folder: ModelFolder) -> DDPMScheduler:
    """Read the noise schedule. Whatever sampler was saved, DDPM's forward process is the same."""
    with _loading(folder, "scheduler"):
        return DDPMScheduler.from_pretrained(folder.path / "scheduler")  # pyright: ignore[reportReturnType]


def _load_weights(folder: ModelFolder, model_class: Any, part: str | None, dtype: torch.dtype):
    """Load a part with every weight it has; neither library insists on that by itself."""
    with _loading(folder, part or "U-Net"):
        model, report = model_class.from_pretrained(
            folder.path / part if part else folder.path,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    _check_nothing_is_missing(folder, part or "U-Net", report["missing_keys"])
    return model.eval()


def _untrained(folder: ModelFolder, part: str | None, seed: int) -> Any:
    """Build a U-Net with the weights that training would begin from."""
    with _loading(folder, part or "U-Net"), torch.random.fork_rng(devices=[]):
        config: Any = UNet2DModel.load_config(folder.path / part if part else folder.path)
        torch.manual_seed(seed)
        unet: Any = UNet2DModel.from_config(config)
        return unet.eval()


def _load_text_unet(folder: ModelFolder, weights: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """Build the pipeline's U-Net with the weights of another file."""
    with _loading(folder, f"U-Net ({weights.name})"):
        config: Any = UNet2DConditionModel.load_config(folder.path / "unet")
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(config)
        report = unet.load_state_dict(load_file(weights), strict=False, assign=True)
    _check_nothing_is_missing(folder, "U-Net", report.missing_keys)
    return unet.to(dtype).eval()


def _check_nothing_is_missing(folder: ModelFolder, part: str, missing: Iterable[str]) -> None:
    names = sorted(missing)
    if names:
        raise ModelError(
            f"model {folder.name}: {len(names)} weights of its {part} are not in its "
            f"file, {names[0]} for one; fetch the model again"
        )


@contextmanager
def _loading(folder: ModelFolder, part: str) -> Iterator[None]:
    """Say which part of which model it was that failed to load."""
    try:
        yield
    # Damaged files show as exceptions of any kind, from four libraries.
    except Exception as error:
        raise ModelError(
            f"model {folder.name}: its {part} in {folder.path} is damaged or of another kind "
            f"({one_line(error)}); fetch the model again"
        ) from error


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
            f"model {folder.name}: {folder.path / READING_FILE} cannot be used ({reason}); it "
            f"takes block, timestep and, if wanted, {', '.join(READING_KEYS[2:])}"
        ) from error


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' bars and remarks off stderr, and leave their settings as they were."""
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
