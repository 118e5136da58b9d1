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
from propagate.io.masks.png import palette
from propagate.io.write import video
from propagate.io.write.overlay import OverlayWriter, draw_overlay
from propagate.io.write.video import CLOCK, VideoWriter

FPS = Fraction(30000, 1001)


def scene(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ids = np.zeros((height, width), dtype=np.uint8)
    ids[4:20, 6:30] = 1
    ids[15:40, 20:50] = 2
    ids[30:, 40:] = 255
    ids[0, 0] = 7
    return image, ids


def read_video(path: Path) -> tuple[list[av.VideoFrame], av.VideoStream]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0)), container.streams.video[0]


def times(frames: list[av.VideoFrame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]  # pyright: ignore


def peak_signal_to_noise(seen: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((seen.astype(float) - expected.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


# Drawing


def drawn_pixel_by_pixel(image: np.ndarray, ids: np.ndarray, alpha: float) -> np.ndarray:
    """What draw_overlay promises, said as a loop in floating point."""
    height, width = ids.shape
    drawn = image.astype(float)
    for y in range(height):
        for x in range(width):
            own = ids[y, x]
            if own in (0, 255):
                continue
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inner = all(ids[v, u] == own for v, u in around if 0 <= v < height and 0 <= u < width)
            share = alpha if inner else 1.0
            drawn[y, x] = (1 - share) * image[y, x] + share * palette()[own]
    return drawn


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
def test_drawing_agrees_with_a_loop_over_pixels(alpha):
    image, ids = scene()
    expected = drawn_pixel_by_pixel(image, ids, alpha)
    # Rounding alpha to 1/256 may move a value by half a step, rounding the value by another half.
    assert np.abs(draw_overlay(image, ids, alpha) - expected).max() <= 1


def test_background_and_void_keep_their_pixels_and_the_input_stays():
    image, ids = scene()
    before = image.copy()
    drawn = draw_overlay(image, ids)
    untouched = (ids == 0) | (ids == 255)
    assert np.array_equal(drawn[untouched], before[untouched])
    assert np.array_equal(image, before)


def test_a_frame_without_objects_is_drawn_as_it_is():
    image, ids = scene()
    assert np.array_equal(draw_overlay(image, np.zeros_like(ids)), image)


def test_white_under_the_brightest_colour_does_not_overflow():
    image = np.full((8, 8, 3), 255, dtype=np.uint8)
    ids = np.full((8, 8), 191, dtype=np.uint8)
    ids[0] = 0
    expected = drawn_pixel_by_pixel(image, ids, 0.5)
    assert np.abs(draw_overlay(image, ids) - expected).max() <= 1


def test_wrong_sizes_and_shares_are_a_programmers_mistake():
    image, ids = scene()
    with pytest.raises(ValueError, match=r"\(47, 64\)"):
        draw_overlay(image, ids[1:])
    with pytest.raises(ValueError, match="alpha"):
        draw_overlay(image, ids, 1.5)


# The video


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


def test_the_video_looks_like_what_was_drawn(tmp_path):
    rows, columns = np.mgrid[:120, :160]
    ids = np.zeros((120, 160), dtype=np.uint8)
    ids[30:90, 20:70] = 1
    ids[40:100, 90:140] = 2
    with OverlayWriter(tmp_path / "overlay.mp4", FPS, 160, 120) as video:
        image = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
        for index in range(10):
            video.write(image, ids, index / FPS)
    frames, _ = read_video(tmp_path / "overlay.mp4")
    seen = frames[-1].to_ndarray(format="rgb24").astype(float)
    expected = drawn_pixel_by_pixel(image, ids, 0.5)
    assert peak_signal_to_noise(seen, expected) > 28
    for region in (slice(40, 80), slice(30, 60)), (slice(50, 90), slice(100, 130)):
        means = [picture[region].mean(axis=(0, 1)) for picture in (seen, expected)]
        assert np.abs(means[0] - means[1]).max() < 4


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


def test_the_same_frames_make_the_same_bytes(tmp_path):
    image, ids = scene()
    for name in ("a.mp4", "b.mp4"):
        with OverlayWriter(tmp_path / name, FPS, 64, 48) as video:
            for index in range(30):
                video.write(np.roll(image, index, axis=1), ids, index / FPS)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_frame_of_another_size_is_a_programmers_mistake(tmp_path):
    image, ids = scene()
    with (
        pytest.raises(ValueError, match=r"\(48, 65, 3\)"),
        OverlayWriter(tmp_path / "o.mp4", FPS, 65, 48) as video,
    ):
        video.write(image, ids, Fraction(0))
    assert os.listdir(tmp_path) == []


# Whole or not at all


def test_the_video_is_absent_until_it_is_complete(tmp_path):
    image, ids = scene()
    with OverlayWriter(tmp_path / "overlay.mp4", FPS, 64, 48) as video:
        video.write(image, ids, Fraction(0))
        assert not (tmp_path / "overlay.mp4").exists()
    assert os.listdir(tmp_path) == ["overlay.mp4"]


def test_an_old_video_stays_when_the_run_breaks_off(tmp_path):
    (tmp_path / "overlay.mp4").write_text("old")
    image, ids = scene()

    def write_and_stop() -> None:
        with OverlayWriter(tmp_path / "overlay.mp4", FPS, 64, 48) as video:
            video.write(image, ids, Fraction(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert os.listdir(tmp_path) == ["overlay.mp4"]
    assert (tmp_path / "overlay.mp4").read_text() == "old"


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
