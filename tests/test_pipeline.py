"""The file loop over the same step: batches, references, sources that break."""

import gc
import threading
import time
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from propagate.config import Config
from propagate.errors import MaskError, VideoError
from propagate.io.decode.video import open_video
from propagate.io.masks.files import read_mask
from propagate.pipeline import Propagator
from propagate.records import Frame
from tests.paths import ROOT

CLIP = ROOT / "samples" / "clip"
SMALL = Config(short_side_px=96)


@pytest.fixture(scope="module")
def color() -> Propagator:
    return Propagator("color", device="cpu", config=SMALL)


@pytest.fixture(scope="module")
def tiny() -> Propagator:
    return Propagator("tiny", device="cpu", config=SMALL)


@pytest.fixture(scope="module")
def first() -> np.ndarray:
    return read_mask(CLIP / "first.png").ids


def masks_of(propagator: Propagator, references, **options) -> list[np.ndarray]:
    results = propagator.propagate(CLIP / "clip.mp4", references, **options)
    return [result.mask for result in results]


@pytest.mark.slow
def test_batch_size_does_not_change_a_mask(tiny, first):
    one = masks_of(tiny, {0: first}, batch_size=1, max_frames=11)
    many = masks_of(tiny, {0: first}, batch_size=4, max_frames=11)
    assert len(one) == len(many) == 11
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
    assert all({1, 2, 3} <= set(np.unique(mask)) for mask in one)


def test_the_same_input_gives_the_same_masks_again(tiny, first):
    again = Propagator("tiny", device="cpu", config=SMALL)
    for a, b in zip(
        masks_of(tiny, {0: first}, max_frames=4),
        masks_of(again, {0: first}, max_frames=4),
        strict=True,
    ):
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_a_file_is_a_loop_over_steps(color, first):
    session = color.session()
    with open_video(CLIP / "clip.mp4") as frames:
        streamed = [
            session.step(frame, first if frame.index == 0 else None) for frame in islice(frames, 12)
        ]
    filed = list(color.propagate(CLIP / "clip.mp4", {0: first}, max_frames=12, batch_size=5))
    for a, b in zip(streamed, filed, strict=True):
        assert np.array_equal(a.mask, b.mask)
        assert (a.index, a.time_s, a.scores) == (b.index, b.time_s, b.scores)
    assert filed[5].time_s == pytest.approx(5 / 25)


def test_references_are_met_on_their_frames(color, first):
    later = read_mask(CLIP / "truth" / "00005.png").ids
    results = list(
        color.propagate(
            CLIP / "clip.mp4",
            {2: np.where(first == 1, 1, 0), 5: np.where(later == 3, 3, 0)},
            max_frames=8,
            batch_size=3,
            backwards="none",
        )
    )
    assert not results[0].mask.any()
    assert not results[1].mask.any()
    assert list(results[4].scores) == [1]
    assert np.array_equal(results[5].mask == 3, later == 3)
    assert list(results[7].scores) == [1, 3]


@pytest.mark.slow
def test_a_reference_past_the_end_comes_after_all_frames(color, first):
    results = color.propagate(CLIP / "clip.mp4", {0: first, 900: first}, batch_size=8)
    assert len(list(islice(results, 90))) == 90
    with pytest.raises(MaskError, match=r"frame 900 is past the end.*90 frames"):
        next(results)


def test_no_reference_is_an_error(color):
    with pytest.raises(MaskError, match="no reference"):
        next(color.propagate(CLIP / "clip.mp4", {}))


def drawn_frames(count: int, error: Exception | None = None):
    for index in range(count):
        image = np.full((48, 64, 3), 60, np.uint8)
        image[8:24, 8 + index : 24 + index] = (200, 40, 40)
        yield Frame(image, index, Fraction(index, 10), f"{index:05d}")
    if error is not None:
        raise error


def square() -> np.ndarray:
    ids = np.zeros((48, 64), np.uint8)
    ids[8:24, 8:24] = 1
    return ids


def test_frames_of_any_origin_are_followed(color):
    results = list(color.propagate(drawn_frames(6), {0: square()}))
    assert [result.time_s for result in results] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert all(result.mask.any() for result in results)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_frames_before_a_break_come_first(color, batch_size):
    broken = drawn_frames(6, VideoError("clip.mp4: damaged after frame 5"))
    results = color.propagate(broken, {0: square()}, batch_size=batch_size)
    assert [next(results).index for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(VideoError, match="damaged after frame 5"):
        next(results)


def test_abandoning_the_results_ends_the_threads_that_read(color):
    before = set(threading.enumerate())

    def started() -> int:
        return len(set(threading.enumerate()) - before)

    results = color.propagate(drawn_frames(5000), {0: square()})
    next(results)
    assert 1 <= started() <= 2  # one reads ahead, one may be computing features
    del results
    gc.collect()
    deadline = time.monotonic() + 10
    while started() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started() == 0


def test_batches_are_cut_where_the_frame_size_changes(color):
    def growing():
        yield from drawn_frames(3)
        yield Frame(np.zeros((96, 64, 3), np.uint8), 3, Fraction(3, 10), "00003")

    results = color.propagate(growing(), {0: square()}, batch_size=8)
    assert [next(results).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(VideoError, match="frame 3 is 64x96, those before are 64x48"):
        next(results)


@pytest.mark.parametrize(
    "kind", ["arrays", "array", "tensors", "channels first", "pil", "generator"]
)
def test_pictures_of_all_kinds_are_followed_as_frames_are(drawn, kind):
    import PIL.Image

    arrays = [np.asarray(image) for image in drawn.images[:3]]
    pictures: Any = {
        "arrays": arrays,
        "array": np.stack(arrays),
        "tensors": [torch.from_numpy(array.copy()) for array in arrays],
        "channels first": [np.moveaxis(array, 2, 0) for array in arrays],
        "pil": [PIL.Image.fromarray(array) for array in arrays],
        "generator": (array for array in arrays),
    }[kind]
    color = Propagator("color", device="cpu", config=Config(short_side_px=64))
    frames = [Frame(array, index) for index, array in enumerate(arrays)]
    expected = list(color.propagate(frames, {0: drawn.truth[0]}))
    results = list(color.propagate(pictures, {0: drawn.truth[0]}))
    assert [result.index for result in results] == [0, 1, 2]
    for one, other in zip(results, expected, strict=True):
        assert np.array_equal(one.mask, other.mask)


def test_what_is_no_picture_is_named(drawn):
    color = Propagator("color", device="cpu")
    with pytest.raises(TypeError, match="not str"):
        list(color.propagate(["frame.png"], {0: drawn.truth[0]}))  # type: ignore[list-item]
