"""Frames from a camera or a network stream, through PyAV."""

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

from propagate.errors import VideoError
from propagate.io.decode.frame_range import DEFAULT_FPS, FrameRange, select
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.prefetch import Prefetcher
from propagate.io.decode.pyav import PyAVReader, reason
from propagate.io.decode.source import FrameStream
from propagate.records import Frame, Gap, VideoInfo

log = logging.getLogger(__name__)

LIVE_DEADLINE_S = 10.0
# Between attempts to connect again; each is twice the one before.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0

# FFmpeg's capture device for a camera index, by sys.platform.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


class LiveSource(FrameStream):
    """A camera or a stream; read in its own thread, so that a silent sender cannot hang us.

    Frames are never dropped here: a slow consumer holds at most `bytes_limit` behind it, then
    the sender is slowed (TCP) or loses packets (UDP, a camera). The sender's end of a connection
    is the end of the video, unless `reconnect_s` says to wait for it to come back.

    Times never go back: a frame earlier than the one before it, as when a clock was set, follows
    that by one frame's duration, and those after it keep their distance. After an outage the first
    frame is as much later as it came later.

    Args:
        address: URL of a stream, or the index of a camera.
        bytes_limit: Most bytes of frames waiting for the consumer.
        deadline_s: Longest silence before the source counts as stopped, in seconds.
        reconnect_s: How long to try again, with growing pauses, after the source stopped; 0: not at
            all. A download (http) is never begun again. `info.gaps` says when it was away.
        frame_range: The frames to hand out.
        max_pixels: Most pixels of a frame.

    Raises:
        VideoError: Unreachable at the start, not a video, or silent for `deadline_s` at any point
            and not back within `reconnect_s`.
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
        self._label = label(address)
        self._deadline_s = deadline_s
        self._range = frame_range or FrameRange()
        self._count = 0
        sender = _Sender(address, deadline_s, max_pixels)
        self._prefetcher: Prefetcher[VideoInfo | Frame] = Prefetcher(
            _info_then_frames(sender, reconnect_s),
            bytes_limit=bytes_limit,
            size_of=lambda item: item.image.nbytes if isinstance(item, Frame) else 0,
            # FFmpeg's own time-out comes first where it can: it ends the thread as well.
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
        yield from select(self._received(), self._range, self._label)

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
                f"{self._label}: nothing came for {self._deadline_s:g} s after "
                f"{self._count} frames; check the camera or the sender, then start again"
            ) from error

    def _release(self) -> None:
        self._prefetcher.close()


def label(address: str | int) -> str:
    """Name a live source in messages: user and password of a URL are left out."""
    if isinstance(address, int):
        return f"camera {address}"
    return re.sub(r"(?<=://)[^/@]*@", "", address)


def live_name(address: str | int) -> str:
    """Name the results of a live source: "camera0", or the last part of an address."""
    if isinstance(address, int):
        return f"camera{address}"
    words = re.findall(r"[\w-]+", urlsplit(address).path.rsplit("/", 1)[-1].rsplit(".", 1)[0])
    return "_".join(words) or "live"


@dataclass(frozen=True, slots=True)
class _Sender:
    """Whom to connect to, and how."""

    address: str | int
    deadline_s: float
    max_pixels: int

    @property
    def label(self) -> str:
        """What messages call it."""
        return label(self.address)

    @property
    def is_download(self) -> bool:
        """Whether it is a file: to be whole, and to begin anew with each connection."""
        return urlsplit(str(self.address)).scheme in ("http", "https")


def _info_then_frames(sender: _Sender, reconnect_s: float) -> Iterator[VideoInfo | Frame | None]:
    """Open, read and close in the one thread that runs this: FFmpeg allows no other.

    What is known of the source comes again, with one more gap, after each outage.
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
                        log.warning("%s: back after %.1f s", sender.label, away_s)
                        yield info
                    last_s = now_s
                    placed = clock.place(frame.time)
                    yield replace(frame, index=count, time=placed, name=f"{count:05d}")
                    count += 1
        except VideoError as error:
            failure = error
        if not reconnect_s or sender.is_download:
            break
        why = "the sender ended it" if failure is None else _reason(failure)
        log.warning("%s: broke off after frame %d (%s)", sender.label, count - 1, why)
        reader = yield from _reconnect(sender, reconnect_s)
    if failure is not None and reader is None:
        raise VideoError(
            f"{sender.label}: broke off after frame {count - 1} ({why}) and did not come back "
            f"within {reconnect_s:g} s; {count} frames were read, check the sender"
        ) from failure
    if failure is not None:
        raise failure


def _reconnect(sender: _Sender, reconnect_s: float) -> Generator[None, None, PyAVReader | None]:
    """Try to connect, with growing pauses; return None when it is too long."""
    until_s = time.monotonic() + reconnect_s
    pause_s = FIRST_PAUSE_S
    while (left_s := until_s - time.monotonic()) > 0:
        woken_s = time.monotonic() + min(pause_s, left_s)
        # In small pieces: each is a sign of life, and a moment at which reading can be ended.
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
    """Places the frames of a live source in time, so that their times never go back."""

    def __init__(self, step: Fraction) -> None:
        """Take the times of the source as they are, as long as they do not go back.

        Args:
            step: Seconds between a frame and one whose own time is earlier.
        """
        self._step = step
        self._offset = Fraction(0)
        self._last: Fraction | None = None
        self._skip: Fraction | None = None

    def skip(self, seconds: float) -> None:
        """Place the next frame so much after the last, whatever its time says."""
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
                f"camera {address}: cameras by index work on Linux and macOS; "
                "give the address of a stream instead"
            )
        options["format"], device = CAMERAS[sys.platform]
        return PyAVReader(
            device.format(address),
            label=sender.label,
            name=live_name(address),
            tolerant=True,
            live=True,
            open_options=options,
            max_pixels=sender.max_pixels,
        )
    if urlsplit(address).scheme in ("rtsp", "rtsps"):
        # Over UDP, RTSP's first choice, lost packets tear the picture.
        options["options"] = {"rtsp_transport": "tcp"}
    return PyAVReader(
        address,
        label=sender.label,
        name=live_name(address),
        # A download must be whole; a broadcast is joined in the middle.
        tolerant=not sender.is_download,
        live=True,
        open_options=options,
        max_pixels=sender.max_pixels,
    )
