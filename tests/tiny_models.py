"""Real models of every kind the program takes, with random weights and narrow enough for tests."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMPipeline,
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

PROMPT_TOKENS = 8
TEXT_WIDTH = 16
# Of SDXL's second text encoder: per token, and per prompt.
SECOND_TEXT_WIDTH, POOLED_WIDTH = 24, 12


def pixel_unet(
    levels: int = 3, fold: int = 1, attention: bool = False, **settings: Any
) -> UNet2DModel:
    """Make a `UNet2DModel` on RGB folded `fold` by `fold`, with `levels` levels, seeded."""
    torch.manual_seed(0)
    plain, attentive = ["DownBlock2D", "UpBlock2D"], ["AttnDownBlock2D", "AttnUpBlock2D"]
    down, up = attentive if attention else plain
    channels: Any = {"in_channels": 3 * fold**2, "out_channels": 3 * fold**2} | settings
    return UNet2DModel(
        sample_size=16,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + (down,) * (levels - 1),
        up_block_types=(up,) * (levels - 1) + ("UpBlock2D",),
        norm_num_groups=4,
        attention_head_dim=4,
        add_attention=attention,
        **channels,
    ).eval()


def save_unet(folder: Path, unet: UNet2DModel) -> Path:
    """Write a U-Net alone."""
    unet.save_pretrained(folder)
    return folder


def save_pixel_pipeline(folder: Path, unet: UNet2DModel) -> Path:
    """Write a pipeline around a U-Net, as `DDPMPipeline.save_pretrained` does."""
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=1000)).save_pretrained(folder)
    return folder


def stable_diffusion(
    folder: Path, levels: int = 3, **unet_settings: Any
) -> StableDiffusionPipeline:
    """A Stable Diffusion pipeline, seeded. Its tokenizer's files are written to `folder`."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        **{
            "sample_size": 16,
            "block_out_channels": (8,) * levels,
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
            "cross_attention_dim": TEXT_WIDTH,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
        }
        | unet_settings
    )
    # The sampler that Stable Diffusion 1.5 comes with.
    scheduler: Any = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(TEXT_WIDTH)).eval(),
        tokenizer=tokenizer(folder / "words"),
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def stable_diffusion_xl(folder: Path, **unet_settings: Any) -> StableDiffusionXLPipeline:
    """A Stable Diffusion XL pipeline, seeded. Its tokenizers' files are written to `folder`."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        **{
            "sample_size": 16,
            "block_out_channels": (8, 8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
            "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
            "transformer_layers_per_block": (1, 1, 2),
            "use_linear_projection": True,
            "cross_attention_dim": TEXT_WIDTH + SECOND_TEXT_WIDTH,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + POOLED_WIDTH,
        }
        | unet_settings
    )
    # The sampler that SDXL Turbo comes with.
    with warnings.catch_warnings():
        # It turns tensors into arrays in a way that numpy 2 remarks on.
        warnings.simplefilter("ignore", DeprecationWarning)
        scheduler: Any = EulerAncestralDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="trailing",
        )
    # As the real ones do, the two fill prompts up with different tokens.
    second = tokenizer(folder / "words-2", pad_token="a")
    config = _text_config(SECOND_TEXT_WIDTH, projection_dim=POOLED_WIDTH)
    pipeline: Any = StableDiffusionXLPipeline
    return pipeline(
        vae=_vae(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(_text_config(TEXT_WIDTH)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(config).eval(),
        tokenizer=tokenizer(folder / "words"),
        tokenizer_2=second,
        unet=unet.eval(),
        scheduler=scheduler,
        add_watermarker=False,
    )


def _vae(**settings: Any) -> AutoencoderKL:
    # diffusers annotates its blocks as tuples of one.
    blocks: Any = {
        "block_out_channels": (8,) * 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return AutoencoderKL(**blocks, latent_channels=4, norm_num_groups=4, **settings).eval()


def _text_config(width: int, **settings: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=4,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **settings,
    )


def tokenizer(folder: Path, **settings: str) -> CLIPTokenizer:
    """A CLIP tokenizer that knows the two special tokens and the letter a."""
    folder.mkdir(parents=True)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": PROMPT_TOKENS} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)
