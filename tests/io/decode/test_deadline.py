"""A deadline on progress for what is decoded in this process."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from propagate.errors import VideoError
from propagate.io.decode import prefetch
from propagate.io.decode.deadline import WatchedSource
from propagate.io.decode.source import FrameStream
from propagate.records import Frame, VideoInfo


class Told(FrameStream):
    """Plays a script: "frame", "sign", seconds to wait, or an exception to raise."""

    def __init__(self, *script):
        self.info = VideoInfo("told", 4, 2, None, None, "pyav")
        self._script = script
        self.released = threading.Event()

    def _read(self):
        index = 0
        try:
            for step in self._script:
                if isinstance(step, float):
                    time.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                elif step == "sign":
                    yield None
                else:
                    yield Frame(np.zeros((2, 4, 3), np.uint8), index, Fraction(index), str(index))
                    index += 1
        finally:
            self._release()

    def _release(self):
        self.released.set()


def watched(*script, deadline_s=0.5):
    source = Told(*script)
    return source, WatchedSource(source, "clip.mp4", deadline_s)


def test_frames_pass_and_the_source_is_closed_at_the_end():
    source, frames = watched("frame", "sign", "frame")
    assert [frame.index for frame in frames] == [0, 1]
    assert source.released.wait(5)


def test_no_progress_is_an_error_that_names_the_source_and_what_was_read(monkeypatch):
    monkeypatch.setattr(prefetch, "JOIN_DEADLINE_S", 0.1)  # else closing waits for the thread
    _, frames = watched("frame", "frame", 5.0, "frame")
    started = time.monotonic()
    read = []
    message = r"clip\.mp4: no progress for 0\.5 s after 2 frames.*isolate=True"
    with pytest.raises(VideoError, match=message):
        read.extend(frames)
    assert time.monotonic() - started < 3
    assert len(read) == 2


@pytest.mark.slow
def test_signs_of_life_keep_a_long_wait_from_being_taken_for_a_hang():
    _, frames = watched("frame", *(["sign", 0.2] * 6), "frame")
    assert len(list(frames)) == 2


def test_an_error_comes_after_the_frames_before_it():
    source, frames = watched("frame", VideoError("clip.mp4: damaged"))
    assert next(frames).index == 0
    with pytest.raises(VideoError, match="damaged"):
        next(frames)
    assert source.released.wait(5)


def test_a_source_that_was_never_read_is_closed_too():
    source, frames = watched("frame")
    frames.close()
    assert source.released.is_set()
    assert list(frames) == []


def test_closing_early_closes_the_source():
    source, frames = watched(*["frame"] * 100)
    next(frames)
    frames.close()
    assert source.released.wait(5)
