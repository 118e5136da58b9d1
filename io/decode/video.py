"""Opens every source of frames: video files, folders of images, cameras and streams.

decord decodes the files that it decodes exactly, and PyAV decodes all others. Both give the same
pixels and times, because decord's frames are checked before they are used. The docstring of
`propagate.io.decode.decord` says which files it is not used for. Above all, a clip that needs more
memory than `read_ahead_bytes` when decoded goes to PyAV, which holds a few frames at any length.
"""

import dataclasses
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

from propagate.errors import VideoError
from propagate.io.decode.deadline import WatchedSource
from propagate.io.decode.decord import DecordUnfitError, decode_whole
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.growing_folder import GrowingFolder
from propagate.io.decode.image_folder import ImageFolder, folder_name, list_images
from propagate.io.decode.isolated import IsolatedSource
from propagate.io.decode.live import LIVE_DEADLINE_S, LiveSource, live_display_name, live_name
from propagate.io.decode.options import Decoder, OnDamage, SourceOptions
from propagate.io.decode.picture_sequence import PictureSequence, is_picture_sequence
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.pyav import LOCAL_OPTIONS, PyAVReader
from propagate.io.decode.source import FrameSource, FrameStream, Source
from propagate.io.decode.zipped_folder import ZippedFolder, is_archive
from propagate.records import Frame

__all__ = ["FrameSource", "open_source", "open_video"]

# Enough for decord to decode 32 frames at 1080p, or 163 frames at 854x480. The process grew by at
# most 1.8 times this when measured, under 400 MB. With PyAV, 2,000 frames at 1080p took 40 MB.
READ_AHEAD_BYTES = 192 * 2**20
# For users who ask for decord by name. A small machine has this much.
READ_AHEAD_BYTES_DECORD = 2 * 2**30
# The longest time without progress in a file or folder.
DEADLINE_S = 120.0


def open_video(
    source: Source,
    *,
    decoder: Decoder = "auto",
    frame_range: FrameRange | None = None,
    isolate: bool = False,
    max_pixels: int = MAX_PIXELS,
    follow_timeout_s: float | None = None,
    reconnect_s: float = 0.0,
    allow_gaps: bool = False,
    on_damage: OnDamage = "stop",
    read_ahead_bytes: int | None = None,
    deadline_s: float = DEADLINE_S,
    live_deadline_s: float = LIVE_DEADLINE_S,
) -> FrameSource:
    """Open a video and return its frames in presentation order, to be read once.

    Use it in a `with` block or as a plain iterator; it closes itself after the last frame.

    Args:
        source: The path of a video file (an animated picture or a TIFF of several pages is one
            too), of a folder of images or of a ZIP archive of them, the
            index of a camera (2 or "2"), or the address of a stream ("rtsp://...", "http://...",
            "udp://...").
        decoder, frame_range, isolate, max_pixels, follow_timeout_s, reconnect_s, allow_gaps,
            on_damage: See `SourceOptions`.
        read_ahead_bytes: Most memory for frames that are decoded ahead, in bytes. None: 192 MiB,
            or 2 GiB with `decoder="decord"`.
        deadline_s: Longest time without progress in a file or folder, in seconds.
        live_deadline_s: Longest silence of a camera or stream, in seconds.

    Returns:
        A `FrameSource`. Images are (H, W, 3) uint8 RGB; rotation is applied, the sample aspect
        ratio is not. Times are those of the file: they need not start at zero, and may go back. The
        times of a live source never go back (see `LiveSource`), nor do those of a transport stream,
        where time goes on if the clock jumps (`info.notes` says where). If the frame size changes
        in the middle of a file, the frames keep their sizes.

    Raises:
        VideoError: There is no such file; it is not a video, has no video stream or no frames; a
            folder has no images or a gap; pictures are too large. While reading, after all good
            frames: the file is damaged, the sender is silent, or the decoder crashed or is stuck.
        ValueError: The decoder is unknown, or a limit is not positive.
    """
    options = SourceOptions(
        decoder,
        frame_range,
        isolate,
        max_pixels,
        follow_timeout_s,
        reconnect_s,
        allow_gaps,
        on_damage,
    )
    return open_source(
        source,
        options,
        read_ahead_bytes=read_ahead_bytes,
        deadline_s=deadline_s,
        live_deadline_s=live_deadline_s,
    )


def open_source(
    source: Source,
    options: SourceOptions,
    *,
    read_ahead_bytes: int | None = None,
    deadline_s: float = DEADLINE_S,
    live_deadline_s: float = LIVE_DEADLINE_S,
) -> FrameSource:
    """Open a video like `open_video`, with the options in one record."""
    limit = READ_AHEAD_BYTES_DECORD if options.decoder == "decord" else READ_AHEAD_BYTES
    if read_ahead_bytes is not None:
        limit = read_ahead_bytes
    given = {
        "read_ahead_bytes": limit,
        "deadline_s": deadline_s,
        "live_deadline_s": live_deadline_s,
    }
    for name, value in given.items():
        if not value > 0:
            raise ValueError(f"{name} must be more than 0, not {value}")
    address = _live_address(source)
    name = str(source) if address is None else live_display_name(address)
    if not options.isolate:
        opened = open_here(source, options, read_ahead_bytes=limit, live_deadline_s=live_deadline_s)
        return opened if address is not None else WatchedSource(opened, name, deadline_s)
    # The child sends nothing while it waits for the first image of a folder, or for a sender.
    patience_s = 2 * (options.follow_timeout_s or 0.0)
    if address is not None:
        patience_s = 2 * live_deadline_s + options.reconnect_s
    return IsolatedSource(
        source if isinstance(source, int) else os.fspath(source),
        options,
        {"read_ahead_bytes": limit, "live_deadline_s": live_deadline_s},
        display_name=name,
        deadline_s=deadline_s + patience_s,
    )


def open_here(
    source: Source,
    options: SourceOptions,
    *,
    read_ahead_bytes: int,
    live_deadline_s: float,
) -> FrameStream:
    """Open a source like `open_source`, in this process and thread.

    Raises:
        VideoError: As `open_source`.
    """
    address = _live_address(source)
    if address is not None:
        if options.decoder == "decord":
            name = live_display_name(address)
            raise VideoError(f"{name}: decord reads files only", "pass {decoder=pyav}")
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
        limits["allow_gaps"] = options.allow_gaps
        if options.follow_timeout_s is not None:
            return GrowingFolder(path, timeout_s=options.follow_timeout_s, **limits)
        return ImageFolder(path, **limits)
    if not os.path.exists(path):
        raise VideoError(f"{path}: no such file or folder", "check the path")
    if not path.is_file():
        raise VideoError(f"{path}: neither a file nor a folder", "save the video to a file first")
    if options.follow_timeout_s is not None:
        raise VideoError(
            f"{path}: is a file, and only a folder of images can be followed while it grows",
            "leave out {follow_timeout_s}",
        )
    if is_archive(path):
        return ZippedFolder(path, allow_gaps=options.allow_gaps, **limits)
    if options.decoder != "decord" and is_picture_sequence(path):
        return PictureSequence(path, **limits)
    return VideoFile(path, options.decoder, read_ahead_bytes, on_damage=options.on_damage, **limits)


class VideoFile(FrameStream):
    """A video file, decoded by decord or PyAV. `info` comes from PyAV with either.

    With the decoder "auto", `info.decoder` is final once the first frame is read.
    """

    def __init__(
        self,
        path: Path,
        decoder: Decoder,
        bytes_limit: int,
        *,
        frame_range: FrameRange | None,
        max_pixels: int,
        on_damage: OnDamage = "stop",
    ) -> None:
        """Open the file; which decoder reads it is decided at the first frame."""
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty", "get a complete copy")
        self._path = path
        self._decoder = decoder
        self._bytes_limit = bytes_limit
        self._range = frame_range or FrameRange()
        # An absolute path: FFmpeg would take "a:b.mp4" for an address and "-x.mp4" for an option.
        self._pyav = PyAVReader(
            str(path.resolve()),
            display_name=str(path),
            name=path.stem,
            open_options={"options": LOCAL_OPTIONS},
            frame_range=frame_range,
            max_pixels=max_pixels,
            on_damage=on_damage,
        )
        self._on_damage = on_damage
        self.info = self._pyav.info

    def _read(self) -> Generator[Frame | None, None, None]:
        # decord does not say which frames it made up.
        if self._decoder == "decord" or (self._decoder == "auto" and self._on_damage == "stop"):
            try:
                images = decode_whole(self._path.resolve(), self._bytes_limit)
            except DecordUnfitError as error:
                if self._decoder == "decord":
                    raise VideoError(
                        f"{self._path}: decord does not decode this file exactly: {error}",
                        "pass {decoder=pyav}",
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
        for frame in self._pyav.with_signs():
            self.info = self._pyav.info
            yield frame
        self.info = self._pyav.info

    def _release(self) -> None:
        self._pyav.close()


def name_of(source: Source) -> str:
    """Return the name that the results of a source get: the `info.name` of the open source."""
    address = _live_address(source)
    if address is not None:
        return live_name(address)
    path = Path(str(source))
    # Path.is_dir would raise if a parent folder may not be entered, which opening reports better.
    return folder_name(path) if os.path.isdir(path) else path.stem


def frame_names(source: Source) -> list[str] | None:
    """Return the names of the images of a folder or an archive; None for other sources.

    Raises:
        VideoError: The folder or archive cannot be listed.
    """
    if _live_address(source) is not None:
        return None
    path = Path(str(source))
    if os.path.isdir(path):
        return [file.stem for file in list_images(path)]
    if not is_archive(path):
        return None
    with ZippedFolder(path, allow_gaps=True) as archive:
        return archive.names


def is_live(source: Source) -> bool:
    """Say whether a source is a camera or a stream, which cannot be read twice."""
    return _live_address(source) is not None


def _live_address(source: Source) -> str | int | None:
    """Return the camera index or the address of a stream; None if `source` is a path."""
    if isinstance(source, int):
        if source < 0:
            raise ValueError(f"camera index must be 0 or more, not {source}")
        return source
    if not isinstance(source, str):
        return None
    # A file or folder named "2" goes before camera 2.
    if re.fullmatch(r"\d{1,3}", source) and not os.path.exists(source):
        return int(source)
    return source if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", source) else None
