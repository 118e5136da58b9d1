"""From picture files to mask files: the folder that `propagate segment` writes.

OUT/<name>.png             the mask of <name>.jpg: ids in DAVIS colours, of the picture's size
OUT/overlay/<name>.jpg     the picture with its mask drawn on it, with `overlay`

If two pictures of different folders have one name, the folders below their common parent are kept:
OUT/a/<name>.png and OUT/b/<name>.png.

OUT/result.json            settings and scores; written last, so a folder that has one is complete
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import OutputError, VideoError
from propagate.images.segment import Segmentation, Segmenter
from propagate.io.decode.image_folder import SUFFIXES
from propagate.io.decode.one_frame import read_picture
from propagate.io.decode.options import SourceOptions
from propagate.io.masks.display_colours import DisplayColours
from propagate.io.masks.png import mask_file, write_mask
from propagate.io.write.encode import encode_image
from propagate.io.write.files import (
    guard_output_folder,
    refuse_existing,
    remove_partial_files,
    write_atomically,
)
from propagate.io.write.layout import REPORT
from propagate.io.write.overlay import draw_overlay, object_labels

OVERLAYS = "overlay"
JPEG_QUALITY = 92


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """List pictures: files as given, the files of folders by name.

    Args:
        paths: Image files, and folders of them without their subfolders.

    Raises:
        VideoError: There is no such path, or no image in a folder.
        OutputError: Two in one folder have the same name, so their masks would have it too.
    """
    pictures: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise VideoError(f"{path}: no such picture: check the path")
            pictures.append(path)
            continue
        inside = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
        if not inside:
            kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise VideoError(f"{path}: a folder without pictures; put some in it ({kinds})")
        pictures += inside
    names = output_names(pictures)
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        same = [picture for picture, of in zip(pictures, names, strict=True) if of == name]
        raise OutputError(
            f"{same[0]} and {same[1]}: both masks would be {name}.png",
            "rename one, or segment them one by one into different folders ({out})",
        )
    return pictures


def output_names(pictures: Sequence[Path]) -> list[str]:
    """Name the results of pictures, without a suffix: "x", or "a/x" and "b/x".

    Args:
        pictures: Image files. If their own names differ, those are the names; if not, all results
            keep the folders that their pictures have below the common parent of all.
    """
    names = [picture.stem for picture in pictures]
    if len({name.casefold() for name in names}) == len(names):
        return names
    places = [Path(os.path.abspath(picture)).parent for picture in pictures]
    common = os.path.commonpath(places)
    return [
        (place.relative_to(common) / name).as_posix()
        for place, name in zip(places, names, strict=True)
    ]


def check_free(out: Path, names: Sequence[str], overlay: bool) -> None:
    """Refuse a folder that holds a file which would be replaced.

    Raises:
        OutputError: It does.
    """
    files = [out / REPORT, *(mask_file(out, name) for name in names)]
    if overlay:
        files += [out / OVERLAYS / f"{name}.jpg" for name in names]
    refuse_existing(files)


def segment_files(
    segmenter: Segmenter,
    pictures: Sequence[Path],
    out: Path,
    settings: Mapping[str, Any],
    options: SourceOptions | None = None,
    *,
    overlay: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[VideoError]:
    """Write the mask of each picture, then the report. Existing files are replaced.

    A picture that cannot be read is left out, and so is a file of several pictures.

    Args:
        segmenter: Knows the instances.
        pictures: As `find_pictures` gives them.
        out: The folder; made if there is none.
        settings: Model and pictures, for the report; it also saves the segmenter's settings.
        options: How pictures are opened.
        overlay: Whether to write the pictures with their masks drawn on them too.
        progress: Called after each picture with how many are done, and how many there are.

    Returns:
        What could not be read.

    Raises:
        OutputError: A file cannot be written.
    """
    names = output_names(pictures)
    _prepare(out, names, overlay)
    found: dict[str, dict[str, Any]] = {}
    colours = DisplayColours()
    failures: list[VideoError] = []
    for done, (picture, name) in enumerate(zip(pictures, names, strict=True), start=1):
        try:
            image = read_picture(picture, options).image
        except VideoError as error:
            failures.append(error)
        else:
            result = segmenter.segment(image)
            write_mask(mask_file(out, name), result.mask)
            if overlay:
                known = colours.add(image, result.mask)
                labels = object_labels(result.scores, {})
                drawn = draw_overlay(image, result.mask, colours=known, labels=labels)
                jpeg = encode_image(drawn, "JPEG", quality=JPEG_QUALITY)
                write_atomically(out / OVERLAYS / f"{name}.jpg", jpeg)
            found[name] = {"picture": str(picture), "objects": _objects(result)}
        if progress is not None:
            progress(done, len(pictures))
    errors = [" ".join(str(failure).split()) for failure in failures]
    report = {
        **settings,
        **segmenter.settings,
        "complete": not failures,
        "errors": errors,
        "pictures": found,
    }
    write_atomically(out / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return failures


def without_objects(out: Path) -> int:
    """Count the pictures in which no object was found, by the report of `segment_files`."""
    pictures = json.loads((out / REPORT).read_text())["pictures"].values()
    return sum(not any(o["present"] for o in one["objects"].values()) for one in pictures)


def _prepare(out: Path, names: Sequence[str], overlay: bool) -> None:
    with guard_output_folder(out):
        for folder in {(out / name).parent for name in ("all", *names)}:
            folder.mkdir(parents=True, exist_ok=True)
            if overlay:
                (out / OVERLAYS / folder.relative_to(out)).mkdir(parents=True, exist_ok=True)
            remove_partial_files(folder)
        # The report of an earlier run would not be true of the new masks.
        (out / REPORT).unlink(missing_ok=True)


def _objects(result: Segmentation) -> dict[str, dict[str, float | int | bool]]:
    pixels = np.bincount(result.mask.ravel(), minlength=256)
    return {
        str(i): {"score": score, "present": result.present[i], "pixels": int(pixels[i])}
        for i, score in result.scores.items()
    }
