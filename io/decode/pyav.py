"""Decodes frames with PyAV (FFmpeg), exactly, for every file that FFmpeg can read."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np
from av.error import ExitError, FFmpegError, InvalidDataError, ProtocolNotFoundError
from av.stream import Disposition

from propagate.errors import VideoError, hide_secrets
from propagate.io.decode.accounts import Accounts
from propagate.io.decode.frame_range import DEFAULT_FPS, FrameRange, select
from propagate.io.decode.options import OnDamage
from propagate.io.decode.pixel_limit import MAX_PIXELS, TOO_LARGE_HINT, too_large
from propagate.io.decode.rgb import RgbConverter
from propagate.io.decode.source import FrameStream, frames_read
from propagate.io.decode.structure import missing_bytes
from propagate.records import Frame, VideoInfo

# A local file may refer to others (playlists, external tracks). Only files on disk are followed, so
# opening a file never uses the network.
LOCAL_OPTIONS = {"protocol_whitelist": "file,crypto,data"}


class CutOffError(ValueError):
    """A file ends before its header says."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A frame before its conversion to RGB, which is never done for a frame that is skipped."""

    picture: Any
    index: int
    time: Fraction
    in_range: bool = True


class PyAVReader(FrameStream):
    """Decodes one file, stream or device with PyAV. Opening it decodes the first frame.

    Colours are converted by `RgbConverter`, and the images are turned upright. Alpha and the sample
    aspect ratio are ignored. A frame without a time is placed one frame duration after the one
    before it.

    Args:
        address: What FFmpeg opens: an absolute path, a URL or a device.
        display_name: Name of the source in messages.
        name: `VideoInfo.name`.
        tolerant: Skip packets that cannot be decoded. A live stream that is joined in the middle
            begins with such packets. Otherwise such a packet ends the reading with an error.
            Nothing is counted, and the clock is taken as it is.
        on_damage: "skip" skips them too, and counts what is lost. See `SourceOptions`.
        live: Speak of a sender instead of a file in messages.
        open_options: Keyword arguments for `av.open`.
        frame_range: The frames to read.
        max_pixels: Largest number of pixels in a frame.

    Raises:
        VideoError: It is not a video, has no video stream or no frame, or its pictures are too
            large. While reading, after the good frames: the rest is damaged or missing.
    """

    def __init__(
        self,
        address: str,
        *,
        display_name: str,
        name: str,
        tolerant: bool = False,
        on_damage: OnDamage = "stop",
        live: bool = False,
        open_options: dict[str, Any] | None = None,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Open the container and decode the first frame."""
        self._display_name = display_name
        self._live = live
        self._range = frame_range or FrameRange()
        self._max_pixels = max_pixels
        self._count = 0
        self._to_rgb = RgbConverter()
        given = {"metadata_errors": "replace", **(open_options or {})}
        # FFmpeg decodes frames to learn what the header does not say, so it needs the limit too.
        guard = {"max_pixels": str(max_pixels)}
        given["options"] = {**given.get("options", {}), **guard}
        try:
            self._container: Any = av.open(address, **given)
        except (FFmpegError, UnicodeError) as error:
            advice = "check that it plays, or convert it with ffmpeg"
            if isinstance(error, ProtocolNotFoundError):
                advice = "give an address such as rtsp://, http:// or udp://, or the path of a file"
            elif live:
                advice = "check the address, and that the sender is on"
            raise VideoError(
                f"{display_name}: cannot be opened as a video ({reason(error)})", advice
            ) from error
        try:
            self._stream = video_stream(self._container, display_name)
            codec = self._stream.codec_context
            self._check_size(codec.width, codec.height)
            codec.options = guard
            self._accounts: Accounts | None = None
            if not tolerant:
                self._accounts = accounts_of(
                    self._container, self._stream, display_name, on_damage=on_damage, live=live
                )
            self._pictures = decoded_frames(
                self._container, self._stream, tolerant=tolerant, accounts=self._accounts
            )
            with self._explaining():
                self._first = next(self._pictures, None)
                if self._first is None:
                    raise VideoError(
                        f"{display_name}: holds no frames", "check that it is a complete recording"
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
                for decoded in select(self._number(), self._range, self._display_name):
                    if decoded is None:
                        yield None
                        continue
                    image = self._upright(decoded.picture)
                    index = decoded.index
                    self._tell()
                    yield Frame(image, index, decoded.time, f"{index:05d}", decoded.in_range)
            self._tell()
        finally:
            self._release()

    def _number(self) -> Iterator[_Decoded]:
        """Give each picture its index, and a time if the file has none."""
        pictures = chain([self._first], self._pictures)
        self._first = None
        if self._accounts is not None:
            for picture in pictures:
                taken = self._accounts.take_frame(picture)
                if taken is not None:
                    self._count = taken[0] + 1
                    yield _Decoded(picture, *taken)
            return
        step = 1 / (self._stream.average_rate or DEFAULT_FPS)
        time = -step
        for index, picture in enumerate(pictures):
            exact = frame_time(picture)
            time = exact if exact is not None else time + step
            self._count = index + 1
            yield _Decoded(picture, index, time)

    def _tell(self) -> None:
        """Put what was found so far into `info`."""
        found = self._accounts
        if found is None:
            return
        if (found.damage, found.notes) != (self.info.damage, self.info.notes):
            self.info = replace(self.info, damage=found.damage, notes=found.notes)

    def _upright(self, picture: Any) -> np.ndarray:
        self._check_size(picture.width, picture.height)
        return self._to_rgb(picture)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            where = (
                f"{self._display_name}: frame {self._count - 1}"
                if self._count
                else self._display_name
            )
            message = too_large(width, height, self._max_pixels)
            raise VideoError(f"{where}: {message}", TOO_LARGE_HINT)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say in an error of FFmpeg how much was read, and what to do."""
        try:
            yield
        except (FFmpegError, ValueError) as error:
            message, hint = self._broken_off(reason(error))
            if not self._stream.codec_context.width:
                # FFmpeg reports frames over the limit as "Invalid argument", like much else.
                hint += f"; if frames of over {self._max_pixels} pixels are right, "
                hint += "raise {max_pixels}"
            raise VideoError(message, hint) from error

    def _broken_off(self, why: str) -> tuple[str, str]:
        """Return message and hint."""
        count = self._count
        what, advice = "damaged or cut off", "get a complete copy, or re-encode the part that plays"
        if self._live:
            what, advice = "the stream broke off", "check the sender, then start again"
        if count == 0:
            what = what if self._live else "encrypted, damaged or cut off"
            return f"{self._display_name}: {what} before the first frame ({why})", advice
        after = f"{self._display_name}: {what} after frame {count - 1} ({why})"
        return after, f"{frames_read(count)}; {advice}"

    def _release(self) -> None:
        self._container.close()


def video_stream(container: Any, display_name: str) -> Any:
    """Return the stream that FFmpeg would show; raise VideoError if there is none to decode."""
    stream = container.streams.best("video")
    if stream is None:
        raise VideoError(f"{display_name}: has no video stream", "give a file with pictures in it")
    if stream.disposition & Disposition.attached_pic:
        raise VideoError(
            f"{display_name}: holds sound and a cover picture, no video", "give a video file"
        )
    if stream.codec_context is None:
        raise VideoError(
            f"{display_name}: FFmpeg does not know its codec", "convert it to H.264 first"
        )
    return stream


def accounts_of(
    container: Any,
    stream: Any,
    display_name: str,
    *,
    on_damage: OnDamage = "stop",
    live: bool = False,
) -> Accounts:
    """Return the accounts of a stream before its first packet."""
    return Accounts(
        container,
        stream,
        display_name,
        skipping=on_damage == "skip",
        cut_off=not live and is_cut_off(container, stream),
        path=None if live else container.name,
    )


def decoded_frames(
    container: Any, stream: Any, *, tolerant: bool = False, accounts: Accounts | None = None
) -> Iterator[Any]:
    """Decode every frame of a stream, then check that the file is complete.

    Args:
        container, stream: Of PyAV.
        tolerant: Skip packets that cannot be decoded.
        accounts: Told of every packet. If it skips, damage ends nothing.

    Raises:
        FFmpegError: At the first packet that cannot be decoded, unless it is skipped. Frames that
            the decoder still held come before.
        CutOffError: After the last frame, if the header states more. FFmpeg says nothing when a
            file was cut off.
        DamagedError: After the last frame, if frames are lost there and `accounts` does not skip.
    """
    skipping = accounts is not None and accounts.skipping
    packets, hidden, end, why = 0, 0, Fraction(0), "the file ends"
    try:
        for packet in container.demux(stream):
            if packet.size:
                packets += 1
                hidden += packet.is_discard
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if accounts is not None:
                    accounts.take_packet(packet)
            elif accounts is not None and packet.pos is None:
                accounts.has_ended = True
            try:
                pictures = packet.decode()
            except FFmpegError as error:
                is_nonsense = not isinstance(error, ExitError | MemoryError)
                if accounts is not None and is_nonsense:
                    accounts.fail(packet, reason(error))
                if not (skipping and is_nonsense) and not (
                    tolerant and isinstance(error, InvalidDataError)
                ):
                    raise
                continue
            yield from pictures
    except FFmpegError as error:
        if isinstance(error, ExitError):
            raise
        if not skipping:
            yield from _held_back(stream)
            raise
        why = reason(error)
    promised = matroska_duration(stream.metadata)
    kind = container.format.name.split(",")[0]
    missing = missing_bytes(container.name, kind)
    if accounts is not None and promised is not None and not missing and promised > end:
        missing = int(accounts.is_broken_at_end(container.size))
    cut = _missing_end(stream, packets, end, promised, missing, kind == "avi")
    if accounts is not None and (skipping or cut is not None or accounts.is_damaged):
        count = stream.frames - hidden if cut and stream.frames else None
        ending = promised if skipping or cut is not None else None
        accounts.end(count, ending, why if skipping else cut or why)
    if cut is not None and not skipping:
        raise CutOffError(cut)


def _held_back(stream: Any) -> Iterator[Any]:
    """Take the frames out of a decoder that it holds back until it can tell their order."""
    last = av.Packet()
    last.stream, last.time_base = stream, stream.time_base
    try:
        yield from last.decode()
    except FFmpegError:
        return


def _missing_end(
    stream: Any,
    packets: int,
    end: Fraction,
    promised: Fraction | None,
    missing_bytes: int,
    is_avi: bool,
) -> str | None:
    """Say how much of a file is missing at its end, by what its header states.

    Args:
        stream: Of PyAV.
        packets: How many were read.
        end: When the last of them ends, in seconds.
        promised: When the last one should end, in seconds; None: not stated.
        missing_bytes: How many bytes are missing at the end, or cannot be read.
        is_avi: Whether it is an AVI.
    """
    count = stream.frames
    index = stream.index_entries
    if is_avi and len(index) and index[-1].timestamp + 1 >= count:
        count = min(count, len(index))  # empty packets, as for a pause, are counted but not listed
    if count > packets:
        return f"the file ends after {packets} of its {count} packets"
    if promised is None:
        return f"{missing_bytes} bytes are missing at the end" if missing_bytes else None
    # What follows the pictures of a file may be missing without harm.
    slack = Fraction(1, 1000) if missing_bytes else 1
    if promised - end > slack:
        return f"the file ends at {float(end):.1f} s of {float(promised):.1f} s"
    return None


def is_cut_off(container: Any, stream: Any) -> bool:
    """Say whether the index of a file names a packet past the end of the file."""
    entries = stream.index_entries
    size = container.size
    return bool(len(entries)) and size > 0 and entries[-1].pos + entries[-1].size > size


def frame_time(frame: Any) -> Fraction | None:
    """Return the exact presentation time in seconds, or None if the frame has none."""
    return None if frame.pts is None else frame.pts * frame.time_base


def matroska_duration(metadata: dict[str, str]) -> Fraction | None:
    """Return the end time in seconds from the DURATION tag of a Matroska track.

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
    if isinstance(error, ExitError):  # FFmpeg reports a time-out as "Immediate exit requested"
        return "nothing came in time"
    return hide_secrets(getattr(error, "strerror", None) or str(error))
