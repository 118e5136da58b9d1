"""Reads frames from a folder of images."""

import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.pixel_limit import (
    MAX_PIXELS,
    TOO_LARGE_HINT,
    TooLargeError,
    open_image,
)
from propagate.io.decode.source import FrameStream, frames_read
from propagate.records import Frame, VideoInfo

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Images have no times. Frame i is placed at i / 25 s; `VideoInfo.fps` is None.
FOLDER_FPS = 25


@dataclass(frozen=True, slots=True)
class Listed:
    """An image of a folder, not yet read."""

    file: Path
    index: int

    @property
    def time(self) -> Fraction:
        """Seconds."""
        return Fraction(self.index, FOLDER_FPS)


class ImageFolder(FrameStream):
    """The images of a folder in natural order of their names (2 before 10), decoded by Pillow.

    Numbered names (00000, 00005, 00010) may have any constant step. The EXIF orientation is
    applied. Grey and palette images become RGB, transparency is dropped, and 16-bit grey keeps its
    high byte.

    Raises:
        VideoError: The folder has no image, a number is missing, or two images have one name.
            While reading: an image cannot be read, or has another size.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path] | None = None,
        *,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """List the folder, or take the given images in their order, and decode the first."""
        self._display_name = str(folder)
        self._files = image_files(folder) if files is None else list(files)
        self._range = frame_range or FrameRange()
        self._max_pixels = max_pixels
        first = load_image(self._files[0], 0, max_pixels)
        self.info = self._range.info(folder_info(folder, first, len(self._files)))

    def _read(self) -> Generator[Frame | None, None, None]:
        listed = (Listed(file, index) for index, file in enumerate(self._files))
        for wanted in select(listed, self._range, self._display_name):
            if wanted is None:
                yield None
            else:
                image = load_image(wanted.file, wanted.index, self._max_pixels)
                yield as_frame(image, wanted, self.info)


def folder_info(folder: Path, first: np.ndarray, count: int | None) -> VideoInfo:
    """Return what is known of a folder from its first image (H, W, 3) and the number of images."""
    height, width, _ = first.shape
    return VideoInfo(
        name=folder.resolve().name,
        width=width,
        height=height,
        fps=None,
        frame_count=count,
        decoder="images",
    )


def as_frame(image: np.ndarray, listed: Listed, info: VideoInfo) -> Frame:
    """Make a frame from an image (H, W, 3) of a folder.

    Raises:
        VideoError: The image has another size than the first one.
    """
    height, width, _ = image.shape
    if (width, height) != (info.width, info.height):
        raise VideoError(
            f"{listed.file}: is {width}x{height}, the frames before it are "
            f"{info.width}x{info.height}",
            "give every frame the same size",
        )
    return Frame(image=image, index=listed.index, time=listed.time, name=listed.file.stem)


def load_image(file: Path, index: int, max_pixels: int) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB, upright.

    Args:
        file: The image.
        index: How many frames were read before it, for the message.
        max_pixels: Largest number of pixels.

    Raises:
        VideoError: The file is too large, not an image, or damaged.
    """
    try:
        with open_image(file, max_pixels) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.array(upright.convert("RGB"))
    except TooLargeError as error:
        raise VideoError(f"{file}: {error}", TOO_LARGE_HINT) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError(
            f"{file}: cannot be read as an image ({error})",
            f"{frames_read(index)}; replace or remove the file",
        ) from error


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder in natural order, and check that none is missing.

    Raises:
        VideoError: There are no images, two images have one name, or a number is missing.
    """
    files = list_images(folder)
    if not files:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise VideoError(f"{folder}: has no images", f"put frames into it ({kinds})")
    _check_names(folder, files)
    return files


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order of their names.

    Raises:
        VideoError: The folder cannot be listed.
    """
    try:
        # File managers put thumbnails and other files of their own under names with a dot.
        files = [
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
        ]
    except OSError as error:
        raise VideoError(
            f"{folder}: cannot be listed ({error.strerror})", "check its permissions"
        ) from error
    return sorted(files, key=natural_key)


def natural_key(file: Path) -> tuple[list[str | int], str]:
    """Return a sort key: by name, with digits as numbers, ignoring case."""
    return text_and_numbers(file.name.casefold()), file.name


def text_and_numbers(name: str) -> list[str | int]:
    """Split a name for sorting. Text and numbers alternate, so like is compared with like."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _check_names(folder: Path, files: list[Path]) -> None:
    names = Counter(file.stem for file in files)
    stem, count = names.most_common(1)[0]
    if count > 1:
        raise VideoError(f"{folder}: {count} images are named {stem}", "keep one for each frame")
    matches = [re.fullmatch(r"(.*?)(\d+)", file.stem) for file in files]
    if not all(matches) or len({match[1] for match in matches if match}) > 1:
        return  # not one numbered sequence, so nothing can be missing
    numbers = [int(match[2]) for match in matches if match]
    steps = [after - before for before, after in pairwise(numbers)]
    step = min(steps, default=1)
    # If a step is no multiple of the smallest, the numbers are times or the like, not a sequence.
    if step == 0 or any(gap % step for gap in steps):
        return
    for i, gap in enumerate(steps):
        if gap != step:
            missing = f"{numbers[i] + step:0{len(matches[i][2])}d}"  # type: ignore[index]
            raise VideoError(
                f"{folder}: frame {missing} is missing between {files[i].name} and "
                f"{files[i + 1].name}",
                "add it, or renumber the frames without a gap",
            )
