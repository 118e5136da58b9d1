"""A folder of images that is still being written, by a thread that takes its time."""

import io
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.growing_folder import POLL_S
from propagate.io.decode.video import open_video

# Senders, children and deadlines are waited for.
pytestmark = pytest.mark.slow


def png(index):
    buffer = io.BytesIO()
    rng = np.random.default_rng(index)
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def write_while():
    """Runs a writer beside the test, and waits for its end."""
    writers = []

    def begin(write):
        writers.append(threading.Thread(target=write))
        writers[-1].start()

    yield begin
    for writer in writers:
        writer.join()


def names_and_error(folder, timeout_s=1.5, **options):
    names = []
    try:
        with open_video(folder, follow_timeout_s=timeout_s, **options) as frames:
            for frame in frames:
                assert frame.index == len(names) or "frame_range" in options
                names.append(frame.name)
    except VideoError as error:
        return names, str(error)
    return names, None


@pytest.mark.parametrize("isolate", [False, True])
def test_images_are_read_as_they_come_until_the_end_marker(tmp_path, write_while, isolate):
    def write():
        for index in range(8):
            time.sleep(0.15)
            (tmp_path / f"{index:03d}.png").write_bytes(png(index))
        (tmp_path / "END").touch()

    write_while(write)
    started = time.monotonic()
    names, error = names_and_error(tmp_path, timeout_s=30, isolate=isolate)
    assert (names, error) == ([f"{index:03d}" for index in range(8)], None)
    assert time.monotonic() - started < 10


def test_without_a_marker_reading_ends_when_no_image_has_come_for_the_timeout(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    started = time.monotonic()
    assert names_and_error(tmp_path, timeout_s=1) == (["0", "1", "2"], None)
    assert 1 <= time.monotonic() - started < 5


def test_a_finished_folder_is_read_like_one_that_is_not_followed(drawn, tmp_path):
    for file in drawn.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "END").touch()
    with open_video(drawn.folder) as whole, open_video(tmp_path, follow_timeout_s=9) as followed:
        for one, other in zip(followed, whole, strict=True):
            assert np.array_equal(one.image, other.image)
            assert (one.index, one.time, one.name) == (other.index, other.time, other.name)


@pytest.mark.parametrize("pause_s", [0.02, 2 * POLL_S])
def test_a_half_written_image_is_never_read(tmp_path, write_while, pause_s):
    """Written piece by piece: faster than the folder is looked at, and slower."""

    def write():
        for index in range(3):
            data = png(index)
            with (tmp_path / f"{index}.png").open("wb", buffering=0) as file:
                for start in range(0, len(data), len(data) // 4):
                    file.write(data[start : start + len(data) // 4])
                    time.sleep(pause_s)
        (tmp_path / "END").touch()

    write_while(write)
    with open_video(tmp_path, follow_timeout_s=20) as frames:
        images = [frame.image for frame in frames]
    assert len(images) == 3
    for index, image in enumerate(images):
        assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(png(index)))))


def test_an_image_that_stays_half_written_is_an_error_after_those_before(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    (tmp_path / "2.png").write_bytes(png(2)[:-500])
    names, error = names_and_error(tmp_path, timeout_s=0.7)
    assert names == ["0", "1"]
    assert error is not None
    assert "2.png: cannot be read as an image" in error


def test_images_that_come_out_of_order_wait_for_the_missing_one(tmp_path, write_while):
    for index in (0, 1):
        (tmp_path / f"{index}.png").write_bytes(png(index))

    def write():
        for index in (3, 4, 2):
            time.sleep(0.4)
            (tmp_path / f"{index}.png").write_bytes(png(index))
        (tmp_path / "END").touch()

    write_while(write)
    assert names_and_error(tmp_path, timeout_s=20) == (list("01234"), None)


def test_a_number_that_never_comes_is_an_error_that_names_its_neighbours(tmp_path):
    for index in (0, 5, 10, 20):
        (tmp_path / f"{index:02d}.png").write_bytes(png(index))
    names, error = names_and_error(tmp_path, timeout_s=0.5)
    assert names == ["00", "05", "10"]
    assert error is not None
    assert "the image between 10.png and 20.png did not come" in error


def test_times_as_names_are_no_count(tmp_path):
    for number in (100, 133, 170):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    (tmp_path / "END").touch()
    assert names_and_error(tmp_path) == (["100", "133", "170"], None)


def test_an_image_that_comes_too_late_is_an_error(tmp_path):
    (tmp_path / "b.png").write_bytes(png(1))
    names = []
    with open_video(tmp_path, follow_timeout_s=10) as frames:
        names.append(next(frames).name)
        (tmp_path / "a.png").write_bytes(png(0))
        with pytest.raises(
            VideoError, match=r"whose name is before b\.png, which was already read"
        ):
            next(frames)
    assert names == ["b"]


def test_temporary_names_are_not_read(tmp_path):
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / ".1.png").write_bytes(b"")
    (tmp_path / "1.png.part").write_bytes(b"half")
    (tmp_path / "END").touch()
    assert names_and_error(tmp_path) == (["0"], None)


def test_a_folder_to_which_nothing_comes_is_an_error(tmp_path):
    started = time.monotonic()
    with pytest.raises(VideoError, match=r"no image came for 0\.5 s.*follow_timeout"):
        open_video(tmp_path, follow_timeout_s=0.5)
    assert time.monotonic() - started < 5


def test_a_range_of_a_growing_folder_keeps_the_indices(tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    (tmp_path / "END").touch()
    names, error = names_and_error(tmp_path, frame_range=FrameRange(start=2, stride=3))
    assert (names, error) == (["2", "5", "8"], None)


def test_only_a_folder_can_be_followed(drawn):
    with pytest.raises(VideoError, match="only a folder of images can be followed"):
        open_video(drawn.mp4, follow_timeout_s=1)


def test_an_old_file_is_not_waited_for(tmp_path):
    for index in range(50):
        (tmp_path / f"{index:02d}.png").write_bytes(png(index))
        os.utime(tmp_path / f"{index:02d}.png", (1, 1))
    (tmp_path / "END").touch()
    started = time.monotonic()
    assert len(names_and_error(tmp_path)[0]) == 50
    assert time.monotonic() - started < 3
