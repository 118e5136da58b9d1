"""Which of the masks that will be scored have no prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

from propagate.errors import EvaluationError
from propagate.eval.labels import Labels, UnusableMaskError, refuse


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
    predictions: Predictions, wanted: Mapping[str, Sequence[str]], *, allow_missing: bool
) -> Missing:
    """Find the wanted frames without a prediction; no mask is read yet.

    Args:
        predictions: Predicted masks.
        wanted: By sequence, the frames that will be scored.
        allow_missing: Accept missing predictions, as long as there are some.

    Raises:
        EvaluationError: If predictions are missing and `allow_missing` is false, if all of them are
            missing, or if the frames of a sequence cannot be listed.
    """
    missing: Missing = {"sequences": [], "frames": {}}
    absent: list[UnusableMaskError] = []
    unusable: list[UnusableMaskError] = []
    hint = "predict every scored frame, or pass {allow_missing=True} to leave out what is missing"
    for name, frames in wanted.items():
        if name not in predictions.sequences:
            absent.append(UnusableMaskError(predictions.root / name, "no such folder", hint))
            missing["sequences"].append(name)
            continue
        try:
            predicted = frozenset(predictions.frames(name))
        except UnusableMaskError as error:
            unusable.append(error)
            continue
        gaps = [frame for frame in frames if frame not in predicted]
        absent += [
            UnusableMaskError(predictions.where(name, frame), "missing", hint) for frame in gaps
        ]
        if len(gaps) == len(frames):
            missing["sequences"].append(name)
        elif gaps:
            missing["frames"][name] = gaps
    refuse(unusable)
    if not allow_missing:
        refuse(absent)
    if len(missing["sequences"]) == len(wanted):
        raise EvaluationError(
            f"{predictions.root}: no prediction of any scored frame",
            "give a folder with the names of sequences and frames that the truth has",
        )
    return missing


def describe_missing(missing: Missing) -> str:
    """Say what is missing, as the end of a title; empty if nothing is."""
    frames = sum(map(len, missing["frames"].values()))
    counts = {"sequences": len(missing["sequences"]), "frames": frames}
    if not any(counts.values()):
        return ""
    return ", INCOMPLETE: missing " + ", ".join(f"{noun}: {n}" for noun, n in counts.items())
