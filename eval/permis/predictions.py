"""Predicted masks for the videos of a PerMIS list: which are there, and whether they fit."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.eval.labels import Labels, UnusableMaskError, refuse
from propagate.eval.mask_trees import MaskTree, open_mask_tree
from propagate.eval.permis.burst_predictions import BurstPredictions, open_burst_predictions
from propagate.eval.permis.list import PermisList, PermisVideo

Predictions = MaskTree | BurstPredictions


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Frames of a video to be scored.

    Attributes:
        video: Of the list.
        frames: Their positions in the video, in order.
    """

    video: PermisVideo
    frames: tuple[int, ...]


def open_predictions(path: str | Path, permis: PermisList) -> Predictions:
    """Open a folder of masks in any layout, or a BURST JSON.

    Raises:
        EvaluationError: If there is no such thing, or it holds no masks.
    """
    path = Path(path)
    return open_burst_predictions(path, permis) if path.is_file() else open_mask_tree(path)


def find_predictions(
    tree: Predictions, wanted: Iterable[Wanted], *, allow_missing: bool
) -> tuple[list[Wanted], dict[str, Any]]:
    """Look which wanted frames have a prediction; no mask is read yet.

    Args:
        tree: Predictions under the names of videos and frames of the list.
        wanted: What is to be scored.
        allow_missing: Leave out what is not there.

    Returns:
        What is there; and what is not, as "sequences" and, by sequence, "frames".

    Raises:
        EvaluationError: If predictions are missing and may not be, or all of them are.
    """
    there: list[Wanted] = []
    problems: list[UnusableMaskError] = []
    missing: dict[str, Any] = {"sequences": [], "frames": {}}
    for item in wanted:
        name, names = item.video.name, item.video.frame_names
        if name not in tree.sequences:
            remedy = "predict every video of the list, or pass --allow-missing"
            problems.append(UnusableMaskError(tree.root / name, "no such folder", remedy))
            missing["sequences"].append(name)
            continue
        predicted = set(tree.frames(name))
        absent = [names[t] for t in item.frames if names[t] not in predicted]
        remedy = "predict every frame of the list, or pass --allow-missing"
        problems += [UnusableMaskError(tree.where(name, f), "missing", remedy) for f in absent]
        if len(absent) == len(item.frames):
            missing["sequences"].append(name)
            continue
        if absent:
            missing["frames"][name] = absent
        there.append(Wanted(item.video, tuple(t for t in item.frames if names[t] in predicted)))
    if not allow_missing or not there:
        refuse(problems)
    return there, missing


def describe_missing(missing: dict[str, Any]) -> str:
    """Say in a title what is missing; nothing if nothing is."""
    counts = {
        "sequences": len(missing["sequences"]),
        "frames": sum(map(len, missing["frames"].values())),
    }
    if not any(counts.values()):
        return ""
    return ", INCOMPLETE: missing " + ", ".join(f"{noun}: {n}" for noun, n in counts.items())


def read_prediction(tree: Predictions, video: PermisVideo, index: int) -> Labels:
    """Read the predicted masks of a frame.

    Args:
        tree: Predictions under the names of videos and frames of the list.
        video: Of the list.
        index: Position of the frame.

    Returns:
        The masks, of the size of the video, with no other ids than its scored objects'.

    Raises:
        UnusableMaskError: If the mask is missing, broken, of another size, or holds another id.
    """
    frame = video.frame_names[index]
    labels = tree.read(video.name, frame)
    path = tree.where(video.name, frame)
    if labels.shape != (video.height, video.width):
        raise UnusableMaskError(
            path,
            f"{labels.shape[1]}x{labels.shape[0]} pixels, the video {video.width}x{video.height}",
            "predict at the size of the video",
        )
    others = sorted(set(labels.object_ids).difference(video.object_ids))
    if others or labels.void is not None:
        raise UnusableMaskError(
            path,
            f"id {others[0] if others else 255}, where the list has 1..{len(video.object_ids)}",
            "use the ids of the list, and 0 for everything else",
        )
    return labels
