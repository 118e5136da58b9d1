"""Follow objects frame by frame, as from a camera, and add one while the video runs.

python samples/streaming.py [FRAMES]
"""

import sys
from pathlib import Path

import numpy as np

import propagate

SAMPLE = Path(__file__).parent / "clip"


def main(max_frames: int = 90) -> None:
    propagator = propagate.Propagator(model="tiny")
    session = propagator.session()
    first = propagate.read_mask(SAMPLE / "first.png").ids
    with propagate.open_video(SAMPLE / "clip.mp4") as frames:
        for frame in frames:
            mask = None
            if frame.index == 0:
                mask = np.where(first == 3, 0, first)  # cups 1 and 2, (256, 384) uint8
            if frame.index == 10:
                truth = propagate.read_mask(SAMPLE / "truth" / "00010.png").ids
                mask = np.where(truth == 3, truth, 0)  # cup 3 joins; 1 and 2 go on
            result = session.step(frame, mask)
            if frame.index % 10 == 0:
                states = ", ".join(f"cup {i} {state}" for i, state in result.states.items())
                print(f"{result.time_s:4.1f} s: {states}; memory {session.memory_bytes >> 20} MB")
            if frame.index + 1 == max_frames:
                break


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
