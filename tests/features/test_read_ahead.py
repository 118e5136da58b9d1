"""Features computed ahead: order, breaks, threads, and the time they took."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

import propagate.io.decode.prefetch
from propagate.config import Config
from propagate.errors import VideoError
from propagate.features.colors import ColorBackbone
from propagate.features.extract import extract_features
from propagate.features.read_ahead import batch_frames, with_features
from propagate.records import Frame
from propagate.stage_clock import StageClock

SMALL = Config(short_side_px=96)


class Counted(ColorBackbone):
    """Colours that count how often they were asked for."""

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.frames = 0

    def extract(self, images):
        self.frames += len(images)
        return super().extract(images)


def frames(count, failure=None):
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 256, (96, 128, 3), np.uint8)
        yield Frame(image, index, Fraction(index, 10), f"{index:05d}")
    if failure is not None:
        raise failure


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_every_frame_comes_with_its_own_features(batch_size):
    backbone = ColorBackbone(torch.device("cpu"))
    read = with_features(frames(7), backbone, SMALL, batch_size=batch_size)
    for (frame, features), expected in zip(read, frames(7), strict=True):
        assert frame.index == expected.index
        assert torch.equal(features, extract_features(backbone, SMALL, [expected])[0])


def test_the_next_frame_is_ready_while_this_one_is_in_use_and_no_more():
    backbone = Counted()
    read = with_features(frames(50), backbone, SMALL)
    for taken in range(1, 6):
        next(read)
        wait_until(lambda taken=taken: backbone.frames == taken + 1)
        time.sleep(0.02)
        assert backbone.frames == taken + 1
    read.close()


def test_frames_before_a_break_come_first():
    read = with_features(
        frames(5, VideoError("clip.mp4: damaged after frame 4")),
        ColorBackbone(torch.device("cpu")),
        SMALL,
        batch_size=3,
    )
    assert [next(read)[0].index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(VideoError, match="damaged after frame 4"):
        next(read)


@pytest.mark.slow
def test_closing_waits_for_a_source_that_is_stuck_only_once(monkeypatch):
    """The thread that computes waits for the one that decodes, which waits for the source."""
    monkeypatch.setattr(propagate.io.decode.prefetch, "JOIN_DEADLINE_S", 1.0)
    before, release = threading.active_count(), threading.Event()

    def stuck():
        yield from frames(1)
        release.wait(60)

    read = with_features(stuck(), ColorBackbone(torch.device("cpu")), SMALL)
    next(read)
    time.sleep(0.1)
    started = time.monotonic()
    read.close()
    assert time.monotonic() - started < 1.8
    assert threading.active_count() == before + 1  # the one that nothing can interrupt
    release.set()
    wait_until(lambda: threading.active_count() == before)


@pytest.mark.parametrize("read", [batch_frames, with_features])
def test_a_batch_of_no_frames_is_refused(read):
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        next(read(frames(3), ColorBackbone(torch.device("cpu")), SMALL, batch_size=0))


def test_the_time_of_the_other_thread_is_counted_once():
    clock, total = StageClock(), 0.0
    clock.seconds["features"] = 100.0  # of before an interruption
    for _ in with_features(frames(6), Counted(), SMALL, clock=clock):
        assert clock.seconds["features"] >= total
        total = clock.seconds["features"]
    assert 100 < total < 110
    one, other = StageClock(), StageClock()
    other.seconds["decode"] = 2.0
    one.add(other)
    one.add(other)
    assert one.seconds["decode"] == 2.0
