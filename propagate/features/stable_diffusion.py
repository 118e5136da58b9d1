"""Load Stable Diffusion pipelines: a U-Net on latents with a VAE and a prompt."""

from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from propagate.errors import ModelError
from propagate.features.engine import Engine
from propagate.features.model_folder import MIXED_HINT, ModelFolder
from propagate.features.networks import VaeEncoder
from propagate.features.reading import Reading
from propagate.features.recipes import RECIPES
from propagate.features.text import EmbeddedText, Text, embed_text, embed_text_twice
from propagate.features.unet import DiffusionBackbone
from propagate.features.weights import (
    align,
    check_nothing_is_missing,
    load_scheduler,
    load_weights,
    loading,
    quiet,
    with_block_found,
)


def load_latent(
    folder: ModelFolder,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None,
    text: Text,
    engine: Engine,
    compiled: bool,
) -> DiffusionBackbone:
    """Load a Stable Diffusion pipeline and keep only the needed parts. See `load_diffusion`."""
    with quiet(transformers.utils.logging):
        embedded = _embed_text(folder, text)
    if folder.unet_weights is None:
        unet = load_weights(folder, UNet2DConditionModel, "unet", dtype)
    else:
        unet = _load_text_unet(folder, folder.unet_weights, dtype)
    _check_text_fits(folder, embedded, unet)
    scheduler = load_scheduler(folder)
    # Read from the file, because diffusers defaults to True. Models older than the setting work in
    # half precision.
    stored = folder.read_json("vae/config.json") or {}
    precise = bool(stored.get("force_upcast"))
    vae_dtype = torch.float32 if precise else dtype
    vae = load_weights(folder, AutoencoderKL, "vae", vae_dtype)
    vae.decoder = None
    vae = vae.to(device, memory_format=torch.channels_last).eval()
    reading = with_block_found(folder, unet, reading or RECIPES["default"].reading)
    seed = reading.posterior_seed

    encoder = VaeEncoder(vae).eval()

    def encode(images: torch.Tensor, engine: Engine) -> torch.Tensor:
        images = images.to(vae.dtype, memory_format=torch.channels_last)
        mean, spread = engine.run(encoder, images, precise=precise)
        # The mode or a sample with a fixed seed, so that a frame always has the same features.
        latents = mean.float()
        if seed is not None:
            rng = torch.Generator().manual_seed(seed)
            noise = torch.randn(1, *latents.shape[1:], generator=rng).to(device)
            latents = latents + spread.float() * noise
        return latents * vae.config["scaling_factor"]

    multiple = 2 ** (len(vae.config["block_out_channels"]) - 1)
    return DiffusionBackbone(
        *(folder.name, unet, scheduler, reading, encode, multiple, device, embedded),
        engine=engine,
        compiled=compiled,
    )


def _load_text_unet(folder: ModelFolder, weights: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """Build the pipeline's U-Net with weights from another file."""
    with loading(folder, f"U-Net ({weights.name})"):
        config: Any = UNet2DConditionModel.load_config(folder.path / "unet")
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(config)
        report = unet.load_state_dict(load_file(weights), strict=False, assign=True)
    check_nothing_is_missing(folder, "U-Net", report.missing_keys)
    return align(unet.to(dtype).eval())


def _check_text_fits(folder: ModelFolder, text: EmbeddedText, unet: UNet2DConditionModel) -> None:
    """Check that the text embedding fits the U-Net.

    Raises:
        ModelError: Its size is wrong.
    """
    given, taken = text.prompt.shape[2], unet.config["cross_attention_dim"]
    if given != taken:
        encoders = "text encoder gives" if text.pooled is None else "two text encoders give"
        raise ModelError(
            f"model {folder.name}: its {encoders} {given} numbers per token, its U-Net takes "
            f"{taken}",
            MIXED_HINT,
        )
    given = None if text.pooled is None else text.pooled.shape[1]
    taken = None
    if unet.config["addition_embed_type"] == "text_time":
        # This input also holds six embedded sizes in pixels.
        taken = unet.config["projection_class_embeddings_input_dim"]
        taken -= 6 * unet.config["addition_time_embed_dim"]
    if given != taken:
        raise ModelError(
            f"model {folder.name}: its second text encoder gives {given or 'no'} numbers per "
            f"prompt, its U-Net takes {taken or 'none'}",
            MIXED_HINT,
        )


def _embed_text(folder: ModelFolder, text: Text) -> EmbeddedText:
    """Embed the text. The text encoders are not kept."""
    tokenizer = _load_tokenizer(folder, "tokenizer")
    encoder = load_weights(folder, CLIPTextModel, "text_encoder", torch.float32)
    if not folder.has_two_text_encoders:
        return embed_text(folder.name, text, tokenizer, encoder)
    second = load_weights(folder, CLIPTextModelWithProjection, "text_encoder_2", torch.float32)
    tokenizers = (tokenizer, _load_tokenizer(folder, "tokenizer_2"))
    return embed_text_twice(folder.name, text, tokenizers, (encoder, second))


def _load_tokenizer(folder: ModelFolder, part: str) -> CLIPTokenizer:
    with loading(folder, part):
        return CLIPTokenizer.from_pretrained(folder.path / part)
