"""A real Chromium for the tests of the studio's page."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT
from tests.studio.hand import FRAMES, HEIGHT, WIDTH, Studio, studio

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra: dev)")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}, Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]
) -> tuple[Path, np.ndarray]:
    """The first frames of the sample clip at half its size, and the mask of the first frame."""
    with av.open(str(ROOT / "samples" / "clip" / "clip.mp4")) as container:
        images = [
            frame.reformat(WIDTH, HEIGHT).to_ndarray(format="rgb24")
            for _, frame in zip(range(FRAMES), container.decode(video=0), strict=False)
        ]
    truth = np.array(Image.open(ROOT / "samples" / "clip" / "first.png"))[::2, ::2]
    return write_video(tmp_path_factory.mktemp("cups") / "cups.mp4", images), truth


@pytest.fixture(scope="module")
def shared_studio(
    clip: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Studio, Path]]:
    """One studio and the folder of its project; each test uses frames of its own."""
    out = tmp_path_factory.mktemp("shared")
    with studio(clip[0], out) as running:
        yield running, out / clip[0].stem
