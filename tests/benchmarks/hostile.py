"""Decode damaged videos and count how that ends: real files, cut off or with bytes replaced.

    python -m tests.benchmarks.hostile FOLDER... [--count 300] [--seed 0]

Damages `--count` files of the folders, the same ones for the same seed: half are cut off, half have
bytes replaced. Decodes each in a child process, as `--isolate` does. The peak of memory is the
largest of any child. Exits with status 1 after a hang, or after a failure that is not a VideoError.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from propagate.errors import VideoError
from propagate.io.decode.video import open_video
from tests.damaged_files import SHARES, cut_off, with_flips

CASES = ("frames, whole", "frames, then an error", "an error, no frame", "crash", "hang", "failure")


def read(path: Path, deadline_s: float) -> tuple[str, int, str]:
    """Decode a file and return the case, the number of frames and the error."""
    count = 0
    try:
        with open_video(path, isolate=True, deadline_s=deadline_s) as frames:
            for _ in frames:
                count += 1
    except VideoError as error:
        message = str(error)
        if "made no progress" in message:
            return "hang", count, message
        # The child crashed: also a VideoError, but one that shows a broken codec.
        if "its decoder" in message:
            return "crash", count, message
        return ("frames, then an error" if count else "an error, no frame"), count, message
    except Exception as error:
        return "failure", count, repr(error)
    return "frames, whole", count, ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=float, default=60, metavar="S")
    args = parser.parse_args()

    suffixes = (".csv", ".md", ".txt")
    files = sorted(
        file
        for folder in args.folders
        for file in folder.iterdir()
        if file.is_file() and file.suffix not in suffixes
    )
    rng = np.random.default_rng(args.seed)
    cases: dict[str, Counter[str]] = {"cut off": Counter(), "bytes replaced": Counter()}
    slowest_s, slowest = 0.0, ""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.count):
            source = files[rng.integers(len(files))]
            data = source.read_bytes()
            if number % 2:
                kind, damage = "bytes replaced", f"seed {args.seed + number}"
                bad = with_flips(data, args.seed + number)
            else:
                share = float(rng.choice(SHARES))
                kind, damage, bad = "cut off", f"{share:.0%}", cut_off(data, share)
            path = Path(folder) / f"damaged{source.suffix}"
            path.write_bytes(bad)
            started = time.monotonic()
            case, frames, error = read(path, args.deadline)
            seconds = time.monotonic() - started
            if seconds > slowest_s:
                slowest_s, slowest = seconds, f"{source.name}, {kind} ({damage}), {frames} frames"
            cases[kind][case] += 1
            if case in ("crash", "hang", "failure"):
                print(f"{case}: {source.name}, {kind} ({damage}): {error}")
    print(f"{'':24}" + "".join(f"{kind:>16}" for kind in cases))
    for case in CASES:
        print(f"{case:24}" + "".join(f"{counts[case]:16d}" for counts in cases.values()))
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory of a child {peak_mb:.0f} MB; slowest {slowest_s:.1f} s: {slowest}")
    if any(counts["hang"] + counts["failure"] for counts in cases.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
