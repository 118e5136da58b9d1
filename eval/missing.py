"""Which masks that will be scored have no prediction, and which predictions are not scored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

from propagate.errors import EvaluationError, counted, few
from propagate.eval.labels import Labels, UnusableMaskError, refuse
from propagate.eval.near_names import near_folder, near_masks

_NAMES_LISTED = 3
_SAME_NAMES = "give sequences and frames the names that the truth has"


# Called with one line of text.
Say = Callable[[str], None]


def say_nothing(line: str) -> None:
    """Drop a line."""


class Predictions(Protocol):
    """Predicted masks of many sequences: a `MaskTree`, or a BURST file with the same methods."""

    @property
    def root(self) -> Path:
        """The folder or file."""
        ...

    @property
    def sequences(self) -> Sequence[str]:
        """Names of the sequences."""
        ...

    def frames(self, sequence: str) -> tuple[str, ...]:
        """Name the frames of a sequence."""
        ...

    def where(self, sequence: str, frame: str) -> Path:
        """Name the mask of a frame for a message."""
        ...

    def read(self, sequence: str, frame: str) -> Labels:
        """Read the objects of one frame."""
        ...


class Missing(TypedDict):
    """What has no prediction: whole sequences, and single frames by sequence."""

    sequences: list[str]
    frames: dict[str, list[str]]


def find_missing(
    predictions: Predictions,
    wanted: Mapping[str, Sequence[str]],
    *,
    allow_missing: bool,
    say: Say = say_nothing,
) -> Missing:
    """Find the wanted frames without a prediction; no mask is read yet.

    Errors quote the names that nearly are the missing ones (`propagate.eval.near_names`).

    Args:
        predictions: Predicted masks.
        wanted: By sequence, the frames that will be scored.
        allow_missing: Accept missing predictions, as long as there are some.
        say: Told which accepted ones have a name that is near.

    Raises:
        EvaluationError: If predictions are missing and `allow_missing` is false, if all of them are
            missing, or if the frames of a sequence cannot be listed.
    """
    missing: Missing = {"sequences": [], "frames": {}}
    absent: list[UnusableMaskError] = []
    unusable: list[UnusableMaskError] = []
    for name, frames in wanted.items():
        if name not in predictions.sequences:
            absent.append(_no_folder(predictions.root, name))
            missing["sequences"].append(name)
            continue
        try:
            predicted = frozenset(predictions.frames(name))
        except UnusableMaskError as error:
            unusable.append(error)
            continue
        gaps = [frame for frame in frames if frame not in predicted]
        near = near_masks(predictions.root / name, gaps) if gaps else {}
        absent += [_no_mask(predictions, name, frame, near.get(frame)) for frame in gaps]
        if len(gaps) == len(frames):
            missing["sequences"].append(name)
        elif gaps:
            missing["frames"][name] = gaps
    refuse(unusable)
    if len(missing["sequences"]) == len(wanted):
        _refuse_all(predictions, wanted, absent)
    if not allow_missing:
        refuse(absent)
    for error in _with_near_names(absent)[:_NAMES_LISTED]:
        say(f"{error.path}: {error.found}; left out")
    return missing


def find_extra(
    predictions: Predictions, known: Mapping[str, Iterable[str]], source: str
) -> list[str]:
    """Name the predictions that the truth does not have; no mask is read.

    They are not scored, in the official scorers as here.

    Args:
        predictions: Predicted masks.
        known: By sequence, all frames of the truth, also those that are not scored.
        source: What lists the sequences, in words.

    Returns:
        A sentence about sequences and one about frames, as far as there are such.
    """
    sequences: list[str] = []
    frames: list[str] = []
    for name in predictions.sequences:
        try:
            predicted = predictions.frames(name)
        except UnusableMaskError:
            continue  # unfinished: if it is to be scored, that is an error of its own
        if name in known:
            of_truth = frozenset(known[name])
            frames += [f"{name}/{frame}" for frame in predicted if frame not in of_truth]
        elif predicted:
            sequences.append(name)
    sentences: list[str] = []
    for names, noun, owner in ((sequences, "sequence", source), (frames, "frame", "the truth")):
        if names:
            found = f"{counted(len(names), noun)} of the predictions not in {owner}"
            sentences.append(f"{predictions.root}: {found}, not scored: {few(names)}")
    return sentences


def describe_missing(missing: Missing, too_short: Sequence[str] = ()) -> str:
    """Say what is left out, as the end of a title; empty if nothing is."""
    frames = sum(map(len, missing["frames"].values()))
    counts = {"sequences": len(missing["sequences"]), "frames": frames}
    parts: list[str] = []
    if any(counts.values()):
        parts.append("missing " + ", ".join(f"{noun}: {n}" for noun, n in counts.items()))
    if too_short:
        parts.append(f"sequences too short to score: {len(too_short)}")
    return f", INCOMPLETE: {'; '.join(parts)}" if parts else ""


# --- errors --------------------------------------------------------------------------------------

_OR_LEAVE_OUT = "or pass {allow_missing=True} to leave out what is missing"
_PREDICT = f"predict every scored frame, {_OR_LEAVE_OUT}"
_RENAME = f"{_SAME_NAMES}, {_OR_LEAVE_OUT}"


def _no_folder(root: Path, name: str) -> UnusableMaskError:
    near = near_folder(root, name)
    if near is None:
        return UnusableMaskError(root / name, "no such folder", _PREDICT)
    return UnusableMaskError(root, f"{name} is missing; there is {near}", _RENAME)


def _no_mask(
    predictions: Predictions, name: str, frame: str, near: str | None
) -> UnusableMaskError:
    where = predictions.where(name, frame)
    if near is None:
        return UnusableMaskError(where, "missing", _PREDICT)
    found = f"{where.name} is missing; there is {near}"
    return UnusableMaskError(predictions.root / name, found, _RENAME)


def _with_near_names(absent: Iterable[UnusableMaskError]) -> list[UnusableMaskError]:
    return [error for error in absent if error.hint == _RENAME]


def _refuse_all(
    predictions: Predictions, wanted: Iterable[str], absent: Sequence[UnusableMaskError]
) -> None:
    """Raise one error where nothing at all is predicted: other names are the likely reason."""
    there, wanted = predictions.sequences, list(wanted)
    unlike = frozenset(there).isdisjoint(wanted) and not _with_near_names(absent)
    if unlike and there:
        raise EvaluationError(
            f"{predictions.root}: no prediction of any scored frame: no name of its "
            f"{counted(len(there), 'sequence')} ({few(there)}) is one of the truth ({few(wanted)})",
            _SAME_NAMES,
        )
    if unlike:
        raise EvaluationError(f"{predictions.root}: no prediction of any scored frame", _SAME_NAMES)
    chosen = _with_near_names(absent) or absent
    refuse([UnusableMaskError(error.path, error.found, _SAME_NAMES) for error in chosen])
