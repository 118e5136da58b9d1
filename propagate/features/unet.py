"""Features of a frozen diffusion U-Net: noise a frame, run the U-Net, read some of its modules.

The default is one forward per frame, at a low noise level, with the same noise for every frame.
`recipes.py` has other choices. DIFT (Tang et al. 2023) reads the output of a block, PDM (Samuel et
al. 2024, eq. 1) queries and keys. The U-Net stops after the last module that is read.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.models.modeling_utils import ModelMixin

from propagate.errors import ModelError
from propagate.features.compiling import compile_blocks, is_compiler_error
from propagate.features.engine import Engine, TorchEngine
from propagate.features.hooks import project_prompt_once
from propagate.features.hub import one_line
from propagate.features.inversion import denoise, invert, noise_from_velocity
from propagate.features.networks import NeverRuns, UNetPart
from propagate.features.origin import Origin
from propagate.features.reading import (
    CROSS_KEYS,
    CROSS_QUERIES,
    MODULES,
    Reading,
    attention_in,
)
from propagate.features.text import EmbeddedText
from propagate.io.decode.prefetch import EXITING
from propagate.stage_clock import show_life

NOISE_SEED = 0
# Side of the small frame that is run once to learn the shape of the features.
PROBE_PX = 128
BLOCK_HINT = "name another block in reading.json"


class DiffusionBackbone:
    """A `Backbone` that reads modules of a U-Net. `load_diffusion` makes it.

    Attributes:
        reading: What is read.
        timestep: Noise level at which it is read.
        engine: The name of what runs the U-Net, see `engine.py`.
        dtype: Precision of the U-Net.
        compiled: Whether its blocks are compiled.
        origin: The files that it was loaded from; None: they are not known.
    """

    origin: Origin | None = None

    def __init__(
        self,
        name: str,
        unet: ModelMixin,
        scheduler: DDPMScheduler,
        reading: Reading,
        encode: Callable[[torch.Tensor, Engine], torch.Tensor],
        multiple: int,
        device: torch.device,
        text: EmbeddedText | None = None,
        *,
        engine: Engine | None = None,
        compiled: bool = False,
    ) -> None:
        """Set the U-Net up for reading.

        Args:
            name: Name for messages.
            unet: The network; it is moved to `device`.
            scheduler: Its noise schedule.
            reading: What to read, with the dotted name of its block.
            encode: (B, 3, H, W) in -1..1 and an engine -> (B, C, h, w), the U-Net's clean input.
            multiple: Both sides of the images for `encode` must be multiples of this.
            device: The device to compute on.
            text: The prompt, if the U-Net takes one.
            engine: Runs the U-Net; None: PyTorch, in the precision of its weights.
            compiled: Compile the U-Net's blocks. The first frame of each size is slow, the others
                are faster than without.

        Raises:
            ModelError: The reading does not fit the U-Net, or the U-Net cannot be run.
        """
        self.name = name
        self.device = device
        # One thread at a time: what is read passes through hooks, which every forward runs.
        self._turn = threading.RLock()
        # Until the shape of the features is known: OpenVINO would compile the small frame's size.
        self._engine: Engine = TorchEngine(unet.dtype)
        engine = engine or self._engine
        self.engine, self.dtype = engine.name, engine.dtype
        self._parts: dict[tuple[str, ...], UNetPart] = {}
        self.compiled = compiled
        self.reading = reading
        self._encode = encode
        self._scheduler = scheduler
        self._prompt = None if text is None else text.prompt.to(device, unet.dtype)
        pooled = None if text is None else text.pooled
        self._pooled = None if pooled is None else pooled.to(device, unet.dtype)
        self._name_tokens = {} if text is None else text.name_tokens
        self._noise = torch.empty(0)
        self._alphas = scheduler.alphas_cumprod.to(device)
        self._levels = self._choose_levels()
        self.timestep = min(
            self._levels, default=reading.timestep, key=lambda level: abs(level - reading.timestep)
        )
        self._modules = [self._module_name(unet, tail) for tail in MODULES[reading.tensor]]
        self._finer = [] if reading.finer is None else [self._found(unet, reading.finer)]
        self._attention = attention_in(unet, reading.block)
        unet.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportArgumentType]
        self._unet = unet.eval()
        if self._prompt is not None and unet.config.get("encoder_hid_dim_type") is None:
            project_prompt_once(unet, self._prompt)
        if compiled:
            read = [self.reading.block, *self._modules, *self._finer]
            compile_blocks(self._unet, [*read, self._attention] if self._attention else read)

        self._picture_stride = multiple
        self.multiple = self._frame_multiple(multiple)
        side = self.multiple * -(-PROBE_PX // self.multiple)
        self.channels, rows = self._probe(side)
        self._engine = engine
        self.stride = side // rows
        # The cells of a coarse block must tile a frame, too.
        self.multiple = math.lcm(self.multiple, self.stride)

    @torch.inference_mode()
    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features. See `Backbone.extract`.

        Raises:
            ModelError: The features are not finite.
        """
        return self._joined(self._read(images, [*self._modules, *self._finer]))

    @torch.inference_mode()
    def read(self, images: torch.Tensor, tails: Sequence[str]) -> list[torch.Tensor]:
        """Read several modules in the same forwards.

        Args:
            images: As for `extract`.
            tails: Module names relative to the reading's block, such as `reading.QUERIES`, `KEYS`,
                or `CROSS_QUERIES` for PDM's semantic features (eq. 2).

        Returns:
            (B, C, h, w) float32 for each module.

        Raises:
            ModelError: The block has no such module, or its output is not finite.
        """
        return self._read(images, [self._module_name(self._unet, tail) for tail in tails])

    @torch.inference_mode()
    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute appearance and semantic features in the same forwards.

        Args:
            images: As for `extract`.

        Returns:
            The features of `extract`, (B, C, h, w), and the queries of the block's cross-attention
            (PDM, eq. 2), (B, S, h, w) float32, enlarged to the same grid if theirs is coarser.

        Raises:
            ModelError: The block has no cross-attention, or the features are not finite.
        """
        query = self._cross_attention(CROSS_QUERIES)
        *outputs, semantic = self._read(images, [*self._modules, *self._finer, query])
        appearance = self._joined(outputs)
        if semantic.shape[2:] != appearance.shape[2:]:
            semantic = F.interpolate(semantic, appearance.shape[2:], mode="bilinear")
        return appearance, semantic

    @torch.inference_mode()
    def class_tokens(self) -> dict[str, torch.Tensor]:
        """Return the keys of the named classes in the block's cross-attention (PDM, eq. 2 and 3).

        Returns:
            Name to (S,) float32, the mean of the keys of the name's tokens. S is the length of a
            cross-attention query. The keys do not depend on the frame.

        Raises:
            ModelError: The block has no cross-attention.
        """
        if not self._name_tokens:
            return {}
        to_k = self._unet.get_submodule(self._cross_attention(CROSS_KEYS))
        keys = to_k(self._prompt)[0].float()  # (T, S)
        return {name: keys[tokens].mean(0) for name, tokens in self._name_tokens.items()}

    @property
    def network(self) -> UNetPart:
        """The U-Net up to the last of the modules that `extract` reads."""
        return self._part((*self._modules, *self._finer))

    def _joined(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return features (B, C, h, w): the mean of the block's tensors, then the finer level."""
        of_block = outputs[: len(self._modules)]
        features = sum(of_block[1:], of_block[0]) / len(of_block)
        grid = (features.shape[2], features.shape[3])
        finer = [F.adaptive_avg_pool2d(level, grid) for level in outputs[len(of_block) :]]
        return torch.cat([features, *finer], dim=1)

    def _read(self, images: torch.Tensor, modules: Sequence[str]) -> list[torch.Tensor]:
        # On a CPU a batch is not faster, but it rounds sums differently. Run one by one, frames
        # have the same features at any batch size.
        chunks = images.split(1) if self.device.type == "cpu" else (images,)
        with self._turn:
            parts = [self._forward(self._noised(chunk), modules) for chunk in chunks]
        return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]

    def _forward(
        self, noisy_inputs: Iterator[torch.Tensor], modules: Sequence[str]
    ) -> list[torch.Tensor]:
        """Return the modules' outputs as grids, averaged over the noisy inputs."""
        sums: list[torch.Tensor] = []
        count = 0
        for noisy in noisy_inputs:
            outputs = self._run(noisy, self.timestep, modules)
            pairs = zip(modules, outputs, strict=True)
            grids = [self._as_grid(name, output, noisy).float() for name, output in pairs]
            sums = [a + b for a, b in zip(sums, grids, strict=True)] if sums else grids
            count += 1
        features = [total / count for total in sums]
        # If any number is not finite, the sum is not. This costs a twentieth of testing them all.
        if not all(torch.isfinite(feature.sum()) for feature in features):
            raise ModelError(
                f"model {self.name}: features are not finite in {str(self.dtype)[6:]}",
                "its weights are damaged, fetch them again"
                if self.dtype == torch.float32
                else "pass {dtype=float32}",
            )
        return features

    def _run(
        self, noisy: torch.Tensor, timestep: int, modules: Sequence[str] = ()
    ) -> tuple[torch.Tensor, ...]:
        """Return the outputs of modules, or of the whole U-Net."""
        if EXITING.is_set():
            raise ModelError(f"model {self.name}: the program ends")
        show_life()
        noisy = noisy.to(self._unet.dtype, memory_format=torch.channels_last)
        level = torch.tensor([timestep], device=self.device)
        try:
            return self._engine.run(self._part(tuple(modules)), noisy, level)
        except NeverRuns as error:
            raise ModelError(
                f"model {self.name}: its U-Net never runs {error.args[0]!r}", BLOCK_HINT
            ) from error

    def _part(self, modules: tuple[str, ...]) -> UNetPart:
        """Return the U-Net up to the last of the modules, the same one every time."""
        if modules not in self._parts:
            self._parts[modules] = UNetPart(
                self._unet, modules, self._prompt, self._pooled, self._picture_stride
            ).eval()
        return self._parts[modules]

    def _predict_noise(self, noisy: torch.Tensor, timestep: int) -> torch.Tensor:
        output = self._run(noisy, timestep)[0].float()
        if self._scheduler.config["prediction_type"] == "v_prediction":
            return noise_from_velocity(output, noisy, self._alphas[timestep])
        return output

    def _clean(self, images: torch.Tensor) -> torch.Tensor:
        if self.reading.scale != 1:
            height, width = (round(side * self.reading.scale) for side in images.shape[2:])
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        return self._encode(images * 2 - 1, self._engine)

    def _noised(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the frames at the noise level that is read, once per noise."""
        clean = self._clean(images)
        if self.reading.inversion is None:
            yield from self._add_noise(clean)
            return
        predict, alphas = self._predict_noise, self._alphas
        iterations = self.reading.inversion.iterations
        noisy = invert(predict, clean, self._levels, alphas, iterations)
        down = [level for level in reversed(self._levels) if level >= self.timestep]
        yield denoise(predict, noisy, down, alphas)

    def _add_noise(self, clean: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield clean inputs with each of the fixed noises added, or without noise."""
        if self.reading.noise == "none":
            yield clean
            return
        if self._noise.shape[1:] != clean.shape[1:]:
            rng = torch.Generator().manual_seed(NOISE_SEED)
            shape = (1, *clean.shape[1:])
            noises = [torch.randn(shape, generator=rng) for _ in range(self.reading.ensemble)]
            self._noise = torch.cat(noises).to(clean)
        timestep = torch.tensor([self.timestep], device=self.device)
        for noise in self._noise.split(1):
            yield self._scheduler.add_noise(clean, noise, timestep)  # pyright: ignore[reportArgumentType]

    def _as_grid(self, module: str, output: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        """Reshape tokens (B, N, C) of an attention to their grid: (B, C, h, w)."""
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
            f"model {self.name}: the output of {module!r}, {tuple(output.shape)}, "
            "is no feature map",
            BLOCK_HINT,
        )

    def _choose_levels(self) -> list[int]:
        """Return the levels that an inversion visits, from the cleanest on; [] without inversion.

        Raises:
            ModelError: The schedule has no such levels, or the U-Net's output is neither noise nor
                v.
        """
        steps = self._scheduler.config["num_train_timesteps"]
        if self.reading.timestep >= steps:
            raise ModelError(
                f"model {self.name}: timestep {self.reading.timestep} is outside its schedule",
                f"write one of 0 to {steps - 1} into reading.json",
            )
        if self.reading.inversion is None:
            return []
        prediction = self._scheduler.config["prediction_type"]
        if prediction not in ("epsilon", "v_prediction"):
            raise ModelError(
                f"model {self.name}: its U-Net predicts {prediction!r}, which cannot be inverted",
                "use a {recipe} without inversion",
            )
        count = self.reading.inversion.steps
        if count >= steps:
            raise ModelError(
                f"model {self.name}: {count} inversion steps do not fit into its schedule of "
                f"{steps}",
                "use fewer",
            )
        sampler: Any = DDIMScheduler.from_config(self._scheduler.config)
        sampler.set_timesteps(count)
        return sampler.timesteps.flip(0).tolist()

    def _cross_attention(self, tail: str) -> str:
        if self._attention is None:
            raise ModelError(
                f"model {self.name}: {self.reading.block!r} of its U-Net has no cross-attention, "
                "which class names need",
                f"{BLOCK_HINT}, or leave {{class_names}} out",
            )
        return f"{self._attention}.{tail}"

    def _module_name(self, unet: torch.nn.Module, tail: str) -> str:
        name = ".".join(part for part in (self.reading.block, tail) if part)
        return self._found(unet, name, ".transformer_blocks." if tail else ".resnets.")

    def _found(self, unet: torch.nn.Module, name: str, kind: str = ".resnets.") -> str:
        try:
            unet.get_submodule(name)
        except AttributeError as error:
            names = [name for name, _ in unet.named_modules()]
            some = [name for name in names if name.startswith("up_blocks") and kind in name]
            outer = [name for name in some if name.count(".") == (3 if kind == ".resnets." else 5)]
            known = f"for example {', '.join(outer)}" if outer else "it has no transformer block"
            raise ModelError(
                f"model {self.name}: its U-Net has no module {name!r}", f"{BLOCK_HINT}, {known}"
            ) from error
        return name

    def _frame_multiple(self, multiple: int) -> int:
        frame_multiple = multiple / self.reading.scale
        if frame_multiple != int(frame_multiple):
            raise ModelError(
                f"model {self.name}: a scale of {self.reading.scale:g} gives no whole pixels",
                "write 1, 2, 0.5 or 0.25 into reading.json",
            )
        return int(frame_multiple)

    @torch.inference_mode()
    def _probe(self, side: int) -> tuple[int, int]:
        """Return the channels and rows of the features of a small grey frame."""
        grey = torch.full((1, 3, side, side), 0.5, device=self.device)
        try:
            # Without the many forwards of an inversion, which do not change the shape.
            modules = [*self._modules, *self._finer]
            features = self._joined(self._forward(self._add_noise(self._clean(grey)), modules))
        except (ModelError, torch.OutOfMemoryError):
            raise
        # A U-Net that needs other inputs (class labels, a mask, a second prompt) raises exceptions
        # of any kind.
        except Exception as error:
            if is_compiler_error(error):
                raise ModelError(
                    f"model {self.name}: its U-Net cannot be compiled here ({one_line(error)})",
                    "leave {compile} out, or install what PyTorch's compiler needs (on a CPU, a "
                    "C++ compiler)",
                ) from error
            raise ModelError(
                f"model {self.name}: its U-Net does not run with an image and an empty prompt "
                f"({one_line(error)})",
                "pass a plain image model, neither for inpainting nor conditioned on classes",
            ) from error
        return features.shape[1], features.shape[2]
