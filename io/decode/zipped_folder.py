"""Reads frames from a ZIP archive of images, as from a folder. Nothing is unpacked to disk."""

import zipfile
import zlib
from collections.abc import Generator
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np

from propagate.errors import VideoError
from propagate.io.decode.deep_picture import PictureReader
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.image_folder import (
    SUFFIXES,
    as_frame,
    check_names,
    folder_info,
    listed_at,
    natural_key,
    notes_on,
)
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.source import FrameStream
from propagate.records import Frame

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# What zipfile raises for archives that are damaged, encrypted, or packed in an unknown way.
FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError)
# No format of images takes more for a pixel, and a header more than this.
BYTES_PER_PIXEL = 8
HEADER_BYTES = 2**20


def is_archive(path: Path) -> bool:
    """Say whether a file begins as a ZIP archive does."""
    try:
        with path.open("rb") as file:
            return file.read(4) in MAGIC
    except OSError:
        return False  # opening it as a video says why


class ZippedFolder(FrameStream):
    """The images of a ZIP archive in natural order of their names.

    They may lie in one folder inside the archive. Hidden files and `__MACOSX` are left out.

    Raises:
        VideoError: The archive is damaged or encrypted, has no image or several folders of them, or
            a number is missing. While reading: an image cannot be read, or has another size.
    """

    def __init__(
        self,
        path: Path,
        *,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
        allow_gaps: bool = False,
    ) -> None:
        """List the archive, and decode the first image."""
        self._path = path
        self._range = frame_range or FrameRange()
        self._max_pixels = max_pixels
        self._allow_gaps = allow_gaps
        self._pictures = PictureReader(max_pixels)
        try:
            self._archive = zipfile.ZipFile(path)
        except FAULTS as error:
            raise self._unreadable(error) from error
        try:
            self._members = self._list()
            first = self._load(0)
        except BaseException:
            self._archive.close()
            raise
        notes = notes_on(str(path), [Path(name) for name in self.names], self._pictures)
        info = folder_info(path, first, len(self._members))
        info = replace(info, name=path.stem, notes=notes)
        self.info = self._range.info(info)

    @property
    def names(self) -> list[str]:
        """The names of the images, in order."""
        return [PurePosixPath(member.filename).stem for member in self._members]

    def _read(self) -> Generator[Frame | None, None, None]:
        try:
            listed = (listed_at(self._shown(i), i) for i in range(len(self._members)))
            for wanted in select(listed, self._range, str(self._path)):
                if wanted is None:
                    yield None
                else:
                    yield as_frame(self._load(wanted.index), wanted, self.info)
        finally:
            self._release()

    def _release(self) -> None:
        self._archive.close()

    def _list(self) -> list[zipfile.ZipInfo]:
        """Return the images in natural order."""
        found: list[tuple[PurePosixPath, zipfile.ZipInfo]] = []
        for member in self._archive.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/"))
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
            if not member.is_dir() and not hidden and name.suffix.lower() in SUFFIXES:
                found.append((name, member))
        if not found:
            kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise VideoError(
                f"{self._path}: the archive has no images", f"put frames into it ({kinds})"
            )
        folders = sorted({str(name.parent) for name, _ in found})
        if len(folders) > 1:
            raise VideoError(
                f"{self._path}: the archive has images in several folders ({folders[0]}, "
                f"{folders[1]})",
                "make an archive for each video",
            )
        found.sort(key=lambda pair: natural_key(Path(pair[0].name)))
        check_names(self._path, [Path(name.name) for name, _ in found], self._allow_gaps)
        return [member for _, member in found]

    def _load(self, index: int) -> np.ndarray:
        member = self._members[index]
        most = BYTES_PER_PIXEL * self._max_pixels + HEADER_BYTES
        try:
            with self._archive.open(member) as file:
                data = file.read(most + 1)
        except FAULTS as error:
            raise self._unreadable(error, member.filename) from error
        if len(data) > most:
            raise VideoError(
                f"{self._shown(index)}: takes more than {most / 2**20:.0f} MiB",
                "if that is right, raise {max_pixels}",
            )
        return self._pictures.read(self._shown(index), index, BytesIO(data))

    def _shown(self, index: int) -> Path:
        """Return the path of an image as messages show it: inside the archive."""
        return self._path / self._members[index].filename

    def _unreadable(self, error: BaseException, name: str = "") -> VideoError:
        place = f"{self._path / name}" if name else f"{self._path}"
        if "encrypted" in str(error) or "password" in str(error):
            return VideoError(f"{place}: is encrypted", "unpack it into a folder first")
        why = " ".join(str(error).split()) or type(error).__name__
        return VideoError(f"{place}: cannot be unpacked ({why})", "get another copy")
