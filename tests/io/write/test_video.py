"""Frames written as an H.264 video."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from propagate.errors import OutputError
from propagate.io.write import video
from propagate.io.write.video import CLOCK, VideoWriter

FPS = Fraction(30000, 1001)


def read_video(path: Path) -> tuple[list[av.VideoFrame], av.VideoStream]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0)), container.streams.video[0]


def times(frames: list[av.VideoFrame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]  # pyright: ignore


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 64), (48, 65), (47, 63), (1, 1)])
def test_the_video_holds_every_frame_at_the_size_of_the_source_made_even(tmp_path, height, width):
    with VideoWriter(tmp_path / "out.mp4", width, height, FPS) as video:
        for index in range(12):
            image = np.full((height, width, 3), 20 * index, dtype=np.uint8)
            video.write(image, index / FPS)
    frames, stream = read_video(tmp_path / "out.mp4")
    assert len(frames) == 12
    assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
    for index, frame in enumerate(frames):
        assert np.abs(frame.to_ndarray(format="rgb24") - 20.0 * index).mean() < 3


@pytest.mark.parametrize(
    "fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(15)]
)
def test_times_at_a_constant_rate_are_exact(tmp_path, fps):
    with VideoWriter(tmp_path / "out.mp4", 32, 32, fps) as video:
        for index in range(40):
            video.write(np.zeros((32, 32, 3), dtype=np.uint8), index / fps)
    frames, stream = read_video(tmp_path / "out.mp4")
    assert times(frames) == [i / fps for i in range(40)]
    assert stream.duration is not None
    assert stream.time_base is not None
    assert stream.duration * stream.time_base == 40 / fps


@pytest.mark.parametrize("clock", [600, 1000, 12800, 15360, 30000, 90000])
def test_times_at_a_variable_rate_are_exact_and_start_at_zero(tmp_path, clock):
    ticks = np.cumsum(np.random.default_rng(2).integers(1, clock // 10, 30)).tolist()
    source = [Fraction(tick, clock) for tick in ticks]
    with VideoWriter(tmp_path / "out.mp4", 32, 32, None) as video:
        for time_ in source:
            video.write(np.zeros((32, 32, 3), dtype=np.uint8), time_)
    frames, _ = read_video(tmp_path / "out.mp4")
    assert times(frames) == [time_ - source[0] for time_ in source]


def test_times_that_stand_still_or_go_back_lose_no_frame(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", 32, 32) as video:
        for time_ in (0, 1, 1, Fraction(1, 2), 2):
            video.write(np.zeros((32, 32, 3), dtype=np.uint8), Fraction(time_))
    frames, _ = read_video(tmp_path / "out.mp4")
    ticks = [time_ * CLOCK for time_ in times(frames)]
    assert ticks == [0, CLOCK, CLOCK + 1, CLOCK + 2, 2 * CLOCK]


def test_browsers_can_play_it_while_it_loads(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", 32, 32) as video:
        video.write(np.zeros((32, 32, 3), dtype=np.uint8), Fraction(0))
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    frames, stream = read_video(tmp_path / "out.mp4")
    assert stream.codec_context.name == "h264"
    assert stream.codec_context.pix_fmt == "yuv420p"
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)  # BT.709, limited


def test_a_video_of_no_frames_is_an_error(tmp_path):
    with (
        pytest.raises(OutputError, match="no frames"),
        VideoWriter(tmp_path / "out.mp4", 32, 32),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match=r"out\.mp4: .*make the folder first"):
        VideoWriter(tmp_path / "no" / "out.mp4", 32, 32)


def test_a_missing_encoder_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "ENCODER", "no-such-encoder")
    with pytest.raises(OutputError, match=r"out\.mp4: PyAV was built without no-such-encoder"):
        VideoWriter(tmp_path / "out.mp4", 32, 32)
    assert os.listdir(tmp_path) == []


def write_noise(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    with VideoWriter(path, 128, 96) as video:
        for index in range(40):
            video.write(np.roll(noise, 7 * index, axis=0), Fraction(index, 25))


@pytest.mark.parametrize("share", [0, 0.001, 0.05, 0.5, 0.95, 1])
def test_a_video_that_does_not_fit_leaves_nothing(tmp_path, share, file_size_limit):
    write_noise(tmp_path / "out.mp4")
    size = (tmp_path / "out.mp4").stat().st_size
    (tmp_path / "out.mp4").unlink()
    limit = file_size_limit(int(share * (size - 1)))
    with pytest.raises(OutputError, match=r"out\.mp4: .*file too large"), limit:
        write_noise(tmp_path / "out.mp4")
    assert os.listdir(tmp_path) == []


def test_a_size_that_the_encoder_refuses_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match=r"out\.mp4: "):
        VideoWriter(tmp_path / "out.mp4", 70_000, 32)
    assert os.listdir(tmp_path) == []


WRITE_FOR_EVER = """
import itertools, sys
from fractions import Fraction
import numpy as np
from propagate.io.write.video import VideoWriter
noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
with VideoWriter(sys.argv[1], 128, 96) as video:
    for index in itertools.count():
        video.write(np.roll(noise, index, axis=0), Fraction(index, 25))
        print(index, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_video(tmp_path, how):
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / "out.mp4")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as writer:
        assert writer.stdout is not None
        while writer.stdout.readline().strip() != "60":
            assert writer.poll() is None
        writer.send_signal(how)
        start = time.monotonic()
        writer.communicate(timeout=30)
        assert time.monotonic() - start < 10
    assert not (tmp_path / "out.mp4").exists()
    leftovers = os.listdir(tmp_path)
    assert leftovers == [] if how == signal.SIGINT else len(leftovers) == 1
