"""Reads images from a folder while another program is still writing it.

The folder is listed again and again. `watchfiles` is not used: network folders send no
notifications, so the folder would have to be listed anyway.
"""

import os
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from propagate.errors import VideoError
from propagate.io.decode.deep_picture import PictureReader
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.image_folder import (
    Listed,
    as_frame,
    folder_info,
    list_images,
    listed_at,
    natural_key,
    notes_on,
)
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.source import FrameStream
from propagate.records import Frame

# A file of this name means that no more images will come.
END_MARKER = "END"
POLL_S = 0.25


class GrowingFolder(FrameStream):
    """The images of a folder in natural order of their names, read as they are written.

    Reading ends when no image has come for `timeout_s`, or when the folder holds a file named `END`
    and all images are read. An image is read once its size and date have not changed for a quarter
    of a second, or once there is a later image. If it cannot be decoded yet, or if a number is
    missing before it, reading waits for up to `timeout_s`. With `allow_gaps` it does not wait for
    missing numbers.

    Raises:
        VideoError: No image came. While reading: an image still cannot be read after the wait, a
            missing number did not come, or an image came whose name is before one that was read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        timeout_s: float,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
        allow_gaps: bool = False,
    ) -> None:
        """Wait for the first image, and decode it."""
        self._allow_gaps = allow_gaps
        self._folder = folder
        self._timeout_s = timeout_s
        self._range = frame_range or FrameRange()
        self._pictures = PictureReader(max_pixels)
        self._arrived = self._arrivals()
        self._first = next((listed for listed in self._arrived if listed is not None), None)
        if self._first is None:
            raise VideoError(
                f"{folder}: no image came for {timeout_s:g} s",
                "start its writer, or wait longer with {follow_timeout_s}",
            )
        decoded = self._decode(self._first)
        first = next(image for image in decoded if image is not None)
        info = folder_info(folder, first, count=None)
        notes = notes_on(str(folder), [self._first.file], self._pictures)
        self.info = self._range.info(replace(info, notes=notes))

    def _read(self) -> Generator[Frame | None, None, None]:
        listed = chain([self._first], self._arrived)
        for wanted in select(listed, self._range, str(self._folder)):
            if wanted is None:
                yield None
                continue
            for image in self._decode(wanted):
                yield None if image is None else as_frame(image, wanted, self.info)

    def _decode(self, listed: Listed) -> Iterator[np.ndarray | None]:
        """Yield None until the image can be decoded, then the image."""
        started = time.monotonic()
        while True:
            try:
                yield self._pictures.read(listed.file, listed.index)
                return
            except VideoError:
                if self._ended() or time.monotonic() - started > self._timeout_s:
                    raise
            yield None
            time.sleep(POLL_S)

    def _arrivals(self) -> Iterator[Listed | None]:
        """Yield the images as they come, and None while waiting, until no more will come."""
        order = _Order(self._folder)
        unsure: tuple[Path, int, int] | None = None  # the last file, its size and its date
        quiet_s = time.monotonic()
        while True:
            # Check this before listing: images written before the marker are then in the list.
            ended = self._ended() or time.monotonic() - quiet_s > self._timeout_s
            files = order.new(list_images(self._folder))
            before, unsure = unsure, _look(files[-1]) if files else None
            if files and (unsure is None or (unsure != before and not ended)):
                files.pop()  # it may be half written, or was just renamed
            for file in files:
                if not self._allow_gaps and order.is_missing_before(file):
                    if ended:
                        raise order.missing_error(file)
                    break
                listed = listed_at(file, order.taken)
                order.take(file)
                yield listed
                quiet_s = time.monotonic()
            if ended:
                return
            yield None
            time.sleep(POLL_S)

    def _ended(self) -> bool:
        return (self._folder / END_MARKER).exists()


def _look(file: Path) -> tuple[Path, int, int] | None:
    try:
        stat = os.stat(file)
    except FileNotFoundError:
        return None
    return file, stat.st_size, stat.st_mtime_ns


class _Order:
    """The order of the images: which ones were read, and whether one is missing in between.

    Names form a numbered sequence if they end in digits after the same text. The first two names
    give its step. If a later name differs by anything but a multiple of the step, the names are
    not a sequence.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: Path | None = None
        self._step: int | None = None
        self._is_sequence = True
        self.taken = 0

    def new(self, files: list[Path]) -> list[Path]:
        """Return those of all files, in order, that were not read yet."""
        if self._last is None:
            return files
        key = natural_key(self._last)
        later = [file for file in files if natural_key(file) > key]
        if len(files) - len(later) > self.taken:
            raise VideoError(
                f"{self._folder}: an image came whose name is before {self._last.name}, which was "
                "already read",
                "write images in the order of their names",
            )
        return later

    def take(self, file: Path) -> None:
        if self._last is not None and self._last.stem == file.stem:
            raise VideoError(
                f"{self._folder}: 2 images are named {file.stem}", "keep one for each frame"
            )
        gap = self._gap(file)
        if self._last is not None and self._is_sequence:
            self._step = self._step or gap
            self._is_sequence = bool(gap) and gap % (self._step or 1) == 0
        self._last = file
        self.taken += 1

    def is_missing_before(self, file: Path) -> bool:
        gap = self._gap(file)
        if not self._is_sequence or self._step is None or gap is None:
            return False
        return gap != self._step and gap % self._step == 0

    def missing_error(self, file: Path) -> VideoError:
        assert self._last is not None
        return VideoError(
            f"{self._folder}: the image between {self._last.name} and {file.name} did not come",
            "add it, or number the frames without a gap",
        )

    def _gap(self, file: Path) -> int | None:
        """Return how far this number is from the last one; None if the names have no numbers."""
        if self._last is None:
            return None
        parts = [re.fullmatch(r"(.*?)([0-9]+)", path.stem) for path in (self._last, file)]
        if parts[0] is None or parts[1] is None or parts[0][1] != parts[1][1]:
            return None
        return int(parts[1][2]) - int(parts[0][2])
