"""A decoder in a process of its own: its frames are the same, and its end is one error."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.isolated import SLOTS, IsolatedSource
from propagate.io.decode.video import open_video
from tests.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes"),
]

CORPUS = ROOT.parent / "shared" / "data" / "dev" / "decode"

# What a native library may do to the process it runs in. The last holds the lock of the
# interpreter, so that no thread of Python can run.
DISASTERS = {
    "segfault": ("ctypes.string_at(0)", r"its decoder crashed \(SIGSEGV\)"),
    "abort": ("os.abort()", r"its decoder crashed \(SIGABRT\)"),
    "kill": ("os.kill(os.getpid(), 9)", r"its decoder was killed \(SIGKILL\)"),
    "exit": ("os._exit(3)", r"its decoder ended with status 3"),
    "memory": ("bytearray(8 * 2**30); os.abort()", None),
    "nonsense": (
        "[os.write(int(fd), b'[1]\\n') for fd in os.listdir('/proc/self/fd')"
        " if int(fd) > 2 and 'pipe:' in os.path.realpath(f'/proc/self/fd/{fd}')]",
        r"its decoder sent nonsense before the first frame",
    ),
    "hang": ("ctypes.PyDLL(None).sleep(1000)", r"its decoder made no progress for 3 s"),
}


def child_of(source):
    assert isinstance(source, IsolatedSource)
    return source._child


def is_running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until_gone(pid, limit_s=10.0):
    until = time.monotonic() + limit_s
    while is_running(pid):
        assert time.monotonic() < until, "the child is still there"
        time.sleep(0.05)


def corpus_files():
    names = [
        "daft__sample_video.mp4",
        "decord__corrupted.mp4",
        "decord__video_90.mov",
        "fate__vp9__vp90-2-05-resize.mp4",
        "imageio__newtonscradle.gif",
    ]
    if not CORPUS.is_dir():
        absent = pytest.mark.skip(reason="the corpus ../shared/data/dev/decode is not here")
        return [pytest.param("", marks=absent, id="no-corpus")]
    return names


def read(source, **options):
    frames, error = [], None
    with open_video(source, **options) as opened:
        try:
            frames.extend(opened)
        except VideoError as caught:
            error = str(caught)
        return frames, error, opened.info


def assert_isolated_alike(source, **options):
    here, error_here, info_here = read(source, **options)
    there, error_there, info_there = read(source, isolate=True, **options)
    assert error_there == error_here
    for one, other in zip(there, here, strict=True):
        assert np.array_equal(one.image, other.image)
        assert (one.index, one.time, one.name) == (other.index, other.time, other.name)
    for name in ("name", "width", "height", "fps", "frame_count", "decoder", "gaps"):
        assert getattr(info_there, name) == getattr(info_here, name)
    return here


@pytest.mark.parametrize("name", corpus_files())
@pytest.mark.slow
def test_frames_times_and_errors_are_those_of_this_process(name):
    assert assert_isolated_alike(CORPUS / name)


def test_a_folder_and_a_range_come_alike_too(drawn):
    assert assert_isolated_alike(drawn.folder)
    wanted = FrameRange(start=2, stride=3)
    assert [frame.index for frame in assert_isolated_alike(drawn.mp4, frame_range=wanted)] == [
        *(2, 5, 8, 11)
    ]


def test_a_frame_stays_as_it_was_when_later_ones_reuse_its_memory(drawn):
    with open_video(drawn.mp4, isolate=True) as frames:
        kept = [(frame, frame.image.copy()) for frame in frames]
    assert len(kept) > 2 * SLOTS
    for frame, copy in kept:
        assert np.array_equal(frame.image, copy)


@pytest.mark.parametrize(("what", "message"), DISASTERS.values(), ids=DISASTERS)
@pytest.mark.slow
def test_a_disaster_in_a_codec_is_one_error_and_the_next_file_is_read(
    drawn, write_video, tmp_path, monkeypatch, what, message
):
    clip = write_video(tmp_path / "clip.mp4", drawn.images, "yuv444p")  # decord is asked first
    broken = tmp_path / "decord.py"
    broken.write_text(
        "import ctypes, os\n"
        "class logging:\n"
        "    QUIET = 0\n"
        "    set_level = staticmethod(lambda level: None)\n"
        "def VideoReader(*_, **__):\n"
        f"    {what}\n"
        "    raise RuntimeError('nothing happened')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    if message is None:
        # An allocation that fails is decord's error, after which PyAV decodes the clip.
        frames, error, info = read(clip, isolate=True)
        assert (len(frames), error, info.decoder) == (len(drawn.images), None, "pyav")
        return
    frames, error, _ = read(clip, isolate=True, deadline_s=3)
    assert frames == []
    assert error is not None
    assert str(clip) in error
    assert "\n" not in error
    assert re.search(message, error)
    assert len(read(clip, isolate=True, decoder="pyav")[0]) == len(drawn.images)


def long_folder(tmp_path, count=60):
    """Many images of some size: a child that is not waited for is still reading them."""
    rng = np.random.default_rng(1)
    for index in range(count):
        noise = rng.integers(0, 256, (240, 320, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index:03d}.png")
    return tmp_path


def test_a_child_killed_in_the_middle_leaves_the_frames_before(tmp_path):
    folder = long_folder(tmp_path)
    with open_video(folder, isolate=True) as frames:
        before = [next(frames) for _ in range(10)]
        child_of(frames).send_signal(signal.SIGSEGV)
        with pytest.raises(VideoError, match=r"crashed \(SIGSEGV\) after frame (\d+); \d+ frames"):
            before.extend(frames)
    # What lay in the shared memory already is not lost.
    assert 10 <= len(before) <= 10 + SLOTS
    assert [frame.index for frame in before] == list(range(len(before)))


def test_a_child_that_stops_moving_is_killed_at_the_deadline(tmp_path):
    with open_video(long_folder(tmp_path), isolate=True, deadline_s=1) as frames:
        next(frames)
        child = child_of(frames)
        child.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(VideoError, match="made no progress for 1 s"):
            list(frames)
        assert time.monotonic() - started < 10
    wait_until_gone(child.pid)


def test_a_child_that_waits_for_a_slow_consumer_is_not_taken_for_a_stuck_one(tmp_path):
    with open_video(long_folder(tmp_path, 12), isolate=True, deadline_s=1) as frames:
        count = 0
        for count, _ in enumerate(frames, start=1):
            if count == 2:
                time.sleep(2)
    assert count == 12


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", ["closed", "forgotten", "never read", "read to the end"])
@pytest.mark.slow
def test_no_child_is_left_behind(tmp_path, how):
    frames = open_video(long_folder(tmp_path, 12), isolate=True)
    pid = child_of(frames).pid
    assert is_running(pid)
    if how == "closed":
        next(frames)
        frames.close()
    elif how == "read to the end":
        list(frames)
    elif how == "forgotten":
        next(frames)
    del frames
    gc.collect()
    wait_until_gone(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_child_ends_when_its_parent_was_killed(tmp_path):
    code = (
        "import sys, time\n"
        "from propagate.io.decode.video import open_video\n"
        "frames = open_video(sys.argv[1], isolate=True)\n"
        "next(frames)\n"
        "print(frames._child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(long_folder(tmp_path))],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with closing(parent.stdout):  # pyright: ignore[reportArgumentType]
        pid = int(parent.stdout.readline())  # pyright: ignore[reportOptionalMemberAccess]
        assert is_running(pid)
        parent.kill()
        parent.wait()
    wait_until_gone(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_child_does_not_load_torch(tmp_path):
    with open_video(long_folder(tmp_path, 12), isolate=True) as frames:
        next(frames)
        maps = Path(f"/proc/{child_of(frames).pid}/maps").read_text()
    assert "libav" in maps
    assert "torch" not in maps


def test_a_name_of_any_bytes_reaches_the_child(drawn, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff \n'.mp4"))
    path.write_bytes(drawn.mp4.read_bytes())
    frames, error, _ = read(path, isolate=True)
    assert (len(frames), error) == (len(drawn.images), None)


def test_frames_that_do_not_fit_the_slots_are_refused_as_too_large(drawn):
    with pytest.raises(VideoError, match=r"64x48 pixels, more than the limit of 3071"):
        open_video(drawn.mp4, isolate=True, max_pixels=64 * 48 - 1)
    frames, error, _ = read(drawn.mp4, isolate=True, max_pixels=64 * 48)
    assert (len(frames), error) == (len(drawn.images), None)
