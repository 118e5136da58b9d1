"""Frame N is frame N: read from squares that carry its number, whatever the file is like."""

import ctypes
import io
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.errors import PropagateError, VideoError
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.video import open_video
from propagate.studio.answers import Refused
from propagate.studio.frame_store import FrameStore
from propagate.studio.frames import BEFORE, Frames
from tests.numbered_clips import (
    number_in_jpeg,
    number_on,
    numbered,
    turned_by_header,
    without_first,
    write_numbered,
)

ISOLATED = SourceOptions(isolate=True)
ROOM = 10**8


@pytest.fixture
def opened():
    """Opens frames with a store of some size, and closes them at the end."""
    made = []

    def call(source, limit=ROOM, options=ISOLATED, start=True):
        store = FrameStore(limit)
        frames = Frames(str(source), "video", store, options)
        made.append((frames, store))
        counted = threading.Event()
        if start:
            frames.start(counted.set)
            assert counted.wait(60)
        return frames

    yield call
    for frames, store in made:
        frames.close()
        store.close()
        assert not store.folder.exists()


def numbers_here(path):
    """The numbers on the frames of our decoder in this process, with their times."""
    with open_video(path) as frames:
        return [(number_on(frame.image), frame.time_s) for frame in frames]


def clip_of(kind, tmp_path):
    path = tmp_path / "clip.mp4"
    if kind == "variable rate":
        return write_numbered(path, 30, times=[i * i * 7 + 3 * i for i in range(30)])
    if kind == "B-frames":
        return write_numbered(path, 40, options={"bf": "3", "g": "40"})
    if kind == "edit list":
        write_numbered(tmp_path / "whole.mp4", 40, options={"bf": "2", "g": "40"})
        return without_first(tmp_path / "whole.mp4", path, 7)
    if kind == "transport stream":
        return write_numbered(tmp_path / "clip.ts", 40, options={"bf": "2"})
    if kind == "matroska":
        return write_numbered(tmp_path / "clip.mkv", 25, times=[33 * i + i % 2 for i in range(25)])
    turns = {"turned 90": 90, "turned 180": 180, "turned 270": 270}[kind]
    level = write_numbered(tmp_path / "level.mp4", 20, turn=turns // 90)
    path.write_bytes(turned_by_header(level.read_bytes(), turns))
    return path


KINDS = ["variable rate", "B-frames", "edit list", "transport stream", "matroska"]
KINDS += ["turned 90", "turned 180", "turned 270"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_the_one_of_its_number(opened, tmp_path, kind):
    path = clip_of(kind, tmp_path)
    here = numbers_here(path)
    # The drawing itself says which frames an ordinary file shows, in which order.
    first = here[0][0]
    assert [number for number, _ in here] == list(range(first, first + len(here)))
    if kind != "edit list":
        assert first == 0
    frames = opened(path)
    assert (frames.count, frames.counted) == (len(here), True)
    assert frames.times == [time_s for _, time_s in here]
    for index, (number, _) in enumerate(here):
        assert number_in_jpeg(frames.jpeg(index)) == number


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["B-frames", "edit list", "variable rate", "turned 90"])
def test_frames_that_are_not_kept_are_decoded_again_exactly(opened, tmp_path, kind):
    path = clip_of(kind, tmp_path)
    numbers = [number for number, _ in numbers_here(path)]
    frames = opened(path, limit=1)  # nothing can be kept
    last = len(numbers) - 1
    for index in (last, 0, 5, 4, 3, last // 2, last - 1, 1):
        assert number_in_jpeg(frames.jpeg(index)) == numbers[index]


def size_of(file: Path) -> int:
    """The size of a file; 0 if it was removed at this moment."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_a_small_store_keeps_its_limit_and_answers_from_everywhere(opened, tmp_path):
    path = write_numbered(tmp_path / "clip.mp4", 300)
    size = len(opened(path).jpeg(0))
    frames = opened(path, limit=40 * size)
    rng = np.random.default_rng(3)
    for index in [*rng.integers(0, 300, 15).tolist(), 299, 0]:
        assert number_in_jpeg(frames.jpeg(index)) == index
        stored = sum(map(size_of, frames._store.folder.rglob("*.jpg")))
        assert stored <= 40 * size


@pytest.mark.slow
def test_stepping_back_does_not_decode_from_the_start_each_time(opened, tmp_path, monkeypatch):
    path = write_numbered(tmp_path / "clip.mp4", 200)
    size = len(opened(path).jpeg(0))
    frames = opened(path, limit=80 * size)
    opens = []
    monkeypatch.setattr(
        "propagate.studio.frames.open_source",
        lambda *given, original=sys.modules["propagate.studio.frames"].open_source: (
            opens.append(given[1].frame_range.start) or original(*given)
        ),
    )
    for index in range(190, 150, -1):
        assert number_in_jpeg(frames.jpeg(index)) == index
    assert opens == [190 - BEFORE]


@pytest.mark.slow
def test_many_who_ask_at_once_get_their_own_frames(opened, tmp_path):
    frames = opened(write_numbered(tmp_path / "clip.mp4", 120), limit=1)
    found = {}

    def ask(index):
        found[index] = number_in_jpeg(frames.jpeg(index))

    threads = [threading.Thread(target=ask, args=(i,)) for i in (100, 3, 50, 99, 7, 119, 0, 51)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {i: i for i in (100, 3, 50, 99, 7, 119, 0, 51)}


def test_frames_are_answered_before_the_video_is_counted(opened, tmp_path):
    frames = opened(write_numbered(tmp_path / "clip.mp4", 150), start=False)
    assert not frames.counted
    assert number_in_jpeg(frames.jpeg(0)) == 0
    assert number_in_jpeg(frames.jpeg(140)) == 140
    with pytest.raises(Refused, match="149"):
        frames.jpeg(150 + 64)
    # Opened anew beyond the end.
    with pytest.raises(Refused, match="149"):
        frames.jpeg(150 + 200)


@pytest.mark.parametrize("index", [-1, 30, 10**8])
def test_a_frame_that_does_not_exist_is_refused(opened, tmp_path, index):
    frames = opened(write_numbered(tmp_path / "clip.mp4", 30))
    with pytest.raises(Refused, match="only frames 0 to 29"):
        frames.jpeg(index)


def test_the_images_of_a_folder_come_in_natural_order_with_their_names(opened, tmp_path):
    for number in range(12):
        Image.fromarray(numbered(number)).save(tmp_path / f"f{number}.png")
    frames = opened(tmp_path, limit=1)
    assert [frames.name_of(index) for index in (0, 2, 10)] == ["f0", "f2", "f10"]
    for index in (11, 2, 10, 0):
        assert number_in_jpeg(frames.jpeg(index)) == index


def test_what_is_cached_is_the_decoded_frame_but_for_the_jpeg(opened, drawn):
    frames = opened(drawn.mp4)
    with open_video(drawn.mp4) as source:
        for frame in source:
            again = io.BytesIO()
            Image.fromarray(frame.image).save(again, "JPEG", quality=85)
            assert frames.jpeg(frame.index) == again.getvalue()


def test_a_file_that_breaks_off_keeps_its_first_frames_and_says_why(opened, tmp_path):
    path = write_numbered(tmp_path / "clip.mkv", 60, options={"g": "5"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    frames = opened(path)
    assert 10 < frames.count < 60
    assert frames.error
    assert frames.error in frames.notes
    assert number_in_jpeg(frames.jpeg(frames.count - 1)) == frames.count - 1


DISASTERS = {"segfault": "ctypes.string_at(0)", "kill": "os.kill(os.getpid(), 9)"}


@pytest.mark.parametrize("what", DISASTERS.values(), ids=DISASTERS)
def test_a_decoder_that_crashes_is_one_error(drawn, write_video, tmp_path, monkeypatch, what):
    clip = write_video(tmp_path / "clip.mp4", drawn.images, "yuv444p")  # decord is asked first
    (tmp_path / "decord.py").write_text(
        "import ctypes, os\n"
        "class logging:\n"
        "    QUIET = 0\n"
        "    set_level = staticmethod(lambda level: None)\n"
        "def VideoReader(*_, **__):\n"
        f"    {what}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    store = FrameStore(ROOM)
    try:
        with pytest.raises(VideoError, match=r"its decoder (crashed|was killed)") as caught:
            Frames(str(clip), "video", store, ISOLATED)
        assert "\n" not in str(caught.value)
    finally:
        store.close()
    assert ctypes  # only the child is gone


def test_closing_ends_those_who_wait(tmp_path):
    store = FrameStore(1)
    frames = Frames(str(write_numbered(tmp_path / "clip.mp4", 50)), "video", store, ISOLATED)
    caught = []

    def ask():
        try:
            frames.jpeg(20)  # the first pass is never started
        except PropagateError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)
    frames.close()
    thread.join(10)
    store.close()
    assert len(caught) == 1


def test_the_store_lets_other_videos_go_first():
    store = FrameStore(30)
    try:
        for index in range(3):
            assert store.put("a", index, b"0123456789", replace=False)
        assert not store.put("a", 3, b"0123456789", replace=False)
        assert store.put("b", 0, b"0123456789", replace=False)
        assert store.get("a", 0) is None
        assert store.get("a", 1) == b"0123456789"
        assert store.put("b", 1, b"0123456789", replace=True)
        assert store.get("a", 2) is None
        assert store.total_bytes == 30
        assert not store.put("b", 9, bytes(31), replace=True)
    finally:
        store.close()
