"""Features of a frozen diffusion U-Net: noise a frame a little, run the U-Net, read one module.

One forward per frame at a low noise level, with one fixed noise for every frame, no inversion. The
U-Net stops after the module that is read. DIFT (Tang et al. 2023) reads the output of a block, PDM
(Samuel et al. 2024, eq. 1) queries and keys of a self-attention: `...attn1.to_q` names such a one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from propagate.errors import ModelError

READING_FILE = "reading.json"
NOISE_SEED = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read out of a U-Net. A model folder may carry its own as `reading.json`.

    Attributes:
        block: Dotted name of the U-Net's module whose output is the feature map.
        timestep: Noise level of the frame, in steps of the training schedule.
        scale: Size of the U-Net's picture relative to the working size of the frame.
    """

    block: str
    timestep: int
    scale: float = 1.0


class _Reached(Exception):
    """Carries the wanted output out of the U-Net; nothing after it is computed."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


def _raise_output(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
    raise _Reached(output[0] if isinstance(output, tuple) else output)


class DiffusionBackbone:
    """Reads one module of a U-Net. Made by `load_diffusion`."""

    def __init__(
        self,
        name: str,
        unet: torch.nn.Module,
        scheduler: DDPMScheduler,
        reading: Reading,
        encode: Callable[[torch.Tensor], torch.Tensor],
        multiple: int,
        device: torch.device,
        dtype: torch.dtype,
        prompt: torch.Tensor | None = None,
    ) -> None:
        """Set the U-Net up for reading.

        Args:
            unet: The network, in `dtype`; moved to `device` here.
            scheduler: Its noise schedule.
            reading: What to read.
            encode: (B, 3, H, W) in -1..1 -> (B, C, h, w), the U-Net's clean input.
            multiple: What both sides of a frame must be multiples of.
            prompt: (1, T, D) embedding for a U-Net that takes text.
        """
        self.name = name
        self.multiple = multiple
        self.device = device
        self.dtype = dtype
        self.reading = reading
        self._encode = encode
        self._scheduler = scheduler
        self._prompt = None if prompt is None else prompt.to(device, dtype)
        try:
            module = unet.get_submodule(reading.block)
        except AttributeError as error:
            raise ModelError(
                f"model {name}: its U-Net has no module {reading.block!r}; "
                f"name another in {READING_FILE}, for example one of {_examples(unet)}"
            ) from error
        steps = scheduler.config["num_train_timesteps"]
        if not 0 <= reading.timestep < steps:
            raise ModelError(
                f"model {name}: timestep {reading.timestep} is outside its schedule of {steps}"
            )
        unet = unet.to(device).eval()
        self._unet = unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        module.register_forward_hook(_raise_output)
        self._noise = torch.empty(0)
        # One look at a small frame tells the grid that comes out.
        side = multiple * max(1, -(-128 // multiple))
        features = self.extract(torch.full((1, 3, side, side), 0.5, device=device))
        self.channels = features.shape[1]
        self.stride = side // features.shape[2]

    @torch.inference_mode()
    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features. See `Backbone.extract`.

        Raises:
            ModelError: The features are not finite.
        """
        # On a CPU a batch is no faster than its frames one by one, and its sums are rounded
        # otherwise: one by one, the batch size cannot change a mask.
        chunks = images.split(1) if self.device.type == "cpu" else (images,)
        features = torch.cat([self._forward(chunk) for chunk in chunks])
        if not torch.isfinite(features).all():
            raise ModelError(
                f"model {self.name}: features are not finite in {str(self.dtype)[6:]}; "
                "pass --dtype float32"
            )
        return features

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        clean = self._encode(images * 2 - 1)  # (B, C, h, w)
        if self._noise.shape[1:] != clean.shape[1:]:
            rng = torch.Generator().manual_seed(NOISE_SEED)
            self._noise = torch.randn(1, *clean.shape[1:], generator=rng).to(clean)
        timestep = torch.tensor([self.reading.timestep], device=self.device)
        noisy = self._scheduler.add_noise(clean, self._noise, timestep)  # pyright: ignore[reportArgumentType]
        noisy = noisy.to(self.dtype, memory_format=torch.channels_last)
        text = (
            {}
            if self._prompt is None
            else {"encoder_hidden_states": self._prompt.expand(len(noisy), -1, -1)}
        )
        try:
            self._unet(noisy, timestep, **text)
        except _Reached as reached:
            return self._as_grid(reached.output, noisy).float()
        raise ModelError(
            f"model {self.name}: its U-Net never runs {self.reading.block!r}; "
            f"name another module in {READING_FILE}"
        )

    def _as_grid(self, output: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        """Give tokens (B, N, C) of an attention their grid back: (B, C, h, w)."""
        if output.ndim == 4:
            return output
        height, width = noisy.shape[2:]
        factor = 1
        # Each level halves both sides, rounding up.
        while -(-height // factor) * -(-width // factor) > output.shape[1]:
            factor *= 2
        grid = (-(-height // factor), -(-width // factor))
        return output.transpose(1, 2).unflatten(2, grid)


def load_diffusion(
    name: str, source: str, device: torch.device, dtype: torch.dtype, reading: Reading | None = None
) -> DiffusionBackbone:
    """Load a U-Net from a folder or hub id in diffusers layout.

    Args:
        name: For messages.
        source: A folder or hub id: a `UNet2DModel` alone, a pipeline around one, or a Stable
            Diffusion pipeline.
        reading: What to read; None: what the folder's `reading.json` says, else chosen from the
            U-Net's shape.

    Raises:
        ModelError: It cannot be reached, is of another kind, or parts are missing.
    """
    index = _read_json(name, source, "model_index.json")
    if index is None and _read_json(name, source, "config.json") is None:
        if Path(source).is_dir():
            raise ModelError(
                f"model {name}: the folder holds neither model_index.json nor config.json; "
                "pass a folder that diffusers' save_pretrained wrote"
            )
        raise ModelError(_unreachable(name, source, "it could not be reached"))
    kind = "UNet2DModel" if index is None else index.get("unet", [None, "no U-Net"])[1]
    stored = _read_json(name, source, READING_FILE)
    try:
        if stored is not None and reading is None:
            reading = Reading(**stored)
        if kind == "UNet2DModel":
            return _load_pixel(name, source, index is not None, device, dtype, reading)
        if kind == "UNet2DConditionModel":
            return _load_latent(name, source, device, dtype, reading)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"model {name}: a part is missing or damaged ({reason}); "
            "compare the folder with what diffusers' save_pretrained writes, or pass --model tiny"
        ) from error
    raise ModelError(
        f"model {name}: it is built around {kind}; pass a UNet2DModel or a Stable Diffusion model"
    )


def _load_pixel(
    name: str,
    source: str,
    pipeline: bool,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None,
) -> DiffusionBackbone:
    """A U-Net on pixels; with 3 p^2 input channels the picture is folded p by p into channels."""
    unet = UNet2DModel.from_pretrained(
        source, subfolder="unet" if pipeline else None, torch_dtype=dtype, use_safetensors=True
    )
    scheduler = _load_scheduler(source) if pipeline else DDPMScheduler()
    fold = round((unet.config["in_channels"] / 3) ** 0.5)
    if 3 * fold**2 != unet.config["in_channels"]:
        raise ModelError(
            f"model {name}: its U-Net takes {unet.config['in_channels']} channels, not RGB (3) or "
            "RGB folded p by p (3 p^2)"
        )
    levels = len(unet.config["block_out_channels"])
    if reading is None:
        # The level nearest to stride 8, on the way up, before it is enlarged.
        up = max(0, levels - 1 - max(0, (8 // fold).bit_length() - 1))
        resnet = len(unet.up_blocks[up].resnets) - 1  # pyright: ignore[reportArgumentType]
        reading = Reading(f"up_blocks.{up}.resnets.{resnet}", timestep=20)

    def encode(images: torch.Tensor) -> torch.Tensor:
        if reading.scale != 1:
            images = F.interpolate(
                images, scale_factor=reading.scale, mode="bilinear", antialias=True
            )
        return F.pixel_unshuffle(images, fold)

    multiple = round(fold * 2 ** (levels - 1) / reading.scale)
    return DiffusionBackbone(name, unet, scheduler, reading, encode, multiple, device, dtype)


def _load_latent(
    name: str,
    source: str,
    device: torch.device,
    dtype: torch.dtype,
    reading: Reading | None,
) -> DiffusionBackbone:
    """A Stable Diffusion pipeline with an empty prompt; only the parts needed are kept."""
    unet = UNet2DConditionModel.from_pretrained(
        source, subfolder="unet", torch_dtype=dtype, use_safetensors=True
    )
    vae: Any = AutoencoderKL.from_pretrained(
        source, subfolder="vae", torch_dtype=dtype, use_safetensors=True
    )
    scheduler = _load_scheduler(source)
    prompt = _encode_prompt(name, source, "")
    if prompt.shape[2] != unet.config["cross_attention_dim"]:
        raise ModelError(
            f"model {name}: its text encoder gives {prompt.shape[2]} numbers per token, its U-Net "
            f"takes {unet.config['cross_attention_dim']}: they are of different models"
        )
    vae.decoder = None
    vae = vae.to(device, memory_format=torch.channels_last).eval()
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    if reading is None:
        # DIFT's choice (third of four up blocks, t = 51), counted from the end so that it is at the
        # finest level but one in a U-Net of any depth.
        block = max(0, len(unet.config["block_out_channels"]) - 2)
        reading = Reading(f"up_blocks.{block}", timestep=51)

    def encode(images: torch.Tensor) -> torch.Tensor:
        images = images.to(vae.dtype, memory_format=torch.channels_last)
        # The posterior's mode, not a sample: the same frame has the same features.
        return vae.encode(images).latent_dist.mode().float() * vae.config["scaling_factor"]

    return DiffusionBackbone(
        name, unet, scheduler, reading, encode, factor, device, dtype, prompt=prompt
    )


def _load_scheduler(source: str) -> DDPMScheduler:
    """Read the noise schedule. Whatever sampler was saved, DDPM's forward process is the same."""
    scheduler = DDPMScheduler.from_pretrained(source, subfolder="scheduler")
    assert isinstance(scheduler, DDPMScheduler)
    return scheduler


@torch.inference_mode()
def _encode_prompt(name: str, source: str, text: str) -> torch.Tensor:
    """Embed a prompt once: (1, T, D). The text encoder is not kept."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")
    encoder = CLIPTextModel.from_pretrained(source, subfolder="text_encoder").eval()
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(
        text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return encoder(tokens.input_ids).last_hidden_state.float()


def _read_json(name: str, source: str, file: str) -> dict[str, Any] | None:
    """Read a small file of a model folder or hub repository; None where it is not there."""
    path = Path(source) / file
    if not Path(source).is_dir():
        try:
            path = Path(hf_hub_download(source, file))
        except (GatedRepoError, RepositoryNotFoundError, HFValidationError) as error:
            reason = {
                "GatedRepoError": "its owner asks for consent: accept on its page and log in",
                "RepositoryNotFoundError": "there is no such repository, or it has moved",
            }.get(type(error).__name__, "that is neither a folder nor a hub id (owner/name)")
            raise ModelError(_unreachable(name, source, reason)) from error
        except OSError:
            return None
        except Exception as error:
            raise ModelError(_unreachable(name, source, type(error).__name__)) from error
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: {file} cannot be read ({error})") from error


def _unreachable(name: str, source: str, reason: str) -> str:
    what = name if name == source else f"{name} ({source})"
    return f"model {what}: {reason}; offline there are tiny, color and local folders for --model"


def _examples(unet: torch.nn.Module) -> str:
    names = [n for n, _ in unet.named_modules() if n.startswith("up_blocks") and n.count(".") <= 3]
    return ", ".join(names[:4])
