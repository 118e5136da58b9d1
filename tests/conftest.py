"""What every test may use: a drawn clip with its first mask, the command, and no network."""

import os

# The libraries read these when they are imported, so they are set before any test imports one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # `-n auto` starts a worker for each core: more threads than that would only wait.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT, FRAMES = 64, 48, 12
COLOURS = {1: (220, 40, 40), 2: (40, 60, 220)}


def pytest_collection() -> None:
    # All that is imported stays, so the garbage collector would go over it thousands of times.
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Workers take whole files (see below): those with slow tests go first, so that none of them is
    # left to one worker at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and PyTorch sees none"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, so that what the tests of a file share is made once."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    config.option.loadscopereorder = False  # the order is that of `pytest_collection_modifyitems`
    return LoadScopeScheduling(config, log)


def _draw(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame of the clip, (H, W, 3), and its true ids, (H, W): two squares that pass each other.

    They are large, saturated and on quiet grey noise, so that plain colours can follow them.
    """
    rng = np.random.default_rng(7)
    image = rng.integers(110, 140, (HEIGHT, WIDTH, 1), np.uint8).repeat(3, axis=2)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    shift = 2 * index
    for i, (top, left) in {1: (6, 4 + shift), 2: (26, 44 - shift)}.items():
        image[top : top + 16, left : left + 16] = COLOURS[i]
        ids[top : top + 16, left : left + 16] = i
    return image, ids


def _write_video(path: Path, images: list[np.ndarray], pix_fmt: str = "yuv420p") -> Path:
    """Encode frames at 25 per second, H.264 with a keyframe every fourth.

    The index stands in front, so that a file that is cut off still opens.
    """
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"g": "4", "crf": "10"})
        stream.height, stream.width, _ = images[0].shape
        stream.pix_fmt = pix_fmt
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@dataclass(frozen=True, slots=True)
class Clip:
    """The drawn clip. Tests only read its files; those that change one copy it.

    Attributes:
        mp4: The clip as a video.
        folder: The same frames as `img_100.png` and so on.
        mask: Index PNG of the first frame: objects 1 and 2.
        images: (H, W, 3) uint8 of each frame.
        truth: (H, W) uint8 of each frame.
    """

    mp4: Path
    folder: Path
    mask: Path
    images: list[np.ndarray]
    truth: list[np.ndarray]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    root = tmp_path_factory.mktemp("drawn")
    images, truth = map(list, zip(*map(_draw, range(FRAMES)), strict=True))
    folder = root / "frames"
    folder.mkdir()
    for index, image in enumerate(images):
        # Names that do not count from zero show whether the masks take them over.
        Image.fromarray(image).save(folder / f"img_{100 + index}.png")
    mask = root / "first.png"
    Image.fromarray(truth[0]).save(mask)
    mp4 = _write_video(root / "clip.mp4", images)
    return Clip(mp4, folder, mask, images, truth)


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return _write_video


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Finished]


@pytest.fixture
def propagate(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: `propagate("run", clip, "-m", mask, ...)`."""

    def call(*arguments: object) -> Finished:
        from propagate.cli.main import main

        monkeypatch.setattr(sys, "argv", ["propagate", *map(str, arguments)])
        kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
        captured = capfd.readouterr()
        return Finished(status, captured.out, captured.err)

    return call


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which the kernel refuses to let a file grow beyond so many bytes.

    Only the write that is tested belongs into it: the limit is the whole process's, and pytest's
    own report goes to a file where somebody keeps a log.
    """

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    return limited
