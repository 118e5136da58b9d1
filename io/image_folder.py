"""Frames from a folder of images."""

import re
from collections import Counter
from collections.abc import Generator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from propagate.errors import VideoError
from propagate.io.source import FrameStream
from propagate.records import Frame, VideoInfo

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# A folder has no clock. Frame i is placed at i / 25 s; `VideoInfo.fps` stays None.
FOLDER_FPS = 25


class ImageFolder(FrameStream):
    """The images of a folder in natural order of their names (2 before 10), decoded by Pillow.

    Names that count (00000, 00005, 00010) may have any constant step. EXIF orientation is
    applied; grey and palette images become RGB, transparency is dropped, of 16-bit grey the high
    byte is kept.

    Raises:
        VideoError: No image in the folder, a number missing in the count, two images for one
            frame; from the iteration, an image that cannot be read or has another size.
    """

    def __init__(self, folder: Path, files: Sequence[Path] | None = None) -> None:
        """List the folder, or take these of its images in their order; decode the first."""
        self._folder = folder
        self._files = image_files(folder) if files is None else list(files)
        first = self._load(0)
        height, width, _ = first.shape
        self.info = VideoInfo(
            name=folder.resolve().name,
            width=width,
            height=height,
            fps=None,
            frame_count=len(self._files),
            decoder="images",
        )

    def _read(self) -> Generator[Frame, None, None]:
        for index, file in enumerate(self._files):
            image = self._load(index)
            height, width, _ = image.shape
            if (width, height) != (self.info.width, self.info.height):
                raise VideoError(
                    f"{file}: is {width}x{height}, the frames before it are "
                    f"{self.info.width}x{self.info.height}; give every frame the same size"
                )
            yield Frame(image=image, index=index, time=Fraction(index, FOLDER_FPS), name=file.stem)

    def _load(self, index: int) -> np.ndarray:
        file = self._files[index]
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I;16"):
                    upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
                return np.array(upright.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(
                f"{file}: cannot be read as an image ({error}); {index} frames were read, "
                "replace or remove it"
            ) from error


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder in natural order, having checked that none is missing.

    Raises:
        VideoError: No images, two images of one name, or a hole in a numbered sequence.
    """
    try:
        # Names that begin with a dot are the file manager's own: thumbnails, ._ companions.
        files = [
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
        ]
    except OSError as error:
        raise VideoError(
            f"{folder}: cannot be listed ({error.strerror}); check its rights"
        ) from error
    if not files:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise VideoError(f"{folder}: a folder without images; put frames in it ({kinds})")
    files.sort(key=lambda file: _natural(file.name))
    _check_names(folder, files)
    return files


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort digits as numbers. Text and numbers alternate, so like always meets like."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _check_names(folder: Path, files: list[Path]) -> None:
    names = Counter(file.stem for file in files)
    stem, count = names.most_common(1)[0]
    if count > 1:
        raise VideoError(f"{folder}: {count} images are named {stem}; keep one for each frame")
    matches = [re.fullmatch(r"(.*?)(\d+)", file.stem) for file in files]
    if not all(matches) or len({match[1] for match in matches if match}) > 1:
        return  # not one numbered sequence: nothing can be said to be missing
    numbers = [int(match[2]) for match in matches if match]
    steps = [after - before for before, after in pairwise(numbers)]
    step = min(steps, default=1)
    # Steps that are not multiples of one another are times or other numbers, not a count.
    if step == 0 or any(gap % step for gap in steps):
        return
    for i, gap in enumerate(steps):
        if gap != step:
            missing = f"{numbers[i] + step:0{len(matches[i][2])}d}"  # type: ignore[index]
            raise VideoError(
                f"{folder}: frame {missing} is missing between {files[i].name} and "
                f"{files[i + 1].name}; add it, or renumber the frames without a gap"
            )
