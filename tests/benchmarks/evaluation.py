"""Measure how fast masks are scored, against decoding them and against other tools.

    python tests/benchmarks/evaluation.py [--masks DAVIS/Annotations/480p] [--repeats 3]
        [--peer-python PYTHON_WITH_VOS_BENCHMARK] [--official CHECKOUT_OF_DAVIS2017_EVALUATION]

Makes a DAVIS folder of the size of DAVIS-2017 val from masks of single objects: 30 sequences, 2010
frames, 60 objects, 854x480. Every contender scores the same files in a process of its own, with
start and imports. The table shows CPU seconds (user and system, with all children), wall seconds,
and the peak of memory of all processes together: the smallest of the repeats, and the median in
brackets. Compare CPU seconds if the machine also does other work. A second table shows where our
own time goes.

`--official` needs numpy, pandas, opencv, scikit-image, scipy and tqdm beside `--peer-python`.
"""

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image, ImageFile

from propagate.eval import metrics
from propagate.eval.davis import evaluate_davis
from propagate.io.masks.palette import palette

_HEIGHT, _WIDTH = 480, 854
_SEQUENCES, _FRAMES = 30, 67
_CELL = 24
_OBJECTS = (1, 2, 3, 2, 1, 3, 2, 2, 1, 3)

_DECODE = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
root, results = map(Path, sys.argv[1:3])
for truth in (root / "Annotations/480p").glob("*/*.png"):
    for path in (truth, results / truth.parent.name / truth.name):
        with Image.open(path) as image:
            np.asarray(image)
"""
_OURS = """
import json, sys
from propagate.eval.davis import evaluate_davis
if __name__ == "__main__":
    scores = evaluate_davis(sys.argv[1], sys.argv[2], jobs=int(sys.argv[3])).global_
    print(json.dumps([scores["J-Mean"], scores["F-Mean"]]))
"""
_VOS_BENCHMARK = """
import json, sys
from vos_benchmark.benchmark import benchmark
_, j, f, _ = benchmark([sys.argv[1] + "/Annotations/480p"], [sys.argv[2]], verbose=False,
                       num_processes=int(sys.argv[3]))
print(json.dumps([j[0] / 100, f[0] / 100]))
"""
_OFFICIAL = """
import json, sys
import numpy as np
from davis2017.evaluation import DAVISEvaluation
scores = DAVISEvaluation(sys.argv[1], "semi-supervised", "val").evaluate(sys.argv[2])
print(json.dumps([float(np.mean(scores[measure]["M"])) for measure in "JF"]))
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """What scores the masks.

    Attributes:
        python: The interpreter.
        code: A script that takes the folders of truth and predictions, and then `arguments`.
        arguments: The number of processes, if it can have several.
        checkout: A folder to import from.
    """

    python: str
    code: str
    arguments: list[str]
    checkout: Path | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took.

    Attributes:
        cpu_s: User and system time of the process and its children.
        wall_s: From start to end.
        peak_mb: Largest sum of the resident memory of the process and its children.
        printed: Its last line.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float
    printed: str


# --- the masks -----------------------------------------------------------------------------------


def make_workload(root: Path, results: Path, masks: Path | None) -> None:
    """Write truth under `root`, laid out like DAVIS, and predictions under `results`."""
    generator = np.random.default_rng(2017)
    clips = [sorted(clip.glob("*.png")) for clip in sorted(masks.iterdir())] if masks else []
    names = [f"sequence-{index:02d}" for index in range(_SEQUENCES)]
    for index, name in enumerate(names):
        folders = [
            root / "Annotations/480p" / name,
            results / name,
            root / "JPEGImages/480p" / name,
        ]
        for folder in folders:
            folder.mkdir(parents=True)
        object_count = _OBJECTS[index % len(_OBJECTS)]
        for frame, truth in enumerate(draw_sequence(clips, object_count, generator)):
            save(folders[0] / f"{frame:05d}.png", truth)
            save(folders[1] / f"{frame:05d}.png", mispredict(truth, generator))
            # The official script counts the images, and never opens one.
            (folders[2] / f"{frame:05d}.jpg").touch()
    listed = root / "ImageSets/2017/val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(names))


def draw_sequence(
    clips: list[list[Path]], object_count: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Give frames of so many objects, each a real one moved to another place, or a blob."""
    clip_of = generator.integers(len(clips) or 1, size=object_count)
    shifts = generator.integers((-250, -80), (250, 80), size=(object_count, 2))
    for frame in range(_FRAMES):
        ids = np.zeros((_HEIGHT, _WIDTH), dtype=np.uint8)
        for object_id, (clip, (dx, dy)) in enumerate(zip(clip_of, shifts, strict=True), start=1):
            if clips:
                files = clips[clip]
                with Image.open(files[frame % len(files)]) as image:
                    moved = image.transform(
                        image.size, Image.Transform.AFFINE, (1, 0, dx, 0, 1, dy)
                    )
                shown = np.asarray(moved) > 0
            else:
                shown = draw_blob(_WIDTH / 2 + dx + frame, _HEIGHT / 2 + dy, frame)
            ids[shown] = object_id
        if frame < 2:
            # vos-benchmark counts an object from where it first appears: let that be at once.
            for object_id in range(1, object_count + 1):
                ids[20:30, 20 * object_id : 20 * object_id + 10] = object_id
        yield ids


def draw_blob(x_px: float, y_px: float, frame: int) -> np.ndarray:
    y, x = np.ogrid[:_HEIGHT, :_WIDTH]
    angle = np.arctan2(y - y_px, x - x_px)
    rim_px = 90 + 20 * np.sin(3 * angle + frame / 9) + 8 * np.sin(11 * angle)
    return np.hypot(y - y_px, x - x_px) < rim_px


def mispredict(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Bend the outlines by some pixels, and cut a piece out now and then."""
    columns, rows = np.arange(0, _WIDTH + _CELL, _CELL), np.arange(0, _HEIGHT + _CELL, _CELL)
    corners = np.stack(np.meshgrid(columns, rows), axis=-1)
    bent = corners + generator.normal(0, 3, corners.shape)
    mesh = [
        (
            (*corners[j, i], *corners[j + 1, i + 1]),
            # A quad of Pillow: upper left, lower left, lower right, upper right.
            (*bent[j, i], *bent[j + 1, i], *bent[j + 1, i + 1], *bent[j, i + 1]),
        )
        for j in range(len(rows) - 1)
        for i in range(len(columns) - 1)
    ]
    image = Image.fromarray(truth)
    pred = np.array(image.transform(image.size, Image.Transform.MESH, mesh))
    if generator.random() < 0.2:
        row, column = generator.integers((0, 0), (_HEIGHT, _WIDTH))
        pred[row : row + 80, column : column + 80] = 0
    return pred


def save(path: Path, ids: np.ndarray) -> None:
    image = Image.fromarray(ids)
    image.putpalette(palette().tobytes())
    image.save(path)


# --- the runs ------------------------------------------------------------------------------------


def run(contender: Contender, masks: list[str]) -> Cost:
    """Run it in a process of its own, and account for that and its children."""
    environment = dict(os.environ)
    if contender.checkout:
        environment["PYTHONPATH"] = str(contender.checkout)
    with tempfile.TemporaryDirectory() as folder:
        # A file, since the fresh interpreters of a pool read their main module again.
        script = Path(folder) / "run.py"
        script.write_text(contender.code)
        started = time.monotonic()
        process = subprocess.Popen(
            [contender.python, str(script), *masks, *contender.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        peaks = [0.0]
        watcher = threading.Thread(target=watch_memory, args=(process.pid, peaks))
        watcher.start()
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        # Of `process.wait` one would not learn the CPU time.
        _, process.returncode, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{contender.python}: this ended with an error:\n{contender.code}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(cpu_s, wall_s, peaks[0], lines[-1] if lines else "")


def watch_memory(pid: int, peaks: list[float]) -> None:
    try:
        root = psutil.Process(pid)
        while root.status() != psutil.STATUS_ZOMBIE:
            resident = root.memory_info().rss
            for child in root.children(recursive=True):
                try:
                    resident += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peaks[0] = max(peaks[0], resident / 2**20)
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        pass


def compare(
    root: Path, results: Path, repeats: int, peer_python: str | None, official: Path | None
) -> None:
    """Let every contender score the masks in turn, and print a row for each."""
    masks = [str(root), str(results)]
    contenders = {"decoding alone": Contender(sys.executable, _DECODE, [])}
    for jobs in ("1", "2"):
        contenders[f"propagate, {jobs} processes"] = Contender(sys.executable, _OURS, [jobs])
        if peer_python:
            contenders[f"vos-benchmark, {jobs}"] = Contender(peer_python, _VOS_BENCHMARK, [jobs])
    if peer_python and official:
        contenders["davis2017-evaluation"] = Contender(peer_python, _OFFICIAL, [], official)
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    # In turn, so that what else the machine does falls on all alike.
    for _ in range(repeats):
        for name, contender in contenders.items():
            costs[name].append(run(contender, masks))
            print(f"{name}: {costs[name][-1]}", file=sys.stderr, flush=True)

    print(f"{'':26} {'CPU s':>16} {'x decoding':>11} {'wall s':>16} {'peak MB':>8}")
    floor_cpu_s = min(cost.cpu_s for cost in costs["decoding alone"])
    for name, runs in costs.items():
        cpu, wall = [cost.cpu_s for cost in runs], [cost.wall_s for cost in runs]
        print(
            f"{name:26} {min(cpu):7.2f} ({statistics.median(cpu):6.2f}) "
            f"{min(cpu) / floor_cpu_s:11.2f} {min(wall):7.2f} ({statistics.median(wall):6.2f}) "
            f"{max(cost.peak_mb for cost in runs):8.0f}"
        )
    scores = {name: json.loads(runs[0].printed) for name, runs in costs.items() if runs[0].printed}
    expected = scores["propagate, 1 processes"]
    for name, found in scores.items():
        # vos-benchmark averages percentages: another last bit.
        same = "the same" if np.allclose(found, expected, rtol=0, atol=1e-12) else "ANOTHER SCORE"
        print(f"{name:26} J {found[0]:.15f} F {found[1]:.15f} {same}")


# --- where our time goes -------------------------------------------------------------------------


def print_stages(root: Path, results: Path) -> None:
    """Score in this process with a clock in each function that does a part of the work."""
    seconds: dict[str, float] = collections.defaultdict(float)

    def clocked(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def with_clock(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[stage] += time.process_time() - started

        return with_clock

    parts = {
        "decoding": [(Image, "open"), (ImageFile.ImageFile, "load"), (Image.Image, "tobytes")],
        "window": [(metrics, "_crop")],
        "packing": [(metrics.PixelGrid, "pack")],
        "boundary": [(metrics.PixelGrid, "boundary")],
        "dilation": [(metrics.PixelGrid, "dilate")],
        "J and matching": [(metrics, "_score_pair")],
    }
    for stage, functions in parts.items():
        for owner, name in functions:
            setattr(owner, name, clocked(stage, getattr(owner, name)))
    started = time.process_time()
    evaluate_davis(root, results)
    total_s = time.process_time() - started
    seconds["rest"] = total_s - sum(seconds.values())
    for stage, spent_s in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{stage:16} {spent_s:6.2f} s {spent_s / total_s:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=Path, help="folder of <clip>/*.png; without it, blobs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", help="an interpreter with vos-benchmark")
    parser.add_argument("--official", type=Path, help="a checkout of davis2017-evaluation")
    parser.add_argument("--keep", type=Path, help="folder for the masks, made where it is missing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        root, results = folder / "DAVIS", folder / "results"
        if not root.exists():
            make_workload(root, results, args.masks)
        compare(root, results, args.repeats, args.peer_python, args.official)
        print_stages(root, results)


if __name__ == "__main__":
    main()
