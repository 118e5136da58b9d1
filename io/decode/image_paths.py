"""Frames that are given by the paths of their images are taken as the folder that holds them."""

import os
import re
from collections.abc import Sequence
from fnmatch import translate
from pathlib import Path

from propagate.errors import VideoError, counted
from propagate.io.decode.image_folder import SUFFIXES, list_images

# As in frames/%05d.jpg.
NUMBER = re.compile(r"%0?\d*d")


def as_folders(sources: Sequence[str]) -> list[str]:
    """Replace the images of a folder by the folder.

    Args:
        sources: What a person gave: paths and addresses. A pattern (`frames/%05d.jpg`, or
            `frames/*.jpg` that no shell has replaced) stands for a folder; so do two or more images
            of one folder, which is what a shell makes of the second.

    Returns:
        The sources in order; each folder once.

    Raises:
        VideoError: Only some of the images of a folder were given, or no file fits a pattern.
    """
    images = [source for source in sources if _is_image(source)]
    found: list[str] = []
    for source in sources:
        folder = None
        if _is_pattern(source):
            folder = _folder_of_pattern(source)
        elif len(images) > 1 and source in images:
            folder = os.path.dirname(source) or "."
        if folder is None or folder not in found:
            found.append(folder or source)
    if len(images) > 1:
        folders = {image: os.path.dirname(image) or "." for image in images}
        for folder in set(folders.values()):
            _check_all(folder, {Path(image).name for image in images if folders[image] == folder})
    return found


def _is_image(source: str) -> bool:
    return Path(source).suffix.lower() in SUFFIXES and os.path.isfile(source)


def _is_pattern(source: str) -> bool:
    """Say whether a text is a pattern of image names, and not the name of something that exists."""
    path = Path(source)
    has_mark = bool(NUMBER.search(path.name)) or any(mark in path.name for mark in "*?")
    return (
        has_mark
        and path.suffix.lower() in SUFFIXES
        and "://" not in source
        and not os.path.lexists(source)
    )


def _folder_of_pattern(pattern: str) -> str:
    path = Path(pattern)
    folder = os.path.dirname(pattern) or "."
    if not os.path.isdir(folder):
        raise VideoError(f"{pattern}: there is no folder {folder}", "check the path")
    marks = NUMBER.search(path.name)
    if marks is None:
        wanted = re.compile(translate(path.name))
    else:
        before, after = path.name[: marks.start()], path.name[marks.end() :]
        wanted = re.compile(rf"{re.escape(before)}\d+{re.escape(after)}\Z")
    names = {file.name for file in list_images(Path(folder)) if wanted.match(file.name)}
    if not names:
        raise VideoError(f"{pattern}: no image in {folder} fits it", f"give the folder {folder}")
    _check_all(folder, names)
    return folder


def _check_all(folder: str, names: set[str]) -> None:
    """Refuse some images of a folder: their numbers would not be those of the folder."""
    others = [file.name for file in list_images(Path(folder)) if file.name not in names]
    if others:
        raise VideoError(
            f"{folder}: {counted(len(names), 'image')} of it given, and {others[0]} is not",
            f"give the folder {folder}, or put the images that are frames into a folder of their "
            "own",
        )
