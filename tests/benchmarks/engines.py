"""Measure engines and precisions: frames and CPU seconds of the features of `tiny` at 854x480.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.engines --rounds 5

All take turns in one process, and batches of 1 and 8 too, so that other work on the machine slows
all of them alike. The figures are those of the fastest round; the ratio is to the CPU seconds of
PyTorch in float32 in the same batches. The first line of each says what a start costs: the seconds
until the first frame is done, with nothing compiled on disk and then with it.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from propagate.config import Config
from propagate.features.extract import working_size
from propagate.features.openvino_engine import cpu_multiplies_bfloat16
from propagate.features.registry import load_backbone

BATCHES = (1, 8)
VARIANTS = (
    ("torch", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "auto"),
)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall seconds and the CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    variants = [v for v in VARIANTS if v[1] != "bfloat16" or cpu_multiplies_bfloat16()]
    backbones: dict[str, Any] = {}
    print("start: CPU seconds to load tiny and do a first frame, compiled before or not")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = os.environ["LOCALAPPDATA"] = cache
        for engine, dtype in variants:
            seconds = []
            for _ in range(2):

                def start(engine: str = engine, dtype: str = dtype) -> None:
                    backbone: Any = load_backbone("tiny", device="cpu", dtype=dtype, engine=engine)
                    name = f"{engine} {str(backbone.dtype).removeprefix('torch.')}"
                    backbones[name] = backbone
                    backbone.extract(frames(backbone, 1))

                seconds.append(timed(start)[1])
            print(f"  {list(backbones)[-1]:18} {seconds[0]:6.2f} {seconds[1]:6.2f}")

    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(args.rounds):
        for count in BATCHES:
            for name, backbone in backbones.items():
                given = frames(backbone, count)
                once = timed(lambda backbone=backbone, given=given: backbone.extract(given))
                found.setdefault((name, count), []).append(once)
    print(f"{torch.get_num_threads()} threads, fastest of {args.rounds} rounds")
    print("  engine             batch  frames/s  CPU s a frame  ratio")
    for (name, count), rounds in found.items():
        wall = min(wall for wall, _ in rounds) / count
        cpu = min(cpu for _, cpu in rounds) / count
        base = min(cpu for _, cpu in found["torch float32", count]) / count
        print(f"  {name:18} {count:5}  {1 / wall:8.2f}  {cpu:13.3f}  {cpu / base:5.2f}")


def frames(backbone: Any, count: int) -> torch.Tensor:
    """Return the same frames every time, at working size."""
    size = working_size(480, 854, Config(), backbone.multiple)
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))


if __name__ == "__main__":
    main()
