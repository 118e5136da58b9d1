"""Frames from a camera or a network stream, through PyAV."""

import re
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from propagate.errors import VideoError
from propagate.io.prefetch import Prefetcher
from propagate.io.pyav_reader import PyAVReader
from propagate.io.source import FrameStream
from propagate.records import Frame, VideoInfo

LIVE_DEADLINE_S = 10.0

# FFmpeg's capture device for a camera index, by sys.platform.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


class LiveSource(FrameStream):
    """A camera or a stream; read in its own thread, so that a silent sender cannot hang us.

    Frames are never dropped here: a slow consumer holds at most `bytes_limit` behind it, then
    the sender is slowed (TCP) or loses packets (UDP, a camera). The sender's end of a connection
    is the end of the video.

    Args:
        address: URL of a stream, or the index of a camera.
        bytes_limit: Most bytes of frames waiting for the consumer.
        deadline_s: Longest silence before the source counts as stopped, in seconds.

    Raises:
        VideoError: Unreachable, not a video, or silent for `deadline_s` at any point.
    """

    def __init__(self, address: str | int, *, bytes_limit: int, deadline_s: float) -> None:
        """Connect, and wait for the first frame."""
        self._label = label(address)
        self._deadline_s = deadline_s
        self._count = 0
        self._prefetcher: Prefetcher[VideoInfo | Frame] = Prefetcher(
            _info_then_frames(address, deadline_s),
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
        self.info = info

    def _read(self) -> Generator[Frame, None, None]:
        while isinstance(frame := self._next(), Frame):
            self._count += 1
            yield frame

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


def _info_then_frames(address: str | int, deadline_s: float) -> Iterator[VideoInfo | Frame]:
    """Open, read and close in the one thread that runs this: FFmpeg allows no other."""
    with closing(_open(address, deadline_s)) as reader:
        yield reader.info
        yield from reader


def _open(address: str | int, deadline_s: float) -> PyAVReader:
    options: dict[str, Any] = {"timeout": deadline_s}
    if isinstance(address, int):
        if sys.platform not in CAMERAS:
            raise VideoError(
                f"camera {address}: cameras by index work on Linux and macOS; "
                "give the address of a stream instead"
            )
        options["format"], device = CAMERAS[sys.platform]
        return PyAVReader(
            device.format(address),
            label=label(address),
            name=f"camera{address}",
            tolerant=True,
            live=True,
            open_options=options,
        )
    parts = urlsplit(address)
    if parts.scheme in ("rtsp", "rtsps"):
        # Over UDP, RTSP's first choice, lost packets tear the picture.
        options["options"] = {"rtsp_transport": "tcp"}
    words = re.findall(r"[\w-]+", parts.path.rsplit("/", 1)[-1].rsplit(".", 1)[0])
    return PyAVReader(
        address,
        label=label(address),
        name="_".join(words) or "live",
        # A download is a file and must be whole; a broadcast is joined in the middle.
        tolerant=parts.scheme not in ("http", "https"),
        live=True,
        open_options=options,
    )
