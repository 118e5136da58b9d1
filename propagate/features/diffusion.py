"""Features of a frozen diffusion U-Net: noise a frame a little, run the U-Net, read one module.

One forward per frame at a low noise level, with one fixed noise for every frame, no inversion. The
U-Net stops after the module that is read. DIFT (Tang et al. 2023) reads the output of a block, PDM
(Samuel et al. 2024, eq. 1) queries and keys of a self-attention: `...attn1.to_q` names such a one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.models.modeling_utils import ModelMixin

from propagate.errors import ModelError

NOISE_SEED = 0
# Side of the small frame that is looked at once to learn what comes out.
PROBE_PX = 128


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read out of a U-Net. A model folder may carry its own as `reading.json`.

    Attributes:
        block: Dotted name of the U-Net's module whose output is the feature map.
        timestep: Noise level of the frame, in steps of the training schedule.
        scale: Size of the model's picture relative to the working size of the frame.
    """

    block: str
    timestep: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.block, str) or not self.block:
            raise ValueError(f"block: the dotted name of a module, not {self.block!r}")
        if not isinstance(self.timestep, int) or self.timestep < 0:
            raise ValueError(f"timestep: an integer, 0 or more, not {self.timestep!r}")
        if not isinstance(self.scale, int | float) or not 0 < self.scale < math.inf:
            raise ValueError(f"scale: a number above 0, not {self.scale!r}")


class _Reached(Exception):
    """Carries the wanted output out of the U-Net; nothing after it is computed."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


def _raise_output(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
    raise _Reached(output[0] if isinstance(output, tuple) else output)


class DiffusionBackbone:
    """Reads one module of a U-Net: a `Backbone`. Made by `load_diffusion`.

    Attributes:
        reading: What is read.
        dtype: Precision the U-Net computes in.
    """

    def __init__(
        self,
        name: str,
        unet: ModelMixin,
        scheduler: DDPMScheduler,
        reading: Reading,
        encode: Callable[[torch.Tensor], torch.Tensor],
        multiple: int,
        device: torch.device,
        prompt: torch.Tensor | None = None,
    ) -> None:
        """Set the U-Net up for reading.

        Args:
            name: For messages.
            unet: The network; moved to `device` here.
            scheduler: Its noise schedule.
            reading: What to read.
            encode: (B, 3, H, W) in -1..1 -> (B, C, h, w), the U-Net's clean input.
            multiple: What both sides of a picture given to `encode` must be multiples of.
            device: Where to compute.
            prompt: (1, T, D) embedding for a U-Net that takes text.

        Raises:
            ModelError: The reading does not fit the U-Net, or the U-Net cannot be run.
        """
        self.name = name
        self.device = device
        self.dtype = unet.dtype
        self.reading = reading
        self._encode = encode
        self._scheduler = scheduler
        self._prompt = None if prompt is None else prompt.to(device, self.dtype)
        self._noise = torch.empty(0)
        self._check_timestep()
        module = self._find_module(unet)
        unet.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportArgumentType]
        self._unet = unet.eval()
        module.register_forward_hook(_raise_output)

        self.multiple = self._frame_multiple(multiple)
        side = self.multiple * -(-PROBE_PX // self.multiple)
        self.channels, rows = self._probe(side)
        self.stride = side // rows
        # Cells then tile a frame exactly, also those of a coarse block.
        self.multiple = math.lcm(self.multiple, self.stride)

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
            advice = (
                "its weights are damaged, fetch them again"
                if self.dtype == torch.float32
                else "pass --dtype float32"
            )
            raise ModelError(
                f"model {self.name}: features are not finite in {str(self.dtype)[6:]}; {advice}"
            )
        return features

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.reading.scale != 1:
            height, width = (round(side * self.reading.scale) for side in images.shape[2:])
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        noisy, timestep = self._add_noise(self._encode(images * 2 - 1))
        text = {}
        if self._prompt is not None:
            text["encoder_hidden_states"] = self._prompt.expand(len(noisy), -1, -1)
        try:
            self._unet(noisy, timestep, **text)  # pyright: ignore[reportCallIssue]
        except _Reached as reached:
            return self._as_grid(reached.output, noisy).float()
        raise ModelError(
            f"model {self.name}: its U-Net never runs {self.reading.block!r}; "
            "name another block in reading.json"
        )

    def _add_noise(self, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a clean input to the reading's noise level, always by the same noise."""
        if self._noise.shape[1:] != clean.shape[1:]:
            rng = torch.Generator().manual_seed(NOISE_SEED)
            self._noise = torch.randn(1, *clean.shape[1:], generator=rng).to(clean)
        timestep = torch.tensor([self.reading.timestep], device=self.device)
        noisy = self._scheduler.add_noise(clean, self._noise, timestep)  # pyright: ignore[reportArgumentType]
        return noisy.to(self.dtype, memory_format=torch.channels_last), timestep

    def _as_grid(self, output: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        """Give tokens (B, N, C) of an attention their grid back: (B, C, h, w)."""
        if output.ndim == 4:
            return output
        if output.ndim == 3:
            height, width = noisy.shape[2:]
            # Each level halves both sides, rounding up.
            while height * width > output.shape[1]:
                height, width = -(-height // 2), -(-width // 2)
            if height * width == output.shape[1]:
                return output.transpose(1, 2).unflatten(2, (height, width))
        raise ModelError(
            f"model {self.name}: the output of {self.reading.block!r}, {tuple(output.shape)}, is "
            "no feature map; name another block in reading.json"
        )

    def _check_timestep(self) -> None:
        steps = self._scheduler.config["num_train_timesteps"]
        if self.reading.timestep >= steps:
            raise ModelError(
                f"model {self.name}: timestep {self.reading.timestep} is outside its schedule; "
                f"write one of 0 to {steps - 1} into reading.json"
            )

    def _find_module(self, unet: torch.nn.Module) -> torch.nn.Module:
        try:
            return unet.get_submodule(self.reading.block)
        except AttributeError as error:
            names = [name for name, _ in unet.named_modules()]
            some = [name for name in names if name.startswith("up_blocks") and ".resnets." in name]
            outer = [name for name in some if name.count(".") == 3]
            raise ModelError(
                f"model {self.name}: its U-Net has no module {self.reading.block!r}; name another "
                f"in reading.json, for example {', '.join(outer)}"
            ) from error

    def _frame_multiple(self, multiple: int) -> int:
        frame_multiple = multiple / self.reading.scale
        if frame_multiple != int(frame_multiple):
            raise ModelError(
                f"model {self.name}: a scale of {self.reading.scale:g} gives no whole pixels; "
                "write 1, 2, 0.5 or 0.25 into reading.json"
            )
        return int(frame_multiple)

    def _probe(self, side: int) -> tuple[int, int]:
        """Channels and rows of the features of a small grey frame."""
        try:
            features = self.extract(torch.full((1, 3, side, side), 0.5, device=self.device))
        except (ModelError, torch.OutOfMemoryError):
            raise
        # A U-Net that wants other inputs (class labels, a mask, a second prompt) says so in
        # exceptions of any kind.
        except Exception as error:
            raise ModelError(
                f"model {self.name}: its U-Net does not take a picture and an empty prompt "
                f"({one_line(error)}); pass a plain image model, neither inpainting nor by class"
            ) from error
        return features.shape[1], features.shape[2]


def one_line(error: BaseException) -> str:
    """An exception's message, fit for the inside of another."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
