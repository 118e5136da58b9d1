"""How long a person waits for the page of the studio, and what watching costs the run.

python -m tests.benchmarks.studio [--clip VIDEO --mask MASK] [--frames 60] [--rounds 2]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from propagate.io.masks.files import read_mask
from propagate.io.masks.palette import palette
from tests.paths import ROOT
from tests.studio.conftest import ARGUMENTS, CHROMIUM
from tests.studio.hand import Hand, studio

SAMPLE = ROOT / "samples" / "clip"


def cut(video: Path, frames: int, out: Path) -> Path:
    """Write the first frames of a clip."""
    with av.open(str(video)) as source, av.open(str(out), "w") as target:
        stream: Any = None
        for frame in islice(source.decode(video=0), frames):
            if stream is None:
                stream = target.add_stream("libx264", rate=25, options={"crf": "16"})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode())
    return out


def alone(video: Path, mask: Path, out: Path) -> float:
    """Follow without a page; seconds, without loading the model."""
    code = (
        "import sys; from propagate import Propagator\n"
        "p = Propagator('tiny')\n"
        "print(p.run(sys.argv[1], {0: sys.argv[2]}, sys.argv[3], backwards='new').seconds)"
    )
    command = [sys.executable, "-c", code, str(video), str(mask), str(out)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def watched(video: Path, mask: Path, out: Path, browser: Any) -> dict[str, float]:
    """Open the page, dab six times, follow and watch; seconds of each."""
    waits: dict[str, float] = {}
    ids = read_mask(mask).ids
    with studio(video, out) as running:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        hand = Hand(page)
        started = time.monotonic()
        hand.open(running.address)
        waits["page open to first frame"] = time.monotonic() - started
        y, x = np.argwhere(ids == 1).mean(axis=0)
        dabs = []
        for shift in range(6):
            started = time.monotonic()
            hand.stroke((x - 6 + 2 * shift, y), (x - 4 + 2 * shift, y + 2))
            dabs.append(time.monotonic() - started)
        waits["first dab to saved mask"] = dabs[0]
        waits["later dab to saved mask"] = statistics.median(dabs[1:])
        page.set_input_files("#import-file", str(mask))
        page.wait_for_timeout(1500)
        hand.saved()
        started = time.monotonic()
        hand.follow()
        waits["follow, watched"] = time.monotonic() - started
        page.close()
    return waits


def main() -> None:
    """Measure, in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=SAMPLE / "clip.mp4")
    parser.add_argument("--mask", type=Path, default=SAMPLE / "first.png")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        video = cut(options.clip, options.frames, Path(root) / "clip.mp4")
        image = Image.fromarray(read_mask(options.mask).ids)
        image.putpalette(palette().tobytes())
        image.save(mask := Path(root) / "first.png")
        seconds, waits = [], []
        for number in range(options.rounds):
            seconds.append(alone(video, mask, Path(root) / f"alone-{number}"))
            waits.append(watched(video, mask, Path(root) / f"page-{number}", browser))
        browser.close()
    for name in waits[0]:
        print(f"{name:28} {statistics.median(wait[name] for wait in waits):6.2f} s")
    least = min(seconds)
    print(f"{'follow, without a page':28} {statistics.median(seconds):6.2f} s")
    best = min(wait["follow, watched"] for wait in waits)
    print(f"{'watched / without, least':28} {best / least:6.2f}")


if __name__ == "__main__":
    main()
