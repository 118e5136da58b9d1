"""Follow the sample's three cups through the clip, by import: masks and an overlay in `out/clip`.

python samples/quickstart.py
"""

from pathlib import Path

import propagate

SAMPLE = Path(__file__).parent / "clip"


def main(out: str = "out") -> None:
    propagator = propagate.Propagator(model="tiny")
    reference = propagate.read_mask(SAMPLE / "first.png")
    summary = propagator.run(SAMPLE / "clip.mp4", {0: reference}, out, overlay=True, overwrite=True)
    print(f"{summary.frames} frames, objects {summary.object_ids}, in {summary.folder}")


if __name__ == "__main__":
    main()
