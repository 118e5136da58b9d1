"""Reads frames from a camera or a network stream with PyAV."""

import logging
import re
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

from propagate.errors import VideoError, counted, shown_address
from propagate.io.decode.frame_range import DEFAULT_FPS, FrameRange, select
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.prefetch import Prefetcher
from propagate.io.decode.pyav import PyAVReader, reason
from propagate.io.decode.source import FrameStream, frames_read
from propagate.records import Frame, Gap, VideoInfo

log = logging.getLogger(__name__)

LIVE_DEADLINE_S = 10.0
# Pauses between attempts to reconnect. Each is twice the one before.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0

# FFmpeg's capture device for a camera index, by sys.platform.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


class LiveSource(FrameStream):
    """A camera or a stream. A thread reads it, so a silent sender cannot block the consumer.

    No frame is dropped here. If the consumer is slow, frames of at most `bytes_limit` wait for it;
    then the sender is slowed down (TCP) or loses packets (UDP, a camera). The video ends when the
    sender ends the connection, unless `reconnect_s` says to wait for its return.

    Times never go back. A frame with an earlier time than the one before it, as after a change of
    the sender's clock, is placed one frame duration after that one, and later frames keep their
    distances. The first frame after an outage is placed as much later as it arrived later.

    Args:
        address: URL of a stream, or the index of a camera.
        bytes_limit: Most bytes of frames that wait for the consumer.
        deadline_s: The source counts as stopped after this silence, in seconds.
        reconnect_s: How long to try again, with growing pauses, after the source stopped. 0: never.
            A download (http) is never started again. `info.gaps` lists the outages.
        frame_range: The frames to read.
        max_pixels: Largest number of pixels in a frame.

    Raises:
        VideoError: The source is unreachable at the start, is not a video, or was silent for
            `deadline_s` and did not come back within `reconnect_s`.
    """

    def __init__(
        self,
        address: str | int,
        *,
        bytes_limit: int,
        deadline_s: float,
        reconnect_s: float = 0.0,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Connect, and wait for the first frame."""
        self._display_name = live_display_name(address)
        self._deadline_s = deadline_s
        self._range = frame_range or FrameRange()
        self._count = 0
        sender = _Sender(address, deadline_s, max_pixels)
        self._prefetcher: Prefetcher[VideoInfo | Frame] = Prefetcher(
            _info_then_frames(sender, reconnect_s),
            bytes_limit=bytes_limit,
            size_of=lambda item: item.image.nbytes if isinstance(item, Frame) else 0,
            # FFmpeg's time-out should come first, because it also ends the thread.
            deadline_s=deadline_s * 1.5,
        )
        try:
            info = self._next()
        except BaseException:
            self._prefetcher.close()
            raise
        assert isinstance(info, VideoInfo)
        self.info = self._range.info(info)

    def _read(self) -> Generator[Frame | None, None, None]:
        yield from select(self._received(), self._range, self._display_name)

    def _received(self) -> Iterator[Frame]:
        while (item := self._next()) is not None:
            if isinstance(item, VideoInfo):
                self.info = replace(self.info, gaps=item.gaps)
                continue
            self._count += 1
            yield item

    def _next(self) -> VideoInfo | Frame | None:
        try:
            return next(self._prefetcher, None)
        except TimeoutError as error:
            raise VideoError(
                f"{self._display_name}: nothing came for {self._deadline_s:g} s after "
                f"{counted(self._count, 'frame')}",
                "check the camera or the sender, then start again",
            ) from error

    def _release(self) -> None:
        self._prefetcher.close()


def live_display_name(address: str | int) -> str:
    """Return the name of a live source in messages, without the secrets of a URL."""
    if isinstance(address, int):
        return f"camera {address}"
    return shown_address(address)


def live_name(address: str | int) -> str:
    """Return the name of the results of a live source: "camera0", or the end of an address."""
    if isinstance(address, int):
        return f"camera{address}"
    words = re.findall(
        r"[\w-]+", urlsplit(shown_address(address)).path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    )
    return "_".join(words) or "live"


@dataclass(frozen=True, slots=True)
class _Sender:
    """A camera or a stream to connect to, and its limits."""

    address: str | int
    deadline_s: float
    max_pixels: int

    @property
    def display_name(self) -> str:
        """Name in messages."""
        return live_display_name(self.address)

    @property
    def is_download(self) -> bool:
        """Whether it is a file, which must be complete and starts again with each connection."""
        return urlsplit(str(self.address)).scheme in ("http", "https")


def _info_then_frames(sender: _Sender, reconnect_s: float) -> Iterator[VideoInfo | Frame | None]:
    """Open, read and close the source. FFmpeg requires that one thread does all three.

    After each outage, the `VideoInfo` is yielded again with one more gap.
    """
    reader: PyAVReader | None = _open(sender, sender.deadline_s)
    info = reader.info
    yield info
    clock = SteadyClock(1 / (info.fps or DEFAULT_FPS))
    count, last_s, why = 0, 0.0, ""
    failure: VideoError | None = None
    while reader is not None:
        failure, interrupted = None, count > 0
        try:
            with closing(reader):
                for frame in reader:
                    now_s = time.monotonic()
                    if interrupted:
                        interrupted = False
                        away_s = round(now_s - last_s, 3)
                        clock.skip(away_s)
                        info = replace(info, gaps=(*info.gaps, Gap(count - 1, away_s, why)))
                        log.warning("%s: back after %.1f s", sender.display_name, away_s)
                        yield info
                    last_s = now_s
                    placed = clock.place(frame.time)
                    yield replace(frame, index=count, time=placed, name=f"{count:05d}")
                    count += 1
        except VideoError as error:
            failure = error
        if not reconnect_s or sender.is_download:
            break
        why = "the sender ended the stream" if failure is None else _reason(failure)
        log.warning("%s: broke off after frame %d (%s)", sender.display_name, count - 1, why)
        reader = yield from _reconnect(sender, reconnect_s)
    if failure is not None and reader is None:
        raise VideoError(
            f"{sender.display_name}: broke off after frame {count - 1} ({why}) and did not come "
            f"back within {reconnect_s:g} s",
            f"{frames_read(count)}; check the sender",
        ) from failure
    if failure is not None:
        raise failure


def _reconnect(sender: _Sender, reconnect_s: float) -> Generator[None, None, PyAVReader | None]:
    """Try to connect, with growing pauses. Return None after `reconnect_s`."""
    until_s = time.monotonic() + reconnect_s
    pause_s = FIRST_PAUSE_S
    while (left_s := until_s - time.monotonic()) > 0:
        woken_s = time.monotonic() + min(pause_s, left_s)
        # Sleep in small pieces. After each, a sign of life is sent, and reading can be stopped.
        while (asleep_s := woken_s - time.monotonic()) > 0:
            time.sleep(min(asleep_s, 0.2))
            yield None
        left_s = max(FIRST_PAUSE_S, until_s - time.monotonic())
        try:
            return _open(sender, min(sender.deadline_s, left_s))
        except VideoError:
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    return None


def _reason(error: VideoError) -> str:
    return str(error) if error.__cause__ is None else reason(error.__cause__)


class SteadyClock:
    """Gives the frames of a live source times that never go back."""

    def __init__(self, step: Fraction) -> None:
        """Keep the times of the source as long as they do not go back.

        Args:
            step: Seconds from a frame to the next one, if the next one has an earlier time.
        """
        self._step = step
        self._offset = Fraction(0)
        self._last: Fraction | None = None
        self._skip: Fraction | None = None

    def skip(self, seconds: float) -> None:
        """Place the next frame this long after the last, whatever its own time is."""
        self._skip = Fraction(str(seconds))

    def place(self, time: Fraction) -> Fraction:
        """Return the time of the next frame, given its own, in seconds."""
        placed = time + self._offset
        if self._last is not None and (self._skip is not None or placed < self._last):
            placed = self._last + (self._step if self._skip is None else self._skip)
            self._offset = placed - time
        self._last, self._skip = placed, None
        return placed


def _open(sender: _Sender, timeout_s: float) -> PyAVReader:
    address = sender.address
    options: dict[str, Any] = {"timeout": timeout_s}
    if isinstance(address, int):
        if sys.platform not in CAMERAS:
            raise VideoError(
                f"camera {address}: cameras by index work on Linux and macOS only",
                "give the address of a stream",
            )
        options["format"], device = CAMERAS[sys.platform]
        return PyAVReader(
            device.format(address),
            display_name=sender.display_name,
            name=live_name(address),
            tolerant=True,
            live=True,
            open_options=options,
            max_pixels=sender.max_pixels,
        )
    if urlsplit(address).scheme in ("rtsp", "rtsps"):
        # UDP, the default of RTSP, loses packets, which damages pictures.
        options["options"] = {"rtsp_transport": "tcp"}
    return PyAVReader(
        address,
        display_name=sender.display_name,
        name=live_name(address),
        # A download must be complete. A broadcast is joined in the middle.
        tolerant=not sender.is_download,
        live=True,
        open_options=options,
        max_pixels=sender.max_pixels,
    )
