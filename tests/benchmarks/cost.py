"""Measure what features cost: U-Net forwards, FLOPs and seconds per frame of each recipe.

    python -m tests.benchmarks.cost --models DIR [--names sd21 sdxl-turbo] [--json cost.json]

Run from the top of the checkout. DIR holds a folder for each model. Models of `full_size_models`
that DIR lacks are built there first, with random weights. Prints two tables:

    recipes     U-Net forwards per frame, whole and stopped early; GFLOPs, where a multiplication
                and an addition count as two; seconds. Forwards are counted on a small frame.
                Seconds are a sum: one VAE encoding, one whole and one early forward are measured
                at full size and multiplied by their counts.
    extractor   recipes of one forward: frames per second from 8-bit frames to features, against
                the bare VAE encoder and early forward on prepared tensors, which is the ceiling.
                On CUDA for batches of 1, 8 and 32, with the peak of allocated memory.

Seconds are the least of the repeats. CPU seconds are of all threads. On a CPU the ratio is of CPU
seconds, because other work on the machine disturbs them least.
"""

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from rich.console import Console
from rich.table import Table
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from propagate.config import Config
from propagate.features.backbone import Backbone
from propagate.features.extract import extract_features, working_size
from propagate.features.networks import UNetPart
from propagate.features.recipes import RECIPES
from propagate.features.registry import load_backbone
from tests.full_size_models import save_full_size_model

SMALL_PX = 64
RECIPE_NAMES = ("official", "paper", "dift", "default")
CUDA_BATCHES = (1, 8, 32)


@dataclass(frozen=True, slots=True, eq=False)
class Forwards:
    """The forwards that the extraction of one frame runs.

    Attributes:
        encoder: What runs before the U-Net: the VAE's encoder, or nothing.
        unet: The network.
        whole: Forwards of the U-Net that run to its end.
        early: Forwards that stop before.
        last: Dotted name of the module after which those stop.
        shape: Of the latents (1, C, h, w) of a frame of `small_px` squared.
        small_px: Side of the frame on which this was found.
        args: What the U-Net takes after the latents.
        kwargs: And by name: the text.
    """

    encoder: torch.nn.Sequential
    unet: torch.nn.Module
    whole: int
    early: int
    last: str
    shape: torch.Size
    small_px: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A module and the arguments of its call."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @torch.inference_mode()
    def run(self, last: str | None = None) -> None:
        """Call the module; with `last`, stop after that module inside it."""
        if last is None:
            self.module(*self.args, **self.kwargs)
            return
        handle = self.module.get_submodule(last).register_forward_hook(_stop)
        try:
            self.module(*self.args, **self.kwargs)
        except _Stopped:
            pass
        finally:
            handle.remove()


class _Stopped(Exception):
    pass


def _stop(*_: Any) -> None:
    raise _Stopped


def count_forwards(backbone: Backbone) -> Forwards:
    """Record the forwards that one small frame needs."""
    side = backbone.multiple * -(-SMALL_PX // backbone.multiple)
    image = torch.full((1, 3, side, side), 0.5, device=backbone.device)
    encoder: list[torch.nn.Module] = []
    started: list[torch.nn.Module] = []
    finished: list[torch.nn.Module] = []

    def before(module: torch.nn.Module, _inputs: Any) -> None:
        if isinstance(module, UNet2DConditionModel | UNet2DModel):
            started.append(module)
        elif not started and not isinstance(module, UNetPart) and set(encoder) <= set(finished):
            # Not called by another: that one would not have finished yet.
            encoder.append(module)

    handles = [
        register_module_forward_pre_hook(before),
        register_module_forward_hook(lambda module, *_: finished.append(module)),
    ]
    try:
        backbone.extract(image)
    finally:
        for handle in handles:
            handle.remove()
    unet = started[0]
    whole = finished.count(unet)
    names = {module: name for name, module in unet.named_modules()}
    last = [names[module] for module in finished if module in names][-1]
    latents, args, kwargs = _first_inputs(backbone, unet, image)
    return Forwards(
        encoder=torch.nn.Sequential(*encoder),
        unet=unet,
        whole=whole,
        early=len(started) - whole,
        last=last,
        shape=latents.shape,
        small_px=side,
        args=args,
        kwargs=kwargs,
    )


def _first_inputs(
    backbone: Backbone, unet: torch.nn.Module, image: torch.Tensor
) -> tuple[torch.Tensor, tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the first call of the U-Net by the extractor."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))
        raise _Stopped

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        backbone.extract(image)
    except _Stopped:
        pass
    finally:
        handle.remove()
    (latents, *args), kwargs = calls[0]
    return latents, tuple(args), kwargs


def prepare(forwards: Forwards, batch: int, height: int, width: int) -> tuple[Call, Call]:
    """Make calls of the VAE's encoder and of the U-Net on random tensors for that frame size."""
    channels, rows, columns = forwards.shape[1:]
    latents = (height * rows // forwards.small_px, width * columns // forwards.small_px)
    pictures = _drawn(forwards.encoder, (batch, 3, height, width))
    noisy = _drawn(forwards.unet, (batch, channels, *latents))

    def of_batch(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.expand(batch, *tensor.shape[1:]) if tensor.ndim > 1 else tensor

    kwargs = tree_map_only(torch.Tensor, of_batch, forwards.kwargs)
    return (
        Call(forwards.encoder, (pictures,), {}),
        Call(forwards.unet, (noisy, *forwards.args), kwargs),
    )


def _drawn(module: torch.nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw random numbers in the precision of a module, on its device."""
    weight = next(module.parameters(), torch.empty(0))
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return drawn.to(weight, memory_format=torch.channels_last)


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter plus the attention on CPUs, which it leaves out."""

    def attention(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
        return sdpa_flop_count(query, key, value)

    cpu_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={cpu_attention: attention})


def count_flops(call: Call, last: str | None = None) -> int:
    """Count the FLOPs of a call from its shapes alone."""

    def shape_only(tree: Any) -> Any:
        return tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), tree)

    weights = [*call.module.parameters(), *call.module.buffers()]
    twin = copy.deepcopy(call.module, {id(weight): shape_only(weight) for weight in weights})
    with flop_counter() as counter:
        Call(twin, shape_only(call.args), shape_only(call.kwargs)).run(last)
    return counter.get_total_flops()


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds on the wall clock, and of the CPU over all threads."""

    wall: float
    cpu: float


def timed(step: Callable[[], Any], device: torch.device) -> Seconds:
    started = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Seconds(time.perf_counter() - started[0], time.process_time() - started[1])


def least(found: list[Seconds]) -> Seconds:
    return Seconds(min(one.wall for one in found), min(one.cpu for one in found))


def measured(step: Callable[[], Any], device: torch.device, repeats: int) -> Seconds:
    """Time a call and take the least of the repeats; on CUDA, after one that is not counted."""
    if device.type == "cuda":
        step()
    return least([timed(step, device) for _ in range(repeats)])


def draw_frames(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def cost_of_recipe(
    backbone: Backbone,
    forwards: Forwards,
    size: tuple[int, int],
    repeats: int,
    known: dict[str, Seconds],
) -> dict[str, Any]:
    """FLOPs and seconds of a frame read at (height, width).

    Args:
        backbone: The extractor.
        forwards: What it runs.
        size: At which it is read.
        repeats: Of each measurement.
        known: What was measured with the same model before; the rest is added.
    """
    height, width = size
    working = f"{width}x{height}"
    encode, unet = prepare(forwards, 1, height, width)
    flops = vae_flops = count_flops(encode)
    parts = {
        f"VAE encoding of {working}": (encode, None, 1),
        f"U-Net on {working}": (unet, None, forwards.whole),
        f"U-Net on {working} up to {forwards.last}": (unet, forwards.last, forwards.early),
    }
    cost = {
        "working_size": working,
        "whole_forwards": forwards.whole,
        "early_forwards": forwards.early,
        "vae_gflops": vae_flops / 1e9,
        "seconds_of_one": {},
    }
    total = Seconds(0, 0)
    for part, (call, last, count) in parts.items():
        if count == 0:
            continue
        if part not in known:
            known[part] = measured(partial(call.run, last), backbone.device, repeats)
        one = known[part]
        cost["seconds_of_one"][part] = asdict(one)
        total = Seconds(total.wall + count * one.wall, total.cpu + count * one.cpu)
        if call is unet:
            flops += count * count_flops(call, last)
    return cost | {"gflops": flops / 1e9, "wall_s": total.wall, "cpu_s": total.cpu}


def compare_with_ceiling(
    backbone: Backbone, forwards: Forwards, size: tuple[int, int], batch: int, repeats: int
) -> dict[str, Any]:
    """Time the extractor and its bare parts in turns, on frames of (height, width)."""
    device = backbone.device
    frames = draw_frames(batch, size)
    height, width = working_size(*size, Config(), backbone.multiple)
    encode, unet = prepare(forwards, batch, height, width)

    def extract() -> None:
        extract_features(backbone, Config(), frames)

    def bare() -> None:
        encode.run()
        unet.run(forwards.last)

    if device.type == "cuda":
        extract()
        bare()
        torch.cuda.reset_peak_memory_stats(device)
    turns = [(timed(extract, device), timed(bare, device)) for _ in range(repeats)]
    ours, ceiling = (least(list(found)) for found in zip(*turns, strict=True))
    if device.type == "cuda":
        ratio, peak = ceiling.wall / ours.wall, torch.cuda.max_memory_allocated(device)
    else:
        # The kernel keeps one peak for the whole process, so none for a recipe.
        ratio, peak = ceiling.cpu / ours.cpu, None
    return {
        "batch": batch,
        "frames_per_s": batch / ours.wall,
        "ceiling_per_s": batch / ceiling.wall,
        "cpu_s": ours.cpu,
        "ceiling_cpu_s": ceiling.cpu,
        "ratio": ratio,
        "peak_bytes": peak,
    }


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Describe the machine."""
    facts = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "bfloat16 instructions": [
            name
            for name, here in (
                ("AVX512-BF16", torch.cpu._is_avx512_bf16_supported()),
                ("AMX", torch.cpu._is_amx_tile_supported()),
            )
            if here
        ],
        "torch": torch.__version__,
        "device": str(device),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure(
    folder: Path, recipes: list[str], size: tuple[int, int], device: str, dtype: str, repeats: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure one model: its rows of both tables."""
    costs, ratios = [], []
    known: dict[str, Seconds] = {}
    for recipe in recipes:
        backbone = load_backbone(str(folder), device=device, dtype=dtype, recipe=recipe)
        forwards = count_forwards(backbone)
        row = {"model": folder.name, "recipe": recipe}
        working = working_size(*size, Config(), backbone.multiple)
        costs.append(row | cost_of_recipe(backbone, forwards, working, repeats, known))
        if forwards.whole + forwards.early == 1:
            batches = CUDA_BATCHES if backbone.device.type == "cuda" else (1,)
            for batch in batches:
                found = compare_with_ceiling(backbone, forwards, size, batch, repeats)
                ratios.append(row | found)
        del backbone, forwards
    return costs, ratios


def cost_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "recipe", "size", "forwards", "GFLOPs", "VAE's", "wall s", "CPU s")
    for row in rows:
        counts = [
            f"{row[f'{kind}_forwards']} {kind}"
            for kind in ("whole", "early")
            if row[f"{kind}_forwards"]
        ]
        table.add_row(
            row["model"],
            row["recipe"],
            row["working_size"],
            " + ".join(counts),
            f"{row['gflops']:,.0f}",
            f"{row['vae_gflops']:,.0f}",
            f"{row['wall_s']:,.1f}",
            f"{row['cpu_s']:,.1f}",
        )
    return table


def ratio_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "recipe", "batch", "frames/s", "ceiling", "ratio", "peak MB")
    for row in rows:
        table.add_row(
            row["model"],
            row["recipe"],
            str(row["batch"]),
            f"{row['frames_per_s']:.3g}",
            f"{row['ceiling_per_s']:.3g}",
            f"{100 * row['ratio']:.1f} %",
            "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}",
        )
    return table


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT as (height, width)."""
    width, height = text.split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, metavar="DIR")
    parser.add_argument("--names", nargs="+", default=["sd21", "sdxl-turbo"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPE_NAMES)
    parser.add_argument("--size", type=parse_size, default="854x480", help="of the video")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write everything there too")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    report: dict[str, Any] = {"machine": machine(torch.device(args.device), args.threads)}
    report |= {"dtype": args.dtype, "repeats": args.repeats, "recipes": [], "extractor": []}
    for name in args.names:
        folder = args.models / name
        if not folder.exists():
            save_full_size_model(name, args.models)
        costs, ratios = measure(
            folder, args.recipes, args.size, args.device, args.dtype, args.repeats
        )
        report["recipes"] += costs
        report["extractor"] += ratios
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=2) + "\n")
    console = Console(width=110)
    console.print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    console.print(f"U-Net in {args.dtype}, least of {args.repeats} repeats")
    console.print(cost_table(report["recipes"]))
    if report["extractor"]:
        console.print(ratio_table(report["extractor"]))


if __name__ == "__main__":
    main()
