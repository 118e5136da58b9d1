"""What the tests of the page share: a running studio, a short clip, and a hand on the page."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from propagate.io.masks.palette import palette
from tests.paths import ROOT

WIDTH, HEIGHT, FRAMES = 192, 128, 12
WAIT_MS = 240_000


@dataclass
class Studio:
    """A running `propagate studio`.

    Attributes:
        address: With the token.
        lines: What it printed so far.
    """

    process: subprocess.Popen[str]
    address: str
    lines: list[str] = field(default_factory=list)


@contextmanager
def studio(video: Path | None, out: Path, *more: str) -> Iterator[Studio]:
    """Start the command, and end it with Ctrl+C."""
    videos = [] if video is None else [str(video)]
    command = [sys.executable, "-m", "propagate", "studio", *videos, "-o", str(out)]
    process = subprocess.Popen(
        [*command, "--no-browser", "--model", "tiny", *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stderr is not None
    running = Studio(process, "")
    for line in process.stderr:
        running.lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/#token=\S+", line):
            running.address = found[0]
            break
    assert running.address, "".join(running.lines)
    stderr = process.stderr
    reader = threading.Thread(target=lambda: running.lines.extend(stderr))
    reader.start()
    try:
        yield running
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, "".join(running.lines)
    finally:
        process.kill()
        process.wait()
        reader.join()
        stderr.close()


class Hand:
    """Does on a page what a person does."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type == "error" and "404" not in message.text:
            self.errors.append(message.text)

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.locator("body:not(.without-video)").wait_for(timeout=WAIT_MS)
        self.page.locator("#picture[data-scale]").wait_for(timeout=WAIT_MS)
        self.page.wait_for_timeout(300)
        assert "token" not in self.page.url

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the frame is in the window, from what the page draws."""
        view = self.page.evaluate("({...document.getElementById('picture').dataset})")
        stage = self.page.locator("#overlay").bounding_box()
        scale = float(view["scale"])
        return (
            stage["x"] + float(view["x"]) + x * scale,
            stage["y"] + float(view["y"]) + y * scale,
        )

    def stroke(self, *points: tuple[float, float], button: str = "left") -> None:
        mouse = self.page.mouse
        mouse.move(*self.place(*points[0]))
        mouse.down(button=button)
        for point in points[1:]:
            mouse.move(*self.place(*point), steps=4)
        mouse.up(button=button)
        self.page.locator("body:not(.busy)").wait_for(timeout=WAIT_MS)
        self.saved()

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self) -> None:
        self.page.locator("#saving[data-state=saved]").wait_for(timeout=WAIT_MS)

    def go_to(self, frame: int) -> None:
        self.page.locator("#frame").fill(str(frame))
        self.key("Enter")
        self.page.wait_for_timeout(400)

    def follow(self) -> None:
        self.page.click("#follow")
        self.page.locator("#follow.running").wait_for(timeout=WAIT_MS)
        self.page.locator("#follow:not(.running)").wait_for(timeout=WAIT_MS)
        self.page.wait_for_timeout(300)

    @property
    def hint(self) -> str:
        return self.page.inner_text("#hint")


def centre(truth: np.ndarray, object_id: int) -> tuple[float, float]:
    y, x = np.argwhere(truth == object_id).mean(axis=0)
    return float(x), float(y)


def ids_in(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "P"
        return np.array(image)


def masks_of(project: Path) -> dict[int, bytes]:
    return {int(file.stem): file.read_bytes() for file in sorted((project / "masks").glob("*.png"))}


def write_ids(file: Path, ids: np.ndarray) -> Path:
    image = Image.fromarray(ids)
    image.putpalette(palette().tobytes())
    image.save(file)
    return file


def opened(chromium: Any, address: str) -> Hand:
    """Open the page of a studio in a window of 1366x768."""
    hand = Hand(chromium.new_page(viewport={"width": 1366, "height": 768}))
    hand.open(address)
    return hand
