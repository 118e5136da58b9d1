"""Batches that fit the device's memory."""

import pytest
import torch

from propagate.features.batch_size import MOST_FRAMES, choose_batch_size, frames_that_fit
from propagate.features.registry import load_backbone

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
