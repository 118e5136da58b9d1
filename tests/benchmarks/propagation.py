"""Measure the matching step alone, and compare the named matchers with their dense forms.

    python -m tests.benchmarks.propagation [--parts peers objects long] [--threads 2]

Run from the top of the checkout. Features are drawn: smooth, and drifting from frame to frame. They
are saved once, and every contender reads them in a process of its own.

    peers    one frame with a full memory on a grid of 60x107 cells with 128 channels; `dift`
             remembers 28 frames and the first. Extra MB is the peak above what the process held
             before the step. The dense form of `dift` needs about 10 GB. The masks are compared.
    objects  one frame for 1, 5 and 20 objects.
    long     `--frames` frames on a grid of 15x27 cells: does matching slow down or memory grow?

The tables show wall seconds and CPU seconds, the median of the repeats. Ratios are of CPU seconds,
because other work on the machine disturbs them least. Peaks are ru_maxrss, as the kernel keeps it.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from propagate import MATCHERS, Config
from propagate.features.colors import ColorBackbone
from propagate.session import Session
from tests.matching.published_protocols import (
    dense_vote,
    square_neighbourhood,
    stretched,
)

GRID, SMALL_GRID, CHANNELS = (60, 107), (15, 27), 128
PROTOCOLS = ("dift", "dino")
PARTS = ("peers", "objects", "long")
PAGE_BYTES = resource.getpagesize()


def drifting_features(frames: int, grid: tuple[int, int]) -> torch.Tensor:
    """Smooth random features (T, C, h, w) of a scene that drifts by half a cell per frame."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(1, CHANNELS, grid[0] // 4, grid[1] // 4, generator=generator)
    scene = F.interpolate(rough, grid, mode="bicubic")[0]
    drifted = torch.stack([scene.roll((t // 4, t // 2), (1, 2)) for t in range(frames)])
    return drifted + 0.2 * torch.randn(drifted.shape, generator=generator)


def first_mask(grid: tuple[int, int], objects: int) -> np.ndarray:
    """Squares in rows of five, as large as fit: (8 h, 8 w) uint8."""
    ids = np.zeros((8 * grid[0], 8 * grid[1]), np.uint8)
    rows, columns = -(-objects // 5), min(5, objects)
    height, width = ids.shape[0] // rows, ids.shape[1] // columns
    for i in range(objects):
        top, left = i // columns * height + height // 4, i % columns * width + width // 4
        ids[top : top + height // 2, left : left + width // 2] = i + 1
    return ids


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes() -> int:
    return PAGE_BYTES * int(Path("/proc/self/statm").read_text().split()[1])


def filled_session(features: torch.Tensor, first: np.ndarray, preset: str) -> Session:
    """A session that has seen all but the last frame of the features, and remembers them all."""
    matcher = MATCHERS[preset]
    # The same number of older frames, but so close together that the memory is full soon.
    close = tuple(2**i for i in range(len(matcher.memory.older_every)))
    matcher = replace(matcher, memory=replace(matcher.memory, older_every=close))
    session = Session(ColorBackbone(torch.device("cpu")), Config(matcher=matcher))
    session.advance(first.shape, features[0], first)
    for cells in features[1:-1]:
        session.advance(first.shape, cells)
    return session


def context_frames(preset: str) -> int:
    """Number of frames that a full memory of the preset holds, with its reference."""
    memory = MATCHERS[preset].memory
    return 1 + memory.recent_frames + len(memory.older_every)


def new_session(preset: str) -> Session:
    return Session(ColorBackbone(torch.device("cpu")), Config(matcher=MATCHERS[preset]))


def timed(step: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Medians of the seconds that a step takes: `wall_s`, and `cpu_s` of all threads."""
    wall, cpu = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
    return {"wall_s": statistics.median(wall), "cpu_s": statistics.median(cpu)}


def save_memory(folder: Path, preset: str) -> None:
    """Save what both contenders start from: features, first mask, and a full memory."""
    context = context_frames(preset)
    features, first = drifting_features(context + 1, GRID), first_mask(GRID, 2)
    session = filled_session(features, first, preset)
    torch.save(
        {"features": features, "first": first.tolist(), "state": session.state_dict()},
        folder / f"{preset}.pt",
    )


def measure_ours(folder: Path, preset: str, repeats: int) -> dict[str, Any]:
    saved = torch.load(folder / f"{preset}.pt")
    first = np.array(saved["first"], np.uint8)
    session, before = new_session(preset), resident_bytes()

    def step() -> None:
        session.load_state_dict(saved["state"])
        mask = session.advance(first.shape, saved["features"][-1]).mask
        np.save(folder / f"{preset}-ours.npy", mask)

    return {**timed(step, repeats), "bytes": peak_bytes() - before}


def measure_dense(folder: Path, protocol: str, repeats: int) -> dict[str, Any]:
    """The published step from features and soft labels to a mask, at the settings of its preset."""
    saved = torch.load(folder / f"{protocol}.pt")
    matcher = MATCHERS[protocol]
    memory = saved["state"]["memory"]
    entries = [*memory["references"], *memory["others"]]
    labels = torch.stack([labels.permute(2, 0, 1) for _, labels, *_ in entries])
    sources, target = saved["features"][:-1], saved["features"][-1]
    # The script makes the neighbourhood once for a video, so it is part of neither.
    near = square_neighbourhood(GRID, matcher.search.radius)
    before = resident_bytes()

    def step() -> None:
        vote = matcher.vote
        voted = dense_vote(target, sources, labels, near, vote.top_k, vote.temperature)
        large = F.interpolate(voted[None], scale_factor=8, mode="bilinear")[0]
        winner = stretched(large).max(0).indices
        np.save(folder / f"{protocol}-dense.npy", winner.byte().numpy())

    return {**timed(step, repeats), "bytes": peak_bytes() - before}


def measure_objects(preset: str, objects: int, repeats: int) -> dict[str, Any]:
    context = context_frames(preset)
    features = drifting_features(context + 1, GRID)
    first = first_mask(GRID, objects)
    session = filled_session(features, first, preset)
    state = session.state_dict()

    def step() -> None:
        session.load_state_dict(state)
        session.advance(first.shape, features[-1])

    return timed(step, repeats)


def measure_long(preset: str, frames: int) -> dict[str, Any]:
    """Ten samples of time and resident memory; the slope is fitted to all but the first."""
    features, first = drifting_features(64, SMALL_GRID), first_mask(SMALL_GRID, 2)
    session = new_session(preset)
    # To and fro, so that the scene never jumps.
    order = [*range(64), *range(62, 0, -1)]
    seconds, resident, marks = [], [], []
    started, every = time.process_time(), max(1, frames // 10)
    for index in range(frames):
        session.advance(first.shape, features[order[index % 126]], first if index == 0 else None)
        if (index + 1) % every == 0:
            now = time.process_time()
            seconds.append((now - started) / every)
            resident.append(resident_bytes())
            marks.append(index + 1)
            started = now
    slope = float(np.polyfit(marks[1:], resident[1:], 1)[0]) if len(marks) > 2 else float("nan")
    return {"seconds": seconds, "resident": resident, "slope": slope}


def _child(task: Callable[..., Any], arguments: tuple[Any, ...], threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    pipe.send(json.dumps(task(*arguments)))


def apart(threads: int, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task in a fresh process, so that its peak is its own; return what it returns.

    Raises:
        RuntimeError: The process ended without a result; most often for lack of memory.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(task, arguments, threads, theirs))
    child.start()
    theirs.close()
    try:
        return json.loads(ours.recv())
    except EOFError as error:
        child.join()
        raise RuntimeError(f"{task.__name__} ended with status {child.exitcode}") from error
    finally:
        child.join()


def compare_peers(threads: int, repeats: int, protocols: list[str]) -> Table:
    table = Table("", "wall s", "CPU s", "extra MB", "times as fast", "memory", "pixels apart")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in protocols:
            apart(threads, save_memory, folder, name)
            dense = apart(threads, measure_dense, folder, name, 1)
            ours = apart(threads, measure_ours, folder, name, repeats)
            a, b = (np.load(folder / f"{name}-{form}.npy") for form in ("dense", "ours"))
            table.add_row(f"{name}, dense", *_cells(dense), "", "", "")
            table.add_row(
                f"{name}, ours",
                *_cells(ours),
                f"{dense['cpu_s'] / ours['cpu_s']:.1f}x",
                f"1/{dense['bytes'] / max(1, ours['bytes']):.0f}",
                f"{(a != b).sum()} of {a.size}",
            )
        apart(threads, save_memory, folder, "default")
        table.add_row("default", *_cells(apart(threads, measure_ours, folder, "default", repeats)))
    return table


def _cells(measured: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{measured['wall_s']:.3f}",
        f"{measured['cpu_s']:.3f}",
        f"{measured['bytes'] / 1e6:.0f}",
    )


def compare_objects(threads: int, repeats: int, preset: str) -> Table:
    table = Table("objects", "wall s", "CPU s", "of one object's", title=preset)
    one = 0.0
    for objects in (1, 5, 20):
        found = apart(threads, measure_objects, preset, objects, repeats)
        wall_s, cpu_s = found["wall_s"], found["cpu_s"]
        one = one or cpu_s
        table.add_row(str(objects), f"{wall_s:.3f}", f"{cpu_s:.3f}", f"{cpu_s / one:.2f}x")
    return table


def follow_long(threads: int, preset: str, frames: int) -> Table:
    found = apart(threads, measure_long, preset, frames)
    title = f"{preset}: {found['slope']:.0f} bytes per frame"
    table = Table("of the frames", "CPU ms per frame", "resident MB", title=title)
    for tenth, (seconds, resident) in enumerate(
        zip(found["seconds"], found["resident"], strict=True), start=1
    ):
        table.add_row(f"{10 * tenth} %", f"{1000 * seconds:.1f}", f"{resident / 1e6:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument("--preset", choices=MATCHERS, default="default", help="objects and long")
    parser.add_argument("--frames", type=int, default=10_000, help="of the long run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="of our own; the median counts")
    args = parser.parse_args()

    console = Console(width=110)
    console.print(f"{GRID[0]}x{GRID[1]} cells, {CHANNELS} channels, {args.threads} threads")
    if "peers" in args.parts:
        console.print(compare_peers(args.threads, args.repeats, args.protocols))
    if "objects" in args.parts:
        console.print(compare_objects(args.threads, args.repeats, args.preset))
    if "long" in args.parts:
        console.print(follow_long(args.threads, args.preset, args.frames))


if __name__ == "__main__":
    main()
