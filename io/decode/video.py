"""The door to every source of frames: video files, folders of images, cameras and streams.

Frames of a file are decoded by decord where it is exact and by PyAV everywhere else; both give
the same pixels and times, because decord's are checked before they are used. What decord is
refused for stands at the top of `propagate.io.decode.decord`; above all, a clip that takes more
memory decoded than `read_ahead_bytes` goes to PyAV, which holds a few frames at any length.
"""

import dataclasses
import os
import re
from collections.abc import Generator
from os import PathLike
from pathlib import Path
from typing import Any

from propagate.errors import VideoError
from propagate.io.decode.deadline import WatchedSource
from propagate.io.decode.decord import DecordUnfitError, decode_whole
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.growing_folder import GrowingFolder
from propagate.io.decode.image_folder import ImageFolder
from propagate.io.decode.isolated import IsolatedSource
from propagate.io.decode.live import LIVE_DEADLINE_S, LiveSource, label, live_name
from propagate.io.decode.options import Decoder, SourceOptions
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.pyav import LOCAL_OPTIONS, PyAVReader
from propagate.io.decode.source import FrameSource, FrameStream
from propagate.records import Frame

__all__ = ["FrameSource", "open_source", "open_video"]

# With decord: a 1080p clip of 32 frames, an 854x480 clip of 163. Measured, the process grows by up
# to 1.8 times this, under 400 MB; with PyAV 2,000 frames of a 1080p hour added 40 MB.
READ_AHEAD_BYTES = 192 * 2**20
# Who asks for decord by name accepts its appetite, within what a small machine has.
READ_AHEAD_BYTES_DECORD = 2 * 2**30
# No file or folder takes longer for one frame, nor for saying that there is none.
DEADLINE_S = 120.0


def open_video(
    source: str | PathLike[str] | int,
    *,
    decoder: Decoder = "auto",
    frame_range: FrameRange | None = None,
    isolate: bool = False,
    max_pixels: int = MAX_PIXELS,
    follow_timeout_s: float | None = None,
    reconnect_s: float = 0.0,
    read_ahead_bytes: int | None = None,
    deadline_s: float = DEADLINE_S,
    live_deadline_s: float = LIVE_DEADLINE_S,
) -> FrameSource:
    """Open a video and return its frames, in presentation order, one pass.

    Use it in a `with` block, or as a plain iterator: it closes itself after the last frame.

    Args:
        source: Path of a video file or of a folder of images, the index of a camera (2, "2"),
            or the address of a stream ("rtsp://...", "http://...", "udp://...").
        decoder, frame_range, isolate, max_pixels, follow_timeout_s, reconnect_s: See
            `SourceOptions`.
        read_ahead_bytes: Most memory that frames decoded ahead may take. None: 192 MiB, and
            2 GiB with `decoder="decord"`.
        deadline_s: Longest time without progress in a file or folder, in seconds.
        live_deadline_s: Longest silence of a camera or stream, in seconds.

    Returns:
        A `FrameSource`: images are (H, W, 3) uint8 RGB, rotation applied, sample aspect ignored;
        times are exact and as in the file, not counted from zero, even where they go back; those of
        a live source never do (see `LiveSource`). Frames whose size changes in the middle of a file
        are given as they are.

    Raises:
        VideoError: No such file, not a video, no video stream, no frames, a folder without
            images or with a gap, pictures too large; while reading, after all good frames, damage,
            silence, or a decoder that crashed or makes no progress.
        ValueError: An unknown decoder, or a limit that is not positive.
    """
    options = SourceOptions(
        decoder, frame_range, isolate, max_pixels, follow_timeout_s, reconnect_s
    )
    return open_source(
        source,
        options,
        read_ahead_bytes=read_ahead_bytes,
        deadline_s=deadline_s,
        live_deadline_s=live_deadline_s,
    )


def open_source(
    source: str | PathLike[str] | int,
    options: SourceOptions,
    *,
    read_ahead_bytes: int | None = None,
    deadline_s: float = DEADLINE_S,
    live_deadline_s: float = LIVE_DEADLINE_S,
) -> FrameSource:
    """Do what `open_video` does, for whom options were handed on to."""
    limit = READ_AHEAD_BYTES_DECORD if options.decoder == "decord" else READ_AHEAD_BYTES
    if read_ahead_bytes is not None:
        limit = read_ahead_bytes
    given = {
        "read_ahead_bytes": limit,
        "deadline_s": deadline_s,
        "live_deadline_s": live_deadline_s,
    }
    if wrong := [name for name, value in given.items() if not value > 0]:
        raise ValueError(f"{', '.join(wrong)}: more than 0")
    address = _live_address(source)
    name = str(source) if address is None else label(address)
    if not options.isolate:
        opened = open_here(source, options, read_ahead_bytes=limit, live_deadline_s=live_deadline_s)
        return opened if address is not None else WatchedSource(opened, name, deadline_s)
    # For the first image of a folder, and for a sender, the child waits without a word.
    patience_s = 2 * (options.follow_timeout_s or 0.0)
    if address is not None:
        patience_s = 2 * live_deadline_s + options.reconnect_s
    return IsolatedSource(
        source if isinstance(source, int) else os.fspath(source),
        options,
        {"read_ahead_bytes": limit, "live_deadline_s": live_deadline_s},
        label=name,
        deadline_s=deadline_s + patience_s,
    )


def open_here(
    source: str | PathLike[str] | int,
    options: SourceOptions,
    *,
    read_ahead_bytes: int,
    live_deadline_s: float,
) -> FrameStream:
    """Do what `open_source` does, in this process and thread.

    Raises:
        VideoError: See there.
    """
    address = _live_address(source)
    if address is not None:
        if options.decoder == "decord":
            raise VideoError(f"{source}: decord reads files only; use the decoder pyav")
        return LiveSource(
            address,
            bytes_limit=read_ahead_bytes,
            deadline_s=live_deadline_s,
            reconnect_s=options.reconnect_s,
            frame_range=options.frame_range,
            max_pixels=options.max_pixels,
        )
    path = Path(str(source) if isinstance(source, int) else source)
    limits: dict[str, Any] = {
        "frame_range": options.frame_range,
        "max_pixels": options.max_pixels,
    }
    if os.path.isdir(path):
        if options.follow_timeout_s is not None:
            return GrowingFolder(path, timeout_s=options.follow_timeout_s, **limits)
        return ImageFolder(path, **limits)
    if not os.path.exists(path):
        raise VideoError(f"{path}: no such file or folder; check the path")
    if not path.is_file():
        raise VideoError(f"{path}: neither a file nor a folder; save the video to a file first")
    if options.follow_timeout_s is not None:
        raise VideoError(f"{path}: a file; only a folder of images can be followed as it grows")
    return VideoFile(path, options.decoder, read_ahead_bytes, **limits)


class VideoFile(FrameStream):
    """A video file, through decord or PyAV. `info` is PyAV's, whichever decodes the frames.

    Under "auto", `info.decoder` is settled when the first frame has been read.
    """

    def __init__(
        self,
        path: Path,
        decoder: Decoder,
        bytes_limit: int,
        *,
        frame_range: FrameRange | None,
        max_pixels: int,
    ) -> None:
        """Open the file; which decoder reads it is decided at the first frame."""
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty; get a complete copy")
        self._path = path
        self._decoder = decoder
        self._bytes_limit = bytes_limit
        self._range = frame_range or FrameRange()
        # Absolute, so that FFmpeg takes "a:b.mp4" for a file and "-x.mp4" for a name.
        self._pyav = PyAVReader(
            str(path.resolve()),
            label=str(path),
            name=path.stem,
            open_options={"options": LOCAL_OPTIONS},
            frame_range=frame_range,
            max_pixels=max_pixels,
        )
        self.info = self._pyav.info

    def _read(self) -> Generator[Frame | None, None, None]:
        if self._decoder != "pyav":
            try:
                images = decode_whole(self._path.resolve(), self._bytes_limit)
            except DecordUnfitError as error:
                if self._decoder == "decord":
                    raise VideoError(
                        f"{self._path}: decord cannot decode it right: {error}; "
                        "use the decoder pyav"
                    ) from error
            else:
                self._pyav.close()
                self.info = dataclasses.replace(self.info, decoder="decord")
                frames = (
                    Frame(image=image, index=index, time=time, name=f"{index:05d}")
                    for index, (image, time) in enumerate(images)
                )
                yield from select(frames, self._range, str(self._path))
                return
        yield from self._pyav.with_signs()

    def _release(self) -> None:
        self._pyav.close()


def name_of(source: str | PathLike[str] | int) -> str:
    """Return the name of a source's results, which `info.name` is when it is open."""
    address = _live_address(source)
    if address is not None:
        return live_name(address)
    path = Path(str(source))
    # Path.is_dir raises where a folder above may not be entered; opening the source says it better.
    return path.resolve().name if os.path.isdir(path) else path.stem


def is_live(source: str | PathLike[str] | int) -> bool:
    """Whether a source is a camera or a stream, which cannot be read twice."""
    return _live_address(source) is not None


def _live_address(source: str | PathLike[str] | int) -> str | int | None:
    """Return the camera index or stream address that `source` is, or None for a path."""
    if isinstance(source, int):
        if source < 0:
            raise ValueError(f"camera index: 0 or more, not {source}")
        return source
    if not isinstance(source, str):
        return None
    # A file or folder of that name is meant before a camera is.
    if re.fullmatch(r"\d{1,3}", source) and not os.path.exists(source):
        return int(source)
    return source if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", source) else None
