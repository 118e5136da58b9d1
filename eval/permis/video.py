"""PerMIS-video: J, F and identity switches over the videos of a list.

The reference frame of a video shows the instances and is not scored; all other frames of the list
are. J and F are those of DAVIS (`propagate.eval.metrics`): an object that is neither in the truth
nor in the prediction of a frame scores 1 there. In videos of similar instances, J and F do not show
that a prediction lies on the wrong one, so that is counted too (`propagate.eval.identity`).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from propagate.eval.averages import average
from propagate.eval.identity import IdentityScores, instance_under, score_identity
from propagate.eval.labels import UnusableMaskError, refuse
from propagate.eval.metrics import score_masks, tolerance_px
from propagate.eval.missing import Missing, Predictions, Say
from propagate.eval.permis.list import PermisList
from propagate.eval.permis.predictions import (
    Wanted,
    find_predictions,
    open_predictions,
    read_prediction,
)
from propagate.eval.processes import map_processes
from propagate.eval.protocols import SEMI_SUPERVISED, Objects, OtherIds, Protocol
from propagate.eval.scores import Scores
from propagate.eval.sequences import SequenceScores

_PROTOCOL = Protocol(
    name="permis-video",
    task=SEMI_SUPERVISED,
    title="PerMIS-video",
    source="ours, after the PDM paper, which publishes neither list nor rules",
    objects=Objects.IN_FIRST_FRAME,
    other_ids=OtherIds.REFUSED,
    skip_last=0,
)
_TOPICS = ("frames", "objects", "empty masks", "other predicted ids", "average", "decay", "source")
_IDENTITY_RULE = (
    "a prediction lies on the instance of its class with most of its pixels, if they share half of "
    "the smaller one; on other: share of all object-frames that lie on another instance than their "
    "own; switches: moves from the own to another one"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PermisScores:
    """Scores of PerMIS-video.

    Attributes:
        scores: J and F; the sequences are the videos of the list.
        identity: Identity switches, over the same objects and frames.
    """

    scores: Scores
    identity: IdentityScores

    def to_json(self) -> str:
        """Write everything as JSON text: that of `Scores`, with "identity" added."""
        content = self.scores.to_dict() | {"identity": self.identity.to_dict()}
        return json.dumps(content, indent=1, allow_nan=False)

    def __repr__(self) -> str:
        total = self.identity.total
        return (
            f"PermisScores(J&F-Mean={100 * self.scores.global_['J&F-Mean']:.1f} %, "
            f"on_other={100 * total.share:.1f} %, switches={total.switches})"
        )


def evaluate_permis(
    permis: PermisList,
    predictions: str | Path,
    *,
    allow_missing: bool = False,
    jobs: int = 1,
    say: Say = log.warning,
) -> PermisScores:
    """Score predicted masks over the videos of a list.

    Args:
        permis: The list.
        predictions: Folder of masks in any layout of `propagate.eval.mask_trees`, with the names of
            videos and frames, and the object ids, of the list; or a BURST JSON of one split, with
            the tracks of the annotations. Additional videos and frames are named and not scored.
        allow_missing: Leave out videos and frames without a prediction, and name them in the
            protocol.
        jobs: Number of processes. Each scores one video at a time, the longest first. More than one
            starts fresh interpreters, so a script that uses it needs the
            `if __name__ == "__main__":` guard.
        say: Called with one line about predictions that the list does not have, and about missing
            ones. By default it is logged as a warning.

    Returns:
        J, F and identity switches per frame, object and video, and over everything, with the
        protocol.

    Raises:
        EvaluationError: If predictions are missing or cannot be used; it names the files.
        ValueError: If `jobs` is less than 1.
    """
    tree = open_predictions(predictions, permis)
    whole = (Wanted(video, tuple(range(1, len(video.images)))) for video in permis.videos)
    wanted, missing = find_predictions(tree, whole, allow_missing=allow_missing, say=say)
    results = map_processes(
        partial(_score_video, tree), wanted, jobs=jobs, cost=lambda item: len(item.frames)
    )
    refuse([problem for result in results for problem in result.problems])
    return _average(permis, results, missing)


@dataclass(frozen=True, slots=True, eq=False)
class _VideoScores:
    """The scores of one video.

    Attributes:
        scores: J and F.
        under: By object, the instance its prediction lies on in each scored frame.
        problems: Masks that cannot be used; the scores of their frames are meaningless.
    """

    scores: SequenceScores
    under: Mapping[int, list[int]]
    problems: Sequence[UnusableMaskError]


def _score_video(tree: Predictions, wanted: Wanted) -> _VideoScores:
    """Score every frame, and list all masks that cannot be used."""
    video = wanted.video
    shape = (len(video.object_ids), len(wanted.frames))
    region, boundary = np.ones(shape), np.ones(shape)
    under: dict[int, list[int]] = {i: [] for i in video.object_ids}
    tolerance = tolerance_px(video.height, video.width)
    problems: list[UnusableMaskError] = []
    for t, index in enumerate(wanted.frames):
        try:
            labels = read_prediction(tree, video, index)
        except UnusableMaskError as error:
            problems.append(error)
            continue
        instances = video.instances(index)
        for k, i in enumerate(video.object_ids):
            pred = labels.mask(i)
            region[k, t], boundary[k, t] = score_masks(pred, instances == i, tolerance)
            under[i].append(instance_under(pred, instances, i, video.tracks))
    scores = SequenceScores(
        name=video.name,
        frames=tuple(video.frame_names[t] for t in wanted.frames),
        object_ids=video.object_ids,
        region=region,
        boundary=boundary,
        proposals=(),
        void=False,
        exceptions={"instances_not_scored": frozenset(video.other_ids)},
    )
    return _VideoScores(scores, under, problems)


def _average(permis: PermisList, videos: Sequence[_VideoScores], missing: Missing) -> PermisScores:
    """Average over frames, then over objects, and record what was averaged."""
    facts = {
        "missing": missing,
        "list_sha256": permis.sha256,
        "list_choices": {k: v for k, v in permis.choices.items() if k != "rules"},
    }
    scores = average([video.scores for video in videos], _PROTOCOL, None, facts)
    words = _PROTOCOL.rules()
    rules = {topic: words[topic] for topic in _TOPICS} | {
        "objects": permis.choices["rules"]["objects"],
        "identity": _IDENTITY_RULE,
    }
    return PermisScores(
        replace(scores, protocol={**scores.protocol, "rules": rules}),
        score_identity({video.scores.name: video.under for video in videos}),
    )
