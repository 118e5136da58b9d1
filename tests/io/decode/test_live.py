"""A sender that goes away and comes back."""

import logging
import socket
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.live import SteadyClock
from propagate.io.decode.video import open_video

# Senders, children and deadlines are waited for.
pytestmark = pytest.mark.slow

STEP = Fraction(1, 25)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """An MPEG-TS of 20 frames at 25 per second, each with a grey of its own."""
    path = tmp_path_factory.mktemp("live") / "clip.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            image = np.full((48, 64, 3), 40 + 8 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


class Sender:
    """Serves what it is given over TCP: one connection for each part, with pauses between.

    A part of None is a connection that says nothing. After the last part nobody listens; with
    `hang_up=False` that connection stays open, silent.
    """

    def __init__(self, parts, pause_s, hang_up):
        self._server = socket.create_server(("127.0.0.1", 0))
        self._port = self._server.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._parts, self._pause_s, self._hang_up = parts, pause_s, hang_up
        self._silent = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        for number, part in enumerate(self._parts):
            if number:
                time.sleep(self._pause_s)
                self._server = socket.create_server(("127.0.0.1", self._port))
            connection, _ = self._server.accept()
            self._server.close()  # nobody answers until the next part
            connection.sendall(part or b"")
            if part is None or not self._hang_up:
                self._silent.append(connection)
            else:
                connection.close()

    def close(self):
        self._thread.join(20)
        self._server.close()
        for connection in self._silent:
            connection.close()


@pytest.fixture
def send():
    senders = []

    def begin(parts, pause_s=1.0, hang_up=True):
        senders.append(Sender(parts, pause_s, hang_up))
        return senders[-1].address

    yield begin
    for sender in senders:
        sender.close()


@pytest.mark.parametrize("isolate", [False, True])
def test_frames_go_on_after_an_outage_and_the_gap_is_told(stream, send, isolate, caplog):
    address = send([stream, stream], pause_s=1.2)
    with (
        caplog.at_level(logging.WARNING),
        open_video(address, reconnect_s=4, live_deadline_s=4, isolate=isolate) as frames,
    ):
        read = list(frames)
        gaps = frames.info.gaps
    assert len(read) > 30
    assert [frame.index for frame in read] == list(range(len(read)))
    times = [frame.time for frame in read]
    assert times == sorted(set(times))
    (gap,) = gaps
    assert gap.seconds >= 1.2
    assert gap.reason == "the sender ended the stream"
    # The only jump is where the gap says, and it is as long.
    jumps = [index for index in range(1, len(read)) if times[index] - times[index - 1] > 1]
    assert jumps == [gap.after + 1]
    assert float(times[gap.after + 1] - times[gap.after]) == pytest.approx(gap.seconds)
    # Behind the gap the second connection's own pictures follow, from its first on.
    assert read[gap.after + 1].image.mean() < read[gap.after].image.mean()
    if not isolate:
        assert f"broke off after frame {gap.after}" in caplog.text
        assert "back after" in caplog.text


def test_silence_is_an_outage_too(stream, send):
    address = send([stream[: len(stream) // 2], None, stream], pause_s=0.2)
    with open_video(address, reconnect_s=6, live_deadline_s=1.5) as frames:
        read = list(frames)
        assert len(frames.info.gaps) == 1
    assert len(read) > 25


def test_a_sender_that_ended_well_and_stays_away_is_the_end_after_a_bounded_wait(stream, send):
    address = send([stream])
    started = time.monotonic()
    with open_video(address, reconnect_s=2, live_deadline_s=1) as frames:
        assert len(list(frames)) > 15
        assert frames.info.gaps == ()
    assert 2 <= time.monotonic() - started < 10


def test_a_sender_that_fell_silent_and_stays_away_is_an_error_that_says_how_long(stream, send):
    address = send([stream], hang_up=False)
    started = time.monotonic()
    with (
        open_video(address, reconnect_s=2, live_deadline_s=1) as frames,
        pytest.raises(VideoError, match=r"did not come back within 2 s; \d+ frames were read"),
    ):
        list(frames)
    assert time.monotonic() - started < 15


def test_without_reconnecting_the_end_of_the_connection_is_the_end(stream, send):
    address = send([stream])
    started = time.monotonic()
    with open_video(address, live_deadline_s=3) as frames:
        assert len(list(frames)) > 15
    assert time.monotonic() - started < 3


def test_closing_does_not_wait_for_a_sender(stream, send):
    address = send([stream])
    frames = open_video(address, reconnect_s=60, live_deadline_s=5)
    for _ in range(15):
        next(frames)
    time.sleep(1)
    started = time.monotonic()
    frames.close()
    assert time.monotonic() - started < 3


def test_a_range_counts_on_over_a_gap(stream, send):
    address = send([stream, stream], pause_s=0.6)
    wanted = FrameRange(stride=7)
    with open_video(address, reconnect_s=3, live_deadline_s=4, frame_range=wanted) as frames:
        indices = [frame.index for frame in frames]
    assert indices == list(range(0, indices[-1] + 1, 7))
    assert indices[-1] >= 28


# The clock


def placed(times, step=STEP):
    clock = SteadyClock(step)
    return [clock.place(Fraction(time)) for time in times]


def test_times_that_do_not_go_back_stay_as_they_are():
    times = [Fraction("7.3"), Fraction("7.3"), Fraction("7.35"), Fraction(9000)]
    assert placed(times) == times


def test_a_clock_that_is_set_back_goes_on_one_frame_later_and_keeps_its_distances():
    hour = Fraction(3600)
    times = [hour, hour + STEP, Fraction(0), STEP, 3 * STEP]
    assert placed(times) == [hour + number * STEP for number in (0, 1, 2, 3, 5)]


def test_a_clock_set_back_twice_still_never_goes_back():
    rng = np.random.default_rng(3)
    times = [Fraction(int(number), 100) for number in rng.integers(0, 1000, 200)]
    out = placed(times)
    assert out == sorted(out)


def test_after_a_gap_the_first_frame_is_as_much_later_as_it_came():
    clock = SteadyClock(STEP)
    assert clock.place(Fraction(100)) == 100
    clock.skip(2.5)
    assert clock.place(Fraction(0)) == Fraction("102.5")
    assert clock.place(STEP) == Fraction("102.5") + STEP
