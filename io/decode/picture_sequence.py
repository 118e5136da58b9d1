"""Reads files of several pictures that FFmpeg does not read: multi-page TIFF and animated WebP."""

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.deep_picture import PictureReader, pages_of
from propagate.io.decode.frame_range import DEFAULT_FPS, FrameRange, select
from propagate.io.decode.image_folder import Listed, as_frame, folder_info
from propagate.io.decode.pixel_limit import MAX_PIXELS, TOO_LARGE_HINT, TooLargeError, open_image
from propagate.io.decode.source import FrameStream, frames_read
from propagate.records import Frame

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The flag of the extended header that says that a WebP is animated.
ANIMATED = 0x02


def is_picture_sequence(path: Path) -> bool:
    """Say whether a file is a TIFF of several pages or an animated WebP."""
    try:
        with path.open("rb") as file:
            head = file.read(21)
        if head[:4] in TIFF:
            with open_image(path) as image:
                places, fault = pages_of(image)
                return len(places) > 1 or fault is not None
    # A file that is damaged or too large: opening it as a video says so.
    except (OSError, ValueError, SyntaxError):
        return False
    is_webp = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_webp and len(head) > 20 and bool(head[20] & ANIMATED)


class PictureSequence(FrameStream):
    """The pages of a TIFF, or the frames of an animated WebP, decoded by Pillow.

    The times of a WebP come from the durations that it states; one that is 0 lasts 1/25 s, as every
    page of a TIFF does. Pages that hold another page in small are left out.

    Raises:
        VideoError: The file is damaged or too large. While reading: a picture cannot be read, or
            has another size than the first.
    """

    def __init__(
        self,
        path: Path,
        *,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Open the file and decode the first picture."""
        self._path = path
        self._range = frame_range or FrameRange()
        self._pictures = PictureReader(max_pixels)
        self._open_files = ExitStack()
        try:
            self._image: Image.Image = self._open_files.enter_context(open_image(path, max_pixels))
            places, self._fault = pages_of(self._image)
        except TooLargeError as error:
            raise VideoError(f"{path}: {error}", TOO_LARGE_HINT) from error
        except (OSError, ValueError, SyntaxError) as error:
            raise VideoError(
                f"{path}: cannot be read as an image ({error})", "get a complete copy"
            ) from error
        try:
            durations = _durations(path) if self._image.format == "WEBP" else []
            steps = [step or 1 / DEFAULT_FPS for step in durations]
            steps += [1 / DEFAULT_FPS] * (len(places) - len(steps))
            times = [Fraction(0), *accumulate(steps)]
            self._places = places
            self._pages = [
                Listed(path.with_name(f"{index:05d}"), index, times[index])
                for index in range(len(places))
            ]
            first = self._load(self._pages[0])
        except BaseException:
            self._open_files.close()
            raise
        count = len(places)
        info = replace(folder_info(path, first, count), name=path.stem)
        if durations:
            info = replace(info, fps=count / times[count])
        stretch = self._pictures.stretch
        notes = () if stretch is None else (f"{path}: {stretch.note}",)
        self.info = self._range.info(replace(info, notes=notes))

    def _read(self) -> Generator[Frame | None, None, None]:
        try:
            for page in select(self._pages, self._range, str(self._path)):
                yield None if page is None else as_frame(self._load(page), page, self.info)
            if self._fault is not None:
                raise self._broken(len(self._pages), self._fault)
        finally:
            self._release()

    def _load(self, page: Listed) -> np.ndarray:
        try:
            self._image.seek(self._places[page.index])
            return self._pictures.convert(self._image)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise self._broken(page.index, str(error)) from error

    def _broken(self, index: int, why: str) -> VideoError:
        return VideoError(
            f"{self._path}: picture {index} cannot be read ({why})",
            f"{frames_read(index)}; get a complete copy",
        )

    def _release(self) -> None:
        self._open_files.close()


def _durations(path: Path) -> list[Fraction]:
    """Return the durations that the parts of an animated WebP state, in seconds."""
    found: list[Fraction] = []
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            start = file.tell()
            if head[:4] == b"ANMF":
                found.append(Fraction(int.from_bytes(file.read(15)[12:], "little"), 1000))
            file.seek(start + size + size % 2)
    return found
