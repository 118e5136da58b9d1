"""Kill a batch with SIGKILL again and again, and check that no file is lost or different.

    python -m tests.benchmarks.kills DAVIS --kills 50
    python -m tests.benchmarks.kills DAVIS --kills 10 --engine ray

Run from the top of the checkout. Makes a batch of six clips of a DAVIS root and runs it to its end
once. Then runs it in fresh folders and kills it at seeded random moments, `--kills` times in all.
With the engine `local` it kills the whole batch, its parent or one worker, and starts the batch
again with the same command where that ended it. With `ray` it kills one worker each time, and the
batch continues by itself. Compares every finished folder with the first, byte for byte; only
"timing" in result.json may differ. Exits with status 1 if a file is lost or different.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.batch_runs import files_of

# A batch without progress for this long hangs.
PATIENCE_S = 600


def write_manifest(root: Path, folder: Path, clips: int, frames: int) -> Path:
    lines = []
    for images in sorted((root / "JPEGImages/480p").iterdir())[:clips]:
        mask = min((root / "Annotations/480p" / images.name).glob("*.png"))
        line = {"video": str(images), "mask": str(mask), "max_frames": frames}
        lines.append(json.dumps(line) + "\n")
    manifest = folder / "clips.jsonl"
    manifest.write_text("".join(lines))
    return manifest


def start(manifest: Path, out: Path, log: Path, args: argparse.Namespace) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "propagate", "batch", manifest, "-o", out, "--jobs", "2"),
        *("--engine", args.engine, "--retry", args.kills, "--log-json", log, "--save-every", "0"),
        *("--model", args.model, "--short-side", args.short_side, "--format", "png,rle"),
    ]
    # Its own session, so that the whole batch can be killed at once.
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def masks_in(out: Path) -> int:
    return len(list(out.glob("*/masks/*.png")))


def wait_for_masks(process: subprocess.Popen[str], out: Path, count: int) -> bool:
    """Wait until there are `count` masks; return False if the batch ended first."""
    deadline = time.monotonic() + PATIENCE_S
    while masks_in(out) < count:
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise SystemExit(f"{out}: hangs with {masks_in(out)} masks")
        time.sleep(0.005)
    return True


def workers_of(log: Path) -> list[int]:
    """Read the process ids of the workers that last began a video from the log."""
    lines = log.read_text().splitlines() if log.exists() else []
    pids = {}
    for line in lines:
        with suppress(ValueError):  # a line that is half written
            event = json.loads(line)
            if event["event"] == "started":
                pids[event["worker"]] = event["pid"]
    return list(pids.values())


def kill(process: subprocess.Popen[str], victim: str, log: Path, rng: random.Random) -> bool:
    """Send SIGKILL; return False if the victim had already ended."""
    try:
        if victim == "worker":
            pids = workers_of(log)
            if not pids:
                return False
            os.kill(rng.choice(pids), signal.SIGKILL)
        elif victim == "parent":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def differences(out: Path, whole: Path) -> list[str]:
    ours, theirs = (files_of(folder, "*/**/*") for folder in (out, whole))
    return [name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)]


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a batch.

    Raises:
        SystemExit: The batch failed, or did not end.
    """
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        raise SystemExit("a batch did not end") from error
    if process.returncode != 0:
        raise SystemExit(f"a batch ended with {process.returncode}:\n{said}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="holds JPEGImages/480p and Annotations/480p")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--short-side", type=int, default=96)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--frames", type=int, default=40, help="of each clip at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng, done, batches, bad = random.Random(args.seed), Counter[str](), 0, []
    victims = ("worker",) if args.engine == "ray" else ("all", "parent", "worker")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = write_manifest(args.root, folder, args.clips, args.frames)
        finish(start(manifest, folder / "whole", folder / "whole.jsonl", args))
        files = len(files_of(folder / "whole", "*/**/*"))
        print(f"whole: {args.clips} clips, {masks_in(folder / 'whole')} masks, {files} files")
        while done.total() < args.kills:
            batches += 1
            out, sitting, process = folder / f"killed{batches}", 0, None
            while done.total() < args.kills:
                log = folder / f"{batches}-{sitting}.jsonl"
                if process is None:
                    process = start(manifest, out, log, args)
                more = masks_in(out) + rng.randrange(1, 25)
                if not wait_for_masks(process, out, more):
                    break
                time.sleep(rng.random() * 0.2)
                victim = rng.choice(victims)
                if not kill(process, victim, log, rng):
                    continue
                done[victim] += 1
                if victim != "worker":
                    process.communicate(timeout=PATIENCE_S)
                    process, sitting = None, sitting + 1
            if process is None:
                process = start(manifest, out, folder / f"{batches}-{sitting}.jsonl", args)
            finish(process)
            wrong = differences(out, folder / "whole")
            bad += wrong
            kills = ", ".join(f"{number} of {victim}" for victim, number in sorted(done.items()))
            print(f"batch {batches}: {done.total()} kills so far ({kills}), {len(wrong)} wrong")
            print("".join(f"    {name}\n" for name in sorted(wrong)), end="", flush=True)
    print(f"{done.total()} kills, {batches} batches, {len(bad)} files lost or different")
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
