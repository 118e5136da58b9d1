"""Reads frames from a folder of images."""

import os
import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from propagate.errors import VideoError, counted, few
from propagate.io.decode.deep_picture import PictureReader
from propagate.io.decode.frame_range import FrameRange, select
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.source import FrameStream
from propagate.records import Frame, VideoInfo

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Images have no times. Frame i is placed at i / 25 s; `VideoInfo.fps` is None.
FOLDER_FPS = 25


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture that is to be a frame, not yet read.

    Attributes:
        file: Its file, for messages; the stem is the name of the frame.
        index: Of the frame.
        time: In seconds.
        in_range: As that of a `Frame`.
    """

    file: Path
    index: int
    time: Fraction
    in_range: bool = True


def listed_at(file: Path, index: int) -> Listed:
    """Return an image of a folder, which has no time of its own."""
    return Listed(file, index, Fraction(index, FOLDER_FPS))


class ImageFolder(FrameStream):
    """The images of a folder in natural order of their names (2 before 10), decoded by Pillow.

    Numbered names (00000, 00005, 00010) may have any constant step. `PictureReader` says how
    images become RGB.

    Raises:
        VideoError: The folder has no image, a number is missing, two images have one name, or a
            name is of another kind than the others.
            While reading: an image cannot be read, or has another size.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path] | None = None,
        *,
        frame_range: FrameRange | None = None,
        max_pixels: int = MAX_PIXELS,
        allow_gaps: bool = False,
    ) -> None:
        """List the folder, or take the given images in their order, and decode the first."""
        self._display_name = str(folder)
        self._files = image_files(folder, allow_gaps=allow_gaps) if files is None else list(files)
        self._range = frame_range or FrameRange()
        self._pictures = PictureReader(max_pixels)
        first = self._pictures.read(self._files[0], 0)
        info = folder_info(folder, first, len(self._files))
        notes = notes_on(self._display_name, self._files, self._pictures)
        self.info = self._range.info(replace(info, notes=notes))

    def _read(self) -> Generator[Frame | None, None, None]:
        listed = (listed_at(file, index) for index, file in enumerate(self._files))
        for wanted in select(listed, self._range, self._display_name):
            if wanted is None:
                yield None
            else:
                image = self._pictures.read(wanted.file, wanted.index)
                yield as_frame(image, wanted, self.info)


def folder_name(folder: Path) -> str:
    """Return the name of a folder: "." and ".." have one too, and a link keeps its own."""
    return Path(os.path.abspath(folder)).name


def folder_info(folder: Path, first: np.ndarray, count: int | None) -> VideoInfo:
    """Return what is known of a folder from its first image (H, W, 3) and the number of images."""
    height, width, _ = first.shape
    return VideoInfo(
        name=folder_name(folder),
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
    return Frame(image, listed.index, listed.time, listed.file.stem, listed.in_range)


def image_files(folder: Path, *, allow_gaps: bool = False) -> list[Path]:
    """List the images of a folder in natural order, and check that none is missing.

    Args:
        folder: The folder.
        allow_gaps: Whether numbers may be missing.

    Raises:
        VideoError: There are no images, two images have one name, a name is of another kind than
            the others, or a number is missing.
    """
    files = list_images(folder)
    if not files:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise VideoError(f"{folder}: has no images", f"put frames into it ({kinds})")
    check_names(folder, files, allow_gaps)
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


def notes_on(name: str, files: list[Path], pictures: PictureReader) -> tuple[str, ...]:
    """Say what a person should know of the images of a source: gaps, and grey that is stretched."""
    notes = [] if pictures.stretch is None else [f"{name}: {pictures.stretch.note}"]
    if gaps := missing_numbers(files):
        more = "" if len(gaps) == 1 else f" and at {counted(len(gaps) - 1, 'more place')}"
        notes.append(f"{name}: numbers are missing: {gaps[0][1]}{more}")
    return tuple(notes)


def check_names(folder: Path, files: list[Path], allow_gaps: bool) -> None:
    """Refuse two images of one name or number, names of several kinds, and missing numbers.

    Args:
        folder: Where they lie, for messages.
        files: The images in natural order.
        allow_gaps: Whether numbers may be missing.

    Raises:
        VideoError: There is one of these.
    """
    names = Counter(file.stem for file in files)
    stem, count = names.most_common(1)[0]
    if count > 1:
        raise VideoError(f"{folder}: {count} images are named {stem}", "keep one for each frame")
    _check_kinds(folder, files)
    for before, after in pairwise(files):
        if _spelled_alike(before.stem, after.stem):
            raise VideoError(
                f"{folder}: {before.name} and {after.name} have one number", "keep one of them"
            )
    if allow_gaps:
        return
    if gaps := missing_numbers(files):
        before, missing, after = gaps[0]
        raise VideoError(
            f"{folder}: frame {missing} is missing between {before.name} and {after.name}",
            "add it, or pass {allow_gaps=True} to read the frames that are there",
        )


def _spelled_alike(one: str, other: str) -> bool:
    """Say whether two names differ in leading zeros only."""
    same = text_and_numbers(one.casefold()) == text_and_numbers(other.casefold())
    return same and one.casefold() != other.casefold()


def _check_kinds(folder: Path, files: list[Path]) -> None:
    """Refuse odd names among numbered ones: they are hardly frames."""
    kinds = Counter(re.sub(r"\d+", "#", file.stem.casefold()) for file in files)
    kind, count = kinds.most_common(1)[0]
    others = [file for file in files if re.sub(r"\d+", "#", file.stem.casefold()) != kind]
    if "#" not in kind or count < 2 or not others:
        return  # names without numbers, in natural order; or one kind of name
    like = next(file for file in files if file not in others)
    listed = few([file.name for file in others])
    raise VideoError(
        f"{folder}: {counted(len(others), 'image')} ({listed}) "
        f"among {count} that are named like {like.name}",
        "move what is no frame of this clip out of the folder",
    )


def missing_numbers(files: list[Path]) -> list[tuple[Path, str, Path]]:
    """Find the gaps in a numbered sequence of files.

    Returns:
        The file before each gap, the first missing name, and the file after it. None if names are
        no sequence with one step.
    """
    matches = [re.fullmatch(r"(.*?)(\d+)", file.stem) for file in files]
    if not all(matches) or len({match[1] for match in matches if match}) > 1:
        return []
    numbers = [(int(match[2]), len(match[2])) for match in matches if match]
    steps = [after - before for (before, _), (after, _) in pairwise(numbers)]
    step = min(steps, default=1)
    # If a step is no multiple of the smallest, the numbers are times or the like, not a sequence.
    if step == 0 or any(gap % step for gap in steps):
        return []
    return [
        (files[i], f"{numbers[i][0] + step:0{numbers[i][1]}d}", files[i + 1])
        for i, gap in enumerate(steps)
        if gap != step
    ]
