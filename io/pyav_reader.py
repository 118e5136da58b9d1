"""Frames through PyAV (FFmpeg): the decoder that is right for every file FFmpeg can read."""

import re
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import ExitError, FFmpegError, InvalidDataError
from av.stream import Disposition

from propagate.errors import VideoError
from propagate.io.source import FrameStream
from propagate.records import Frame, VideoInfo

# A frame without a time follows the one before it by this much, where the file gives no rate.
DEFAULT_FPS = Fraction(25)

# A local file may name others (playlists, external tracks): those are read from disk only, so
# that opening somebody's file never reaches for the network.
LOCAL_OPTIONS = {"protocol_whitelist": "file,crypto,data"}


class CutOffError(ValueError):
    """A file ends before its header says."""


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

    Raises:
        VideoError: Not a video, no video stream, or no frame in it; from the iteration, after
            the good frames, when the rest is damaged or missing.
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
    ) -> None:
        """Open the container and decode the first frame."""
        self._label = label
        self._tolerant = tolerant
        self._live = live
        try:
            self._container: Any = av.open(
                address, metadata_errors="replace", **(open_options or {})
            )
        except (FFmpegError, UnicodeError) as error:
            advice = "check that it plays, or convert it with ffmpeg"
            if live:
                advice = "check the address, and that the sender is on"
            raise VideoError(
                f"{label}: cannot be opened as a video ({reason(error)}); {advice}"
            ) from error
        try:
            self._stream = video_stream(self._container, label)
            self._images = self._decode()
            self._first = next(self._images, None)
        except BaseException:
            self._container.close()
            raise
        if self._first is None:
            self._container.close()
            raise VideoError(f"{label}: holds no frames; check that it is a complete recording")
        height, width, _ = self._first[0].shape
        self.info = VideoInfo(
            name=name,
            width=width,
            height=height,
            fps=self._stream.average_rate or None,
            frame_count=self._stream.frames or None,
            decoder="pyav",
        )

    def _read(self) -> Generator[Frame, None, None]:
        try:
            yield from self._number(self._images)
        finally:
            self._release()

    def _number(self, images: Iterator[tuple[np.ndarray, Fraction | None]]) -> Iterator[Frame]:
        """Give each image its index and, where the file gave none, a time."""
        step = 1 / (self.info.fps or DEFAULT_FPS)
        first, self._first = self._first, None
        assert first is not None, "one pass only"
        time = first[1] if first[1] is not None else Fraction(0)
        yield Frame(image=first[0], index=0, time=time, name=f"{0:05d}")
        del first
        for index, (image, exact) in enumerate(images, start=1):
            time = exact if exact is not None else time + step
            yield Frame(image=image, index=index, time=time, name=f"{index:05d}")

    def _decode(self) -> Iterator[tuple[np.ndarray, Fraction | None]]:
        """Yield upright images and their exact times, then say why if that was not all."""
        count = 0
        try:
            for frame in decoded_frames(self._container, self._stream, tolerant=self._tolerant):
                yield upright_rgb(frame), frame_time(frame)
                count += 1
        except (FFmpegError, ValueError) as error:
            raise VideoError(self._broken_off(count, reason(error))) from error

    def _broken_off(self, count: int, why: str) -> str:
        """Say what was wrong, how much was read, and what to do."""
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
