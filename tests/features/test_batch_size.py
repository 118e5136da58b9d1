"""Batches that fit the device's memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import propagate.sitting
from propagate.batch.manifest import BatchVideo
from propagate.batch.tasks import BatchSettings
from propagate.batch.worker import Runner, device_of
from propagate.config import Config
from propagate.features.batch_size import (
    MOST_FRAMES,
    choose_batch_size,
    frames_at_once,
    frames_that_fit,
    free_memory,
    remember_batch,
)
from propagate.features.colors import ColorBackbone
from propagate.features.extract import extract_features
from propagate.features.registry import load_backbone
from propagate.pipeline import Propagator

GB = 10**9


@pytest.mark.parametrize(
    ("free", "per_frame", "frames"),
    [
        (10 * GB, 1 * GB, 8),
        (10 * GB, 1 * GB + 1, 7),
        (10 * GB, 8 * GB, 1),
        (80 * GB, 2 * GB, MOST_FRAMES),
        (80 * GB, 3 * GB, 21),
    ],
)
def test_a_fifth_of_the_memory_is_left_free(free: int, per_frame: int, frames: int) -> None:
    assert frames_that_fit(free, per_frame) == frames


def test_a_frame_that_hardly_fits_is_tried_all_the_same() -> None:
    assert frames_that_fit(10 * GB, 9 * GB) == 1
    assert frames_that_fit(0, GB) == 1


def test_no_batch_is_larger_than_is_of_use() -> None:
    assert MOST_FRAMES == 32
    assert frames_that_fit(1000 * GB, 1) == MOST_FRAMES


@pytest.mark.parametrize("model", ["tiny", "color"])
def test_on_a_cpu_frames_go_one_by_one(model: str) -> None:
    assert choose_batch_size(load_backbone(model, device="cpu"), (480, 864)) == 1


@pytest.mark.gpu
def test_on_cuda_the_chosen_batch_runs_and_leaves_room() -> None:
    backbone = load_backbone("tiny", device="cuda")
    size = (480, 864)
    frames = choose_batch_size(backbone, size)
    # A small model on any GPU in use today.
    assert frames > 1
    _, total = torch.cuda.mem_get_info()
    torch.cuda.reset_peak_memory_stats()
    backbone.extract(torch.rand(frames, 3, *size, device="cuda"))
    assert torch.cuda.max_memory_allocated() < total
    # Frames that take eight times the pixels never get a larger batch.
    assert choose_batch_size(backbone, (1344, 2432)) <= frames


# A device whose memory is small: it takes so many pixels at once.


class SmallDevice(ColorBackbone):
    """Colours, on a device that takes `room` pixels at once; it notes every batch it was given."""

    def __init__(self, room: int) -> None:
        super().__init__(torch.device("cpu"))
        self.room, self.tried = room, []

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(images))
        if len(images) * images.shape[2] * images.shape[3] > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return super().extract(images)


def pictures(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


SMALL = Config(short_side_px=96)


def test_a_batch_that_did_not_fit_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    backbone, frames = SmallDevice(3 * 96 * 128), pictures(8)
    expected = extract_features(ColorBackbone(torch.device("cpu")), SMALL, frames)
    first = extract_features(backbone, SMALL, frames)
    # Eight, four, and then pairs.
    assert backbone.tried == [8, 4, 2, 2, 2, 2]
    second = extract_features(backbone, SMALL, frames)
    assert backbone.tried[6:] == [2, 2, 2, 2]
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert caplog.text.count("out of memory") == 2


def test_what_is_remembered_counts_pixels() -> None:
    backbone = SmallDevice(4 * 96 * 128)
    extract_features(backbone, SMALL, pictures(8))
    assert frames_at_once(backbone, (96, 128)) == 4
    assert frames_at_once(backbone, (96, 256)) == 2
    assert frames_at_once(backbone, (960, 1280)) == 1
    assert frames_at_once(SmallDevice(1), (96, 128)) is None
    extract_features(backbone, SMALL, pictures(4, width=256))
    assert backbone.tried[-2:] == [2, 2]


def test_a_limit_never_grows() -> None:
    backbone = SmallDevice(10**9)
    remember_batch(backbone, 4, (96, 128))
    remember_batch(backbone, 8, (96, 128))
    assert frames_at_once(backbone, (96, 128)) == 4


def test_a_backbone_that_cannot_be_a_key_works_all_the_same() -> None:
    class Unhashable(SmallDevice):
        __hash__ = None  # pyright: ignore[reportAssignmentType]

    backbone = Unhashable(2 * 96 * 128)
    extract_features(backbone, SMALL, pictures(4))
    assert frames_at_once(backbone, (96, 128)) is None


@pytest.mark.parametrize(
    ("free", "allocated", "share", "usable"),
    [
        (80, 0, 1.0, 80),
        (80, 0, 0.5, 50),  # half of a hundred
        (80, 10, 0.5, 40),  # of which it has ten
        (30, 0, 0.5, 30),  # somebody else uses the device
        (80, 60, 0.5, 0),
    ],
)
def test_a_process_uses_its_share_of_the_memory(
    free: int, allocated: int, share: float, usable: int
) -> None:
    assert free_memory(free, 100, allocated, share) == usable


@pytest.mark.parametrize(
    ("name", "workers", "gpus", "placed"),
    [
        ("auto", 3, 2, [("cuda:0", 2), ("cuda:1", 1), ("cuda:0", 2)]),
        ("cuda", 2, 1, [("cuda", 2)] * 2),
        ("cuda:1", 2, 4, [("cuda:1", 2)] * 2),
        ("auto", 2, 0, [("auto", 2)] * 2),
        ("auto", 1, 8, [("cuda:0", 1)]),
    ],
)
def test_workers_know_how_many_share_their_device(
    name: str, workers: int, gpus: int, placed: list[tuple[str, int]]
) -> None:
    assert [device_of(name, worker, workers, gpus) for worker in range(workers)] == placed


def test_a_worker_remembers_the_limit_when_it_loads_another_model() -> None:
    runner = Runner(BatchSettings(model="color", device="cpu"), "out", 0, None)
    first = runner._loaded(BatchVideo(Path("a"), "a")).backbone
    remember_batch(first, 3, (480, 864))
    second = runner._loaded(BatchVideo(Path("b"), "b", options={"matcher": "dift"})).backbone
    assert second is not first
    assert frames_at_once(second, (480, 864)) == 3


# A run that goes on where features depend on the batch size, as on a GPU.


class Stop(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("room", [10**9, 5 * 96 * 128])
def test_an_interrupted_run_goes_on_with_its_batch_size(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Whatever memory is free by then: the same batches, so the same masks."""
    monkeypatch.setattr(propagate.sitting, "batches_matter", lambda device: True)

    def follow(out: str, room: int, batch_size: int, **options: Any) -> list[int]:
        monkeypatch.setattr(propagate.sitting, "choose_batch_size", lambda *_: batch_size)
        backbone = SmallDevice(room)
        follower = Propagator(backbone, config=Config(short_side_px=96))
        follower.run(drawn.mp4, {0: drawn.truth[0]}, tmp_path / out, save_every_s=0, **options)
        return backbone.tried

    def stop(done: int, total: int | None) -> None:
        if done == 9:
            raise Stop

    whole = follow("whole", room, 6)
    assert whole[:1] == [6]
    with pytest.raises(Stop):
        follow("again", room, 6, progress=stop)
    # It was saved at the end of the first batch, and has six of twelve frames left.
    resumed = follow("again", 10**9, 4)
    assert resumed == ([6] if room == 10**9 else [3, 3])
    masks = sorted((tmp_path / "whole/clip/masks").iterdir())
    assert len(masks) == 12
    for mask in masks:
        assert mask.read_bytes() == (tmp_path / "again/clip/masks" / mask.name).read_bytes()
