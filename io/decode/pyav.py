"""Frames through PyAV (FFmpeg): the decoder that is right for every file FFmpeg can read."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np
from av.error import ExitError, FFmpegError, InvalidDataError
from av.stream import Disposition

from propagate.errors import VideoError
from propagate.io.decode.frame_range import DEFAULT_FPS, FrameRange, select
from propagate.io.decode.pixel_limit import MAX_PIXELS, TOO_LARGE_HINT, too_large
from propagate.io.decode.source import FrameStream
from propagate.records import Frame, VideoInfo

# A local file may name others (playlists, external tracks): those are read from disk only, so
# that opening somebody's file never reaches for the network.
LOCAL_OPTIONS = {"protocol_whitelist": "file,crypto,data"}


class CutOffError(ValueError):
    """A file ends before its header says."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A frame as FFmpeg has it: most of the work of one that is skipped is never done."""

    picture: Any
    index: int
    time: Fraction


class PyAVReader(FrameStream):
    """Decodes one file, stream or device with PyAV; opening decodes the first frame.

    RGB is what `frame.to_ndarray(format="rgb24")` gives, rotated upright: colours are converted
    with the BT.601 matrix whatever the file states, alpha is dropped, the sample aspect ratio is
    ignored. A frame that carries no time is placed one frame duration after the one before it.

    Args:
        address: What FFmpeg is to open: an absolute path, a URL or a device.
        label: What messages call it.
        name: `VideoInfo.name`.
        tolerant: Skip packets that cannot be decoded, as a live stream joined in the middle
            begins with. Otherwise such a packet ends the reading with an error.
        live: Messages speak of a sender instead of a file.
        open_options: Keyword arguments for `av.open`.
        frame_range: The frames to hand out.
        max_pixels: Most pixels of a frame.

    Raises:
        VideoError: Not a video, no video stream, no frame in it, or pictures too large; from the
            iteration, after the good frames, when the rest is damaged or missing.
    """

    def __init__(
        self,
        address: str,
        *,
        label: str,
        name: str,
        tolerant: bool = False,
        live: bool = False,
        open_options: dict[str, Any] | None = None,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Open the container and decode the first frame."""
        self._label = label
        self._live = live
        self._range = frame_range or FrameRange()
        self._max_pixels = max_pixels
        self._count = 0
        given = {"metadata_errors": "replace", **(open_options or {})}
        # FFmpeg decodes to look for what the header does not tell: it needs the limit as well.
        guard = {"max_pixels": str(max_pixels)}
        given["options"] = {**given.get("options", {}), **guard}
        try:
            self._container: Any = av.open(address, **given)
        except (FFmpegError, UnicodeError) as error:
            advice = "check that it plays, or convert it with ffmpeg"
            if live:
                advice = "check the address, and that the sender is on"
            raise VideoError(
                f"{label}: cannot be opened as a video ({reason(error)}); {advice}"
            ) from error
        try:
            self._stream = video_stream(self._container, label)
            codec = self._stream.codec_context
            self._check_size(codec.width, codec.height)
            codec.options = guard
            self._pictures = decoded_frames(self._container, self._stream, tolerant=tolerant)
            with self._explaining():
                self._first = next(self._pictures, None)
                if self._first is None:
                    raise VideoError(
                        f"{label}: holds no frames; check that it is a complete recording"
                    )
                height, width, _ = self._upright(self._first).shape
        except BaseException:
            self._container.close()
            raise
        self.info = self._range.info(
            VideoInfo(
                name=name,
                width=width,
                height=height,
                fps=self._stream.average_rate or None,
                frame_count=self._stream.frames or None,
                decoder="pyav",
            )
        )

    def _read(self) -> Generator[Frame | None, None, None]:
        try:
            with self._explaining():
                for decoded in select(self._number(), self._range, self._label):
                    if decoded is None:
                        yield None
                        continue
                    image = self._upright(decoded.picture)
                    index = decoded.index
                    yield Frame(image=image, index=index, time=decoded.time, name=f"{index:05d}")
        finally:
            self._release()

    def _number(self) -> Iterator[_Decoded]:
        """Give each picture its index and, where the file gave none, a time."""
        pictures = chain([self._first], self._pictures)
        self._first = None
        step = 1 / (self._stream.average_rate or DEFAULT_FPS)
        time = -step
        for index, picture in enumerate(pictures):
            exact = frame_time(picture)
            time = exact if exact is not None else time + step
            self._count = index + 1
            yield _Decoded(picture, index, time)

    def _upright(self, picture: Any) -> np.ndarray:
        self._check_size(picture.width, picture.height)
        return upright_rgb(picture)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            where = f"{self._label}: frame {self._count - 1}" if self._count else self._label
            message = too_large(width, height, self._max_pixels)
            raise VideoError(f"{where}: {message}", TOO_LARGE_HINT)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Add to an error of FFmpeg how much was read, and what to do."""
        try:
            yield
        except (FFmpegError, ValueError) as error:
            why = reason(error)
            if not self._stream.codec_context.width:
                # For frames over the limit, FFmpeg says "Invalid argument", as for much else.
                why += f", or frames of more than {self._max_pixels} pixels (max_pixels)"
            raise VideoError(self._broken_off(why)) from error

    def _broken_off(self, why: str) -> str:
        count = self._count
        what, advice = "damaged or cut off", "get a complete copy, or re-encode the part that plays"
        if self._live:
            what, advice = "the stream broke off", "check the sender, then start again"
        if count == 0:
            what = what if self._live else "encrypted, damaged or cut off"
            return f"{self._label}: {what} before the first frame ({why}); {advice}"
        frames = "1 frame was" if count == 1 else f"{count} frames were"
        return f"{self._label}: {what} after frame {count - 1} ({why}); {frames} read, {advice}"

    def _release(self) -> None:
        self._container.close()


def video_stream(container: Any, label: str) -> Any:
    """Return the stream FFmpeg would show; raise VideoError where there is none to decode."""
    stream = container.streams.best("video")
    if stream is None:
        raise VideoError(f"{label}: has no video stream; give a file with pictures in it")
    if stream.disposition & Disposition.attached_pic:
        raise VideoError(f"{label}: holds sound and a cover picture, no video; give a video file")
    if stream.codec_context is None:
        raise VideoError(f"{label}: its codec is unknown to FFmpeg; convert it to H.264 first")
    return stream


def decoded_frames(container: Any, stream: Any, *, tolerant: bool = False) -> Iterator[Any]:
    """Decode every frame of a stream, then check that the file was whole.

    Raises:
        FFmpegError: At the first packet that cannot be decoded, unless `tolerant`.
        CutOffError: After the last frame, where the header promises more: FFmpeg ends a file
            that was cut off without a word.
    """
    packets, end = 0, Fraction(0)
    for packet in container.demux(stream):
        if packet.size:
            packets += 1
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        try:
            yield from packet.decode()
        except InvalidDataError:
            if not tolerant:
                raise
    if stream.frames > packets:
        raise CutOffError(f"the file ends after {packets} of its {stream.frames} packets")
    promised = matroska_duration(stream.metadata)
    if promised is not None and promised - end > 1:
        raise CutOffError(f"the file ends at {float(end):.1f} s of {float(promised):.1f} s")


def upright_rgb(frame: Any) -> np.ndarray:
    """Convert a decoded frame to (H, W, 3) uint8 RGB with its display rotation applied.

    Only quarter turns are applied; any other angle, which is a damaged matrix, is ignored.
    """
    image = frame.to_ndarray(format="rgb24")
    if frame.rotation and frame.rotation % 90 == 0:
        image = np.rot90(image, frame.rotation // 90)
    return np.ascontiguousarray(image)


def frame_time(frame: Any) -> Fraction | None:
    """Return the exact presentation time in seconds, or None where the frame carries none."""
    return None if frame.pts is None else frame.pts * frame.time_base


def matroska_duration(metadata: dict[str, str]) -> Fraction | None:
    """Return the end time in seconds that Matroska's DURATION tag of a track states.

    >>> matroska_duration({"DURATION": "00:01:10.500000000"})
    Fraction(141, 2)
    """
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", metadata.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def reason(error: BaseException) -> str:
    """Return FFmpeg's own words for an error, without the number and the file name."""
    if isinstance(error, ExitError):  # FFmpeg's word for a time-out: "Immediate exit requested"
        return "nothing came in time"
    return getattr(error, "strerror", None) or str(error)
