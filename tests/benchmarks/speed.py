"""Measure a run: seconds of each stage, frames per second, and memory over time.

    python tests/benchmarks/speed.py CLIP MASK [--frames 1000] [--model tiny] [--one-by-one]

Repeats the clip until `--frames` frames are done and writes masks as `propagate run` does. Prints
resident and peak memory at a few frames and at the end, and the milliseconds of each stage. The
stages overlap and slow each other down; `--one-by-one` shows what each one takes alone.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import propagate
from propagate.stage_clock import StageClock


def repeated(clip: str, count: int) -> Iterator[propagate.Frame]:
    """Yield the frames of the clip again and again with rising numbers, `count` in all."""
    done = 0
    while done < count:
        with propagate.open_video(clip) as frames:
            for frame in frames:
                yield propagate.Frame(frame.image, done, frame.time, f"{done:05d}")
                done += 1
                if done == count:
                    return


def one_by_one(
    session: propagate.Session,
    frames: Iterator[propagate.Frame],
    mask: propagate.Mask,
    clock: StageClock,
) -> Iterator[tuple[propagate.Frame, propagate.Result]]:
    """Do what `Propagator.follow` does, in one thread."""
    for frame in frames:
        with clock("features"):
            (features,) = session.extract([frame])
        with clock("match"):
            given = mask if frame.index == 0 else None
            result = session.advance(frame.image.shape[:2], features, given, frame.time_s)
        yield frame, result


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip")
    parser.add_argument("mask")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--matcher", default="default")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--one-by-one", action="store_true")
    args = parser.parse_args()

    config = propagate.Config.named(args.matcher)
    started = time.monotonic()
    propagator = propagate.Propagator(args.model, config=config)
    print(f"model loaded in {time.monotonic() - started:.1f} s")
    session, clock = propagator.session(), StageClock()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        frames, mask = repeated(args.clip, args.frames), propagate.read_mask(args.mask)
        if args.one_by_one:
            steps = one_by_one(session, frames, mask, clock)
        else:
            steps = propagator.follow(session, frames, {0: mask}, clock=clock)
        for count, (frame, result) in enumerate(steps, start=1):
            with clock("write"):
                propagate.write_mask(Path(out) / f"{frame.name}.png", result.mask)
            if count in (1, 60, 200, 500, args.frames):
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(
                    f"frame {count}: resident {resident_mb():.0f} MB, peak so far {peak:.0f} MB, "
                    f"{count / (time.monotonic() - started):.2f} frames/s",
                    flush=True,
                )
    for stage, seconds in clock.seconds.items():
        print(f"{stage:9} {1000 * seconds / args.frames:7.1f} ms per frame")


if __name__ == "__main__":
    main()
