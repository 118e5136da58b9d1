"""How fast the studio answers frames of a long video, asked for in any order.

python -m tests.benchmarks.scrub --frames 10000
"""

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.studio_server import running

HEIGHT, WIDTH, ASKED = 480, 854, 300


def write_clip(path: Path, frames: int) -> Path:
    """Write a pattern that moves."""
    small = np.random.default_rng(0).integers(0, 255, (30, 54, 3), np.uint8)
    pattern = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT)))
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "28", "g": "100"}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            image = np.roll(pattern, 3 * index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def main() -> None:
    """Write a clip, count it, ask for frames, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    frames = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "clip.mp4", frames)
        started = time.monotonic()
        with running(clip.parent, Path(folder) / "out", clip) as client:
            project = client.get("/api/state").json["projects"][0]["id"]
            while not client.get(f"/api/projects/{project}").json["counted"]:
                time.sleep(0.5)
            stored = client.studio._store.total_bytes / 2**20
            print(f"counted: {time.monotonic() - started:.0f} s, {stored:.0f} MiB on disk")
            taken_ms = []
            for index in random.Random(1).choices(range(frames), k=ASKED):
                before = time.perf_counter()
                assert client.get(f"/api/projects/{project}/frames/{index}").status == 200
                taken_ms.append(1000 * (time.perf_counter() - before))
    taken_ms.sort()
    middle, most = taken_ms[ASKED // 2], taken_ms[ASKED * 95 // 100]
    print(f"answers: median {middle:.1f} ms, 95 % {most:.1f} ms, longest {taken_ms[-1]:.1f} ms")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
