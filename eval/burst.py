"""Read and write BURST's JSON of masks in videos, the format of annotations and predictions.

    {"split": "val", "categories": [{"id": 793, "name": "person", ...}, ...], "sequences": [
      {"id": 1, "dataset": "YFCC100M", "seq_name": "v_25685519", "width": 640, "height": 480,
       "fps": 30, "all_image_paths": [...], "annotated_image_paths": ["frame0391.jpg", ...],
       "neg_category_ids": [...], "not_exhaustive_category_ids": [...],
       "track_category_ids": {"1": 793, ...},
       "segmentations": [{"1": {"rle": "...", "is_gt": true, "score": 1.0}, ...}, ...]}, ...]}

`segmentations` has a dict for each annotated image; a track that is not in it has no pixel there.
`rle` holds COCO's compressed run lengths without their size, which is that of the sequence. The
additional `bbox` and `point` of `first_frame_annotations.json` are ignored.

Each mask is checked against the size of its sequence when the file is read.

Source: Ali2500/BURST-benchmark:ANNOTATION_FORMAT.md and burstapi/dataset.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from propagate.errors import EvaluationError
from propagate.io.masks.rle import run_lengths
from propagate.io.write.files import write_atomically

_FORMAT_HELP = "give a BURST annotation file, such as val/all_classes.json"


@dataclass(frozen=True, slots=True)
class BurstMask:
    """The mask of a track in a frame.

    Attributes:
        counts: COCO's compressed run lengths, column by column.
        is_gt: Whether a person drew it rather than a program; None if the file does not say.
        score: Confidence of a program's mask; None if the file does not say.
    """

    counts: str
    is_gt: bool | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BurstSequence:
    """A video with its tracks.

    Attributes:
        id: Number of the sequence in its file.
        dataset: The data set that the video comes from: "YFCC100M", "HACS", ...
        name: Name of the video in that data set.
        height: Pixels.
        width: Pixels.
        fps: Frames per second of `all_images`, as in the file.
        all_images: File names of all frames, in the order of the file.
        annotated_images: File names of the T annotated frames, ordered by frame number.
        categories: Track -> id of its category.
        masks: For each annotated frame, track -> mask.
        absent_category_ids: Categories that are known to be absent from the video.
        not_exhaustive_category_ids: Categories with instances that have no track.
    """

    id: int
    dataset: str
    name: str
    height: int
    width: int
    fps: float
    all_images: tuple[str, ...]
    annotated_images: tuple[str, ...]
    categories: Mapping[int, int]
    masks: tuple[Mapping[int, BurstMask], ...]
    absent_category_ids: tuple[int, ...] = ()
    not_exhaustive_category_ids: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return (
            f"BurstSequence({self.dataset}/{self.name}, {self.width}x{self.height}, "
            f"{len(self.masks)} annotated frames, {len(self.categories)} tracks)"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Burst:
    """The content of one BURST file.

    Attributes:
        split: "train", "val" or "test".
        categories: As in the file: dicts with at least "id" and "name".
        sequences: In the order of the file.
    """

    split: str
    categories: tuple[Mapping[str, Any], ...]
    sequences: tuple[BurstSequence, ...]

    @property
    def category_names(self) -> dict[int, str]:
        """Name of each category by its id."""
        return {category["id"]: category["name"] for category in self.categories}


def read_burst(path: str | Path) -> Burst:
    """Read a BURST file and check every mask of it.

    Args:
        path: The JSON file.

    Returns:
        Its content, with the frames of each sequence ordered by their numbers.

    Raises:
        EvaluationError: If there is no such file, it is not BURST's JSON, or a mask does not fit
            its frame. The message names the file, sequence, frame and track.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: no readable JSON ({error})", _FORMAT_HELP) from error
    try:
        return _parse(content)
    except _FormatError as error:
        raise EvaluationError(f"{path}: {error}", _FORMAT_HELP) from error


def write_burst(path: str | Path, burst: Burst) -> None:
    """Write a BURST file atomically.

    Predictions should leave a track out of the frames in which it has no pixel: BURST's own scorer
    counts an empty mask as wrong.

    Args:
        path: The JSON file, in a folder that exists. An old file is replaced.
        burst: What to write.

    Raises:
        OutputError: If it cannot be written there.
    """
    content = {
        "sequences": [_sequence_to_json(sequence) for sequence in burst.sequences],
        "categories": [dict(category) for category in burst.categories],
        "split": burst.split,
    }
    write_atomically(path, json.dumps(content).encode())


def frame_number(image: str) -> int:
    """Read the frame number from a file name of BURST's sources.

    The number follows the last `_` and the word `frame`: 391 in `frame0391.jpg`, 315978 in
    `ring_front_center_315978.jpg`.

    Args:
        image: File name of a frame.

    Returns:
        The number, by which frames are ordered.

    Raises:
        ValueError: If there is no number.
    """
    digits = PurePosixPath(image).stem.rpartition("_")[2].replace("frame", "")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"no frame number in the name {image!r}")
    return int(digits)


# --- JSON ----------------------------------------------------------------------------------------


class _FormatError(Exception):
    """The message says what is wrong, and in which sequence, frame and track."""


def _parse(content: Any) -> Burst:
    split = _get(content, "split", str, "")
    categories = _get(content, "categories", list, "")
    for index, category in enumerate(categories):
        _get(category, "id", int, f"category {index}, ")
        _get(category, "name", str, f"category {index}, ")
    known = {category["id"] for category in categories}
    sequences = []
    for index, raw in enumerate(_get(content, "sequences", list, "")):
        name = _get(raw, "seq_name", str, f"sequence {index}, ")
        sequences.append(_parse_sequence(raw, f"sequence {name!r}, ", known))
    return Burst(split=split, categories=tuple(categories), sequences=tuple(sequences))


def _parse_sequence(raw: Any, where: str, known_categories: set[int]) -> BurstSequence:
    height, width = (_get(raw, key, int, where) for key in ("height", "width"))
    if height < 1 or width < 1:
        raise _FormatError(f"{where}width and height are {width} and {height}")
    categories = _by_track(_get(raw, "track_category_ids", dict, where), where)
    for track, category in categories.items():
        if category not in known_categories:
            raise _FormatError(f"{where}track {track} is of category {category}, not in the file")
    images = _get(raw, "annotated_image_paths", list, where)
    segmentations = _get(raw, "segmentations", list, where)
    if len(images) != len(segmentations):
        raise _FormatError(
            f"{where}{len(images)} annotated images, but segmentations of {len(segmentations)}"
        )
    frames = sorted(
        (
            (_checked_number(image, where), image, masks)
            for image, masks in zip(images, segmentations, strict=True)
        ),
        key=lambda frame: frame[0],
    )
    for (number, before, _), (next_number, image, _) in pairwise(frames):
        if number == next_number:
            raise _FormatError(f"{where}{before!r} and {image!r} have the same frame number")
    return BurstSequence(
        id=_get(raw, "id", int, where),
        dataset=_get(raw, "dataset", str, where),
        name=raw["seq_name"],
        height=height,
        width=width,
        fps=_get(raw, "fps", (int, float), where),
        all_images=tuple(_get(raw, "all_image_paths", list, where)),
        annotated_images=tuple(image for _, image, _ in frames),
        categories=categories,
        masks=tuple(
            _parse_frame(masks, f"{where}frame {image!r}, ", categories, height, width)
            for _, image, masks in frames
        ),
        absent_category_ids=tuple(_get(raw, "neg_category_ids", list, where)),
        not_exhaustive_category_ids=tuple(_get(raw, "not_exhaustive_category_ids", list, where)),
    )


def _parse_frame(
    raw: Any, where: str, categories: Mapping[int, int], height: int, width: int
) -> dict[int, BurstMask]:
    if not isinstance(raw, dict):
        raise _FormatError(f"{where}a {type(raw).__name__} where masks by track should be")
    masks = {}
    for track, entry in _by_track(raw, where).items():
        here = f"{where}track {track}, "
        if track not in categories:
            raise _FormatError(f"{here}which is not in track_category_ids")
        counts = _get(entry, "rle", str, here)
        try:
            run_lengths(counts, height, width)
        except ValueError as error:
            raise _FormatError(f"{here}{error}") from error
        masks[track] = BurstMask(counts, entry.get("is_gt"), entry.get("score"))
    return masks


def _get(raw: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(raw, dict) or key not in raw:
        raise _FormatError(f"{where}no {key!r}")
    value = raw[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _FormatError(f"{where}{key!r} is a {type(value).__name__}")
    return value


def _by_track(raw: Mapping[str, Any], where: str) -> dict[int, Any]:
    try:
        return {int(track): raw[track] for track in sorted(raw, key=int)}
    except ValueError as error:
        raise _FormatError(f"{where}a track that is not a number ({error})") from error


def _checked_number(image: Any, where: str) -> int:
    try:
        return frame_number(image)
    except (TypeError, ValueError) as error:
        raise _FormatError(f"{where}{error}") from error


def _sequence_to_json(sequence: BurstSequence) -> dict[str, Any]:
    return {
        "id": sequence.id,
        "dataset": sequence.dataset,
        "seq_name": sequence.name,
        "width": sequence.width,
        "height": sequence.height,
        "fps": sequence.fps,
        "all_image_paths": list(sequence.all_images),
        "annotated_image_paths": list(sequence.annotated_images),
        "neg_category_ids": list(sequence.absent_category_ids),
        "not_exhaustive_category_ids": list(sequence.not_exhaustive_category_ids),
        "track_category_ids": {str(track): c for track, c in sequence.categories.items()},
        "segmentations": [
            {str(track): _mask_to_json(mask) for track, mask in masks.items()}
            for masks in sequence.masks
        ],
    }


def _mask_to_json(mask: BurstMask) -> dict[str, Any]:
    entry: dict[str, Any] = {"rle": mask.counts}
    if mask.is_gt is not None:
        entry["is_gt"] = mask.is_gt
    if mask.score is not None:
        entry["score"] = mask.score
    return entry
