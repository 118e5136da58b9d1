"""The DAVIS-2017 semi-supervised protocol: which frames and objects count, and how they average.

davis2017-evaluation (commit ac7c43f) is the definition: wherever it gives a number, ours is the
same to the last bit, except for the decay beyond 255 scored frames (see `metrics.statistics`) and a
sequence without any object. Where it stops, crashes or guesses, there is one `EvaluationError`.

Two things it cannot read are scored: truth on a part of the frames (Long Videos, YouTube-VOS), by
the annotated frames alone, and black-and-white truth (DAVIS-2016), as one object.

One frame of truth and one of prediction are in memory at a time, whatever the length of the video.
"""

import json
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.metrics import Statistics, score_frame, statistics
from propagate.records import BACKGROUND_ID, VOID_ID

_PROBLEMS_LISTED = 3
_FRAMES_SKIPPED_PER_SEQUENCE = 2
_RULES = {
    "benchmark": "DAVIS-2017 semi-supervised",
    "frames_skipped": "the first and last annotated frame of each sequence, by file name, "
    "and frames without a truth mask",
    "object_rule": "objects 1..n of a sequence, n the largest id in its first annotated frame; "
    "an id missing there is an object all the same; larger ids that appear later are not scored",
    "empty_rule": "J = 1 if truth and prediction are both empty; "
    "F = 1 if neither has a boundary, 0 if only one has",
    "void_rule": "255 is background in the truth and an error in a prediction; a sequence whose "
    "first annotated frame holds only 0 and 255 is one object, id 1, its non-zero pixels",
    "decay_rule": "mean of the first quarter of the frames minus mean of the last; true at any "
    "length (davis2017-evaluation overflows from 256 scored frames on)",
    "average_rule": "over frames for an object, then over all objects of all sequences alike",
}


@dataclass(frozen=True, slots=True, eq=False)
class DavisScores:
    """Scores with the protocol behind them; the names of the columns are the official ones.

    Attributes:
        protocol: The rules, the counts of sequences, objects and scored frames, and the sequences
            or objects (`bear_1`) to which a special rule applied.
        global_: J&F-Mean, and Mean, Recall and Decay of J and F, over all objects.
        per_sequence: The same columns over the objects of a sequence, by its name.
        per_object: Mean, Recall and Decay of J and F of an object, by sequence and id: `bear_1`.
        per_frame: By sequence, "J" and "F" as one list per object of one score per scored frame.
        frames: By sequence, the names of the scored frames.
    """

    protocol: Mapping[str, Any]
    global_: Mapping[str, float]
    per_sequence: Mapping[str, Mapping[str, float]]
    per_object: Mapping[str, Mapping[str, float]]
    per_frame: Mapping[str, Mapping[str, list[list[float]]]]
    frames: Mapping[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain dicts, lists and numbers, ready for JSON."""
        return {
            "protocol": self.protocol,
            "global": self.global_,
            "per_sequence": self.per_sequence,
            "per_object": self.per_object,
            "per_frame": self.per_frame,
            "frames": self.frames,
        }

    def to_json(self) -> str:
        """Give everything as JSON text; the numbers are complete, nothing is rounded."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def __repr__(self) -> str:
        """Give the headline; the whole would fill many screens."""
        counts = ", ".join(f"{k}={self.protocol[k]}" for k in ("sequences", "objects", "frames"))
        return f"DavisScores(J&F-Mean={self.global_['J&F-Mean']:.4f}, {counts})"


def evaluate_davis(
    root: str | Path,
    predictions: str | Path,
    *,
    split: str | None = "val",
    resolution: str = "480p",
    jobs: int = 1,
) -> DavisScores:
    """Score predicted masks by the DAVIS-2017 semi-supervised protocol.

    Masks are PNGs of mode P, L, 1, LA or I;16 whose values are object ids. Files that are no PNGs
    are ignored. Nothing is written, and nothing of an earlier evaluation is read.

    Args:
        root: A DAVIS folder (truth in `Annotations/<resolution>/<sequence>/*.png`), or any folder
            of `<sequence>/*.png`.
        predictions: Folder of `<sequence>/<frame>.png`, or of runs of this program,
            `<sequence>/masks/<frame>.png`. A prediction is needed for every scored frame.
        split: The list of sequences `ImageSets/2017/<split>.txt`. None, or a root without
            `ImageSets`, stands for every folder of truth.
        resolution: Name of the folder under `Annotations`.
        jobs: Processes, each with a sequence at a time. More than one starts fresh interpreters,
            so a script that asks for it needs the `if __name__ == "__main__":` guard.

    Returns:
        Scores per frame, object and sequence, and over all.

    Raises:
        EvaluationError: If truth and predictions do not fit together; it names the files.
        ValueError: If `jobs` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs: 1 or more processes, not {jobs}")
    sequences, source = _find_sequences(Path(root), Path(predictions), split, resolution)
    return _collect(_accept(_score_all(sequences, jobs)), source)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Something that keeps a mask from being scored.

    Attributes:
        path: The file or folder.
        found: What is the matter with it.
        remedy: What to do about it.
    """

    path: Path
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The files of one sequence.

    Attributes:
        name: Name of its folder.
        first_truth: The reference frame: tells the objects, is not scored.
        pairs: Truth and prediction of each scored frame, in order.
    """

    name: str
    first_truth: Path
    pairs: tuple[tuple[Path, Path], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _SequenceScores:
    """The scores of one sequence, and which special rules applied to it.

    Attributes:
        name: Of the sequence.
        frames: Names of the scored frames.
        region: (K, T) float64, J of each object and frame.
        boundary: (K, T) float64, F of each object and frame.
        absent_ids: Scored ids that the first annotated frame does not show.
        late_ids: Ids of the scored truth frames that are not scored.
        binary: The truth is black and white.
        void: A scored truth frame has void pixels.
    """

    name: str
    frames: tuple[str, ...]
    region: np.ndarray
    boundary: np.ndarray
    absent_ids: tuple[int, ...]
    late_ids: tuple[int, ...]
    binary: bool
    void: bool


_Result = TypeVar("_Result", _Sequence, _SequenceScores)


class _UnusableMaskError(Exception):
    """Carries a problem from where one file is read to where all problems are gathered."""

    def __init__(self, problem: _Problem) -> None:
        super().__init__(problem)
        self.problem = problem


# --- which files ---------------------------------------------------------------------------------


def _find_sequences(
    root: Path, predictions: Path, split: str | None, resolution: str
) -> tuple[list[_Sequence], str]:
    """Pair the files of truth and prediction; also say where the list of sequences is from."""
    for folder, what in ((root, "ground truth"), (predictions, "predictions")):
        if not folder.is_dir():
            raise EvaluationError(f"{folder}: no such folder of {what}: check the path")
    names, truth, source = _list_sequences(root, split, resolution)
    found = (_pair_frames(name, truth / name, predictions / name) for name in names)
    return _accept(found), source


def _list_sequences(root: Path, split: str | None, resolution: str) -> tuple[list[str], Path, str]:
    """Name the sequences, the folder that holds their truth, and the source of the list."""
    truth = root
    if (root / "Annotations").is_dir():
        truth = root / "Annotations" / resolution
        if not truth.is_dir():
            others = ", ".join(_folders(root / "Annotations")) or "none"
            raise EvaluationError(f"{truth}: no such resolution (there is: {others}): name another")
    if split is not None and (root / "ImageSets").is_dir():
        listed = root / "ImageSets" / "2017" / f"{split}.txt"
        if not listed.is_file():
            others = ", ".join(sorted(p.stem for p in listed.parent.glob("*.txt"))) or "none"
            raise EvaluationError(
                f"{listed}: no such list of sequences (there is: {others}): name another split, "
                "or none to score every folder of truth"
            )
        lines = (line.strip() for line in listed.read_text(encoding="utf-8").splitlines())
        names, source = list(dict.fromkeys(filter(None, lines))), f"ImageSets/2017/{split}.txt"
    else:
        listed = truth
        names, source = _folders(truth), "every folder of truth"
    if not names:
        raise EvaluationError(
            f"{listed}: no sequence here: give a DAVIS folder, or a folder of <sequence>/*.png"
        )
    return names, truth, source


def _pair_frames(name: str, truth: Path, prediction: Path) -> _Sequence | list[_Problem]:
    """Find truth and prediction of every scored frame, or tell what is missing."""
    truth_frames = _mask_files(truth)
    if len(truth_frames) <= _FRAMES_SKIPPED_PER_SEQUENCE:
        found = f"truth masks (*.png) in this folder: {len(truth_frames)}"
        return [_Problem(truth, found, "give 3 or more, for the first and last are not scored")]
    if not prediction.is_dir():
        return [_Problem(prediction, "no such folder", "predict every sequence of the truth")]
    predicted = {path.name: path for path in _mask_files(prediction)}
    scored = truth_frames[1:-1]
    missing = [
        _Problem(_mask_folder(prediction) / path.name, "missing", "predict every scored frame")
        for path in scored
        if path.name not in predicted
    ]
    pairs = ((path, predicted[path.name]) for path in scored)
    return missing or _Sequence(name, truth_frames[0], tuple(pairs))


def _folders(parent: Path) -> list[str]:
    return sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _mask_folder(sequence: Path) -> Path:
    """Where the masks of a sequence are: in a run of this program one level down."""
    return sequence / "masks" if (sequence / "masks").is_dir() else sequence


def _mask_files(sequence: Path) -> list[Path]:
    # Hidden files are what macOS leaves beside the real ones on foreign disks: `._00000.png`.
    masks = _mask_folder(sequence).glob("*.png")
    return sorted(path for path in masks if not path.name.startswith("."))


# --- one sequence --------------------------------------------------------------------------------


def _score_sequence(sequence: _Sequence) -> _SequenceScores | list[_Problem]:
    """Score every frame; problems are gathered, so that one run tells them all."""
    try:
        first = np.unique(_read_ids(sequence.first_truth))
    except _UnusableMaskError as error:
        return [error.problem]
    first_ids = first[(first != BACKGROUND_ID) & (first != VOID_ID)].tolist()
    binary = not first_ids and VOID_ID in first
    if binary:
        first_ids = [1]
    if not first_ids:
        found = "no object in the first annotated frame"
        return [_Problem(sequence.first_truth, found, "label the objects, or leave this out")]

    object_count = max(first_ids)
    region = np.empty((object_count, len(sequence.pairs)))
    boundary = np.empty_like(region)
    late_ids: set[int] = set()
    void = False
    problems: list[_Problem] = []
    for t, (truth_path, pred_path) in enumerate(sequence.pairs):
        try:
            truth, pred = _read_ids(truth_path), _read_ids(pred_path)
            if binary:
                truth, pred = _void_to(1, truth), _void_to(1, pred)
                _check_ids(truth, object_count, truth_path)
            elif truth.max() == VOID_ID:
                truth, void = _void_to(BACKGROUND_ID, truth), True
            _check_prediction(pred, truth, object_count, pred_path)
        except _UnusableMaskError as error:
            problems.append(error.problem)
            continue
        if truth.max() > object_count:
            late_ids.update(np.unique(truth[truth > object_count]).tolist())
        region[:, t], boundary[:, t] = score_frame(pred, truth, object_count)
    if problems:
        return problems
    return _SequenceScores(
        name=sequence.name,
        frames=tuple(truth_path.stem for truth_path, _ in sequence.pairs),
        region=region,
        boundary=boundary,
        absent_ids=tuple(sorted(set(range(1, object_count + 1)) - set(first_ids))),
        late_ids=tuple(sorted(late_ids)),
        binary=binary,
        void=void,
    )


def _read_ids(path: Path) -> np.ndarray:
    """Read (H, W) uint8 ids. Unlike a reference mask, which `io.masks` reads, it may be empty."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unusable(path, "not a readable PNG", "write this mask again") from error
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode not in ("1", "L", "P", "I", "I;16"):
        found = f"colours (mode {image.mode}) instead of object ids"
        raise _unusable(path, found, "save masks as palette or grey PNGs whose values are ids")
    ids = np.asarray(image)
    if ids.max() > VOID_ID:
        raise _unusable(path, f"id {ids.max()}", "use ids of 8 bits, 1..254")
    return ids.astype(np.uint8, copy=False)


def _void_to(value: int, ids: np.ndarray) -> np.ndarray:
    return np.where(ids == VOID_ID, np.uint8(value), ids)


def _check_prediction(pred: np.ndarray, truth: np.ndarray, object_count: int, path: Path) -> None:
    if pred.shape != truth.shape:
        (height, width), (truth_height, truth_width) = pred.shape, truth.shape
        found = f"{width}x{height} pixels, the truth {truth_width}x{truth_height}"
        raise _unusable(path, found, "predict at the size of the truth")
    _check_ids(pred, object_count, path)


def _check_ids(ids: np.ndarray, object_count: int, path: Path) -> None:
    largest = int(ids.max())
    if largest > object_count:
        found = f"id {largest}, where the first annotated frame has 1..{object_count}"
        raise _unusable(path, found, "use the ids of that frame, and 0 for everything else")


def _unusable(path: Path, found: str, remedy: str) -> _UnusableMaskError:
    return _UnusableMaskError(_Problem(path, found, remedy))


# --- all sequences -------------------------------------------------------------------------------


def _score_all(sequences: Sequence[_Sequence], jobs: int) -> list[_SequenceScores | list[_Problem]]:
    jobs = min(jobs, len(sequences))
    if jobs == 1:
        return [_score_sequence(sequence) for sequence in sequences]
    # Fresh interpreters: a fork of a process in which torch runs threads can deadlock.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            return list(pool.map(_score_sequence, sequences))
    except BrokenProcessPool as error:
        raise EvaluationError(
            f"a scoring process of {jobs} ended early (out of memory, or a script without an "
            '`if __name__ == "__main__":` guard): score with jobs=1'
        ) from error


def _accept(results: Iterable[_Result | list[_Problem]]) -> list[_Result]:
    """Give the results back; if there are problems among them, raise one error for all."""
    accepted: list[_Result] = []
    problems: list[_Problem] = []
    for result in results:
        if isinstance(result, list):
            problems += result
        else:
            accepted.append(result)
    if not problems:
        return accepted
    listed = problems[:_PROBLEMS_LISTED]
    found = "; ".join(f"{problem.path}: {problem.found}" for problem in listed)
    if len(problems) > len(listed):
        found += f"; and {len(problems) - len(listed)} more ({len(problems)} in all)"
    remedies = "; ".join(dict.fromkeys(problem.remedy for problem in listed))
    raise EvaluationError(f"{found}: {remedies}")


def _collect(sequences: Sequence[_SequenceScores], source: str) -> DavisScores:
    """Average over frames, then over objects, and write down what was averaged."""
    by_sequence = {
        s.name: [(statistics(j), statistics(f)) for j, f in zip(s.region, s.boundary, strict=True)]
        for s in sequences
    }
    by_object = {
        f"{name}_{object_id}": scores
        for name, objects in by_sequence.items()
        for object_id, scores in enumerate(objects, start=1)
    }
    protocol = _RULES | {
        "sequence_source": source,
        "sequences": len(sequences),
        "objects": len(by_object),
        "frames": sum(len(s.frames) for s in sequences),
        "objects_absent_from_first_frame": [
            f"{s.name}_{i}" for s in sequences for i in s.absent_ids
        ],
        "late_objects_not_scored": [f"{s.name}_{i}" for s in sequences for i in s.late_ids],
        "binary_sequences": [s.name for s in sequences if s.binary],
        "void_sequences": [s.name for s in sequences if s.void],
    }
    return DavisScores(
        protocol=protocol,
        global_=_average(by_object.values()),
        per_sequence={name: _average(objects) for name, objects in by_sequence.items()},
        per_object={name: _columns(*scores) for name, scores in by_object.items()},
        per_frame={s.name: {"J": s.region.tolist(), "F": s.boundary.tolist()} for s in sequences},
        frames={s.name: list(s.frames) for s in sequences},
    )


def _columns(region: Statistics, boundary: Statistics) -> dict[str, float]:
    return {
        "J-Mean": region.mean,
        "J-Recall": region.recall,
        "J-Decay": region.decay,
        "F-Mean": boundary.mean,
        "F-Recall": boundary.recall,
        "F-Decay": boundary.decay,
    }


def _average(objects: Iterable[tuple[Statistics, Statistics]]) -> dict[str, float]:
    rows = [_columns(*scores) for scores in objects]
    means = {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2} | means
