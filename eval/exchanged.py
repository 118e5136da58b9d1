"""What a score would be if predicted ids were matched to true ones, where they look exchanged.

The protocols with ids compare each object with the prediction of its own id. A method that numbers
the same objects otherwise scores near 0 with perfect masks. Here the ids of such a sequence are
assigned to its objects as proposals are (`propagate.eval.assignment`), and the sequence is scored
again.

Key: K objects, P predicted ids, T frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from propagate.eval.assignment import match_proposals
from propagate.eval.labels import Labels
from propagate.eval.metrics import region_similarity
from propagate.eval.missing import Predictions
from propagate.eval.protocols import Objects, OtherIds, Protocol
from propagate.eval.sequences import SequencePlan, SequenceScores, score_sequence
from propagate.records import BACKGROUND_ID

# Above, no other id can have more of the object.
_LOW_J = 0.5
# By so much J&F of a sequence must rise before its ids are said to be exchanged.
_CLEARLY = 0.1
# Prefers an object's own id where another is as good.
_TIE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """A sequence whose predictions fit better under other ids.

    Attributes:
        ids: Predicted id -> object.
        scores: Of the sequence with these ids.
    """

    ids: Mapping[int, int]
    scores: SequenceScores


def may_be_exchanged(scores: SequenceScores, protocol: Protocol) -> bool:
    """Whether it is worth a try: an object is badly predicted, and there is another id."""
    if protocol.other_ids is OtherIds.PROPOSALS or protocol.objects is Objects.FOREGROUND:
        return False
    others = len(scores.object_ids) > 1 or scores.exceptions.get("predicted_ids_ignored")
    return bool(others) and bool((np.nanmean(scores.region, axis=1) < _LOW_J).any())


def match_ids(
    truth: Predictions,
    predictions: Predictions,
    protocol: Protocol,
    plan_and_scores: tuple[SequencePlan, SequenceScores],
) -> Matched | None:
    """Score a sequence with the ids that fit its objects best; None if they are not clearly better.

    Args:
        truth: True masks.
        predictions: Predicted masks, all of which can be used.
        protocol: Of the scores.
        plan_and_scores: The sequence, and its scores with the ids as they are.
    """
    plan, scores = plan_and_scores
    ids = _assign(truth, predictions, scores)
    if all(pred_id == object_id for pred_id, object_id in ids.items()):
        return None
    matched = score_sequence(truth, _Renumbered(predictions, ids), plan, protocol)
    if isinstance(matched, list) or _quality(matched) < _quality(scores) + _CLEARLY:
        return None
    return Matched(ids, matched)


def _assign(truth: Predictions, predictions: Predictions, scores: SequenceScores) -> dict[int, int]:
    """Assign predicted ids to objects so that the sum of their mean J is largest."""
    objects = scores.object_ids
    frames = [
        (predictions.read(scores.name, frame), truth.read(scores.name, frame))
        for frame in scores.frames
    ]
    ids = sorted({i for pred, _ in frames for i in pred.object_ids})
    # Ids without a pixel fill up, if there are fewer ids than objects.
    spare = max(0, len(objects) - len(ids))
    region = np.zeros((len(ids) + spare, len(objects), len(frames)))
    for t, (pred, true) in enumerate(frames):
        region[: len(ids), :, t] = _overlaps(pred, true, ids, objects)
    region[:, np.isnan(scores.region)] = 0  # frames that do not count for an object
    for row, i in enumerate(ids):
        if i in objects:
            region[row, objects.index(i)] += _TIE
    rows = match_proposals(region, region)
    return {ids[row]: objects[k] for k, row in enumerate(rows.tolist()) if row < len(ids)}


def _overlaps(
    pred: Labels, truth: Labels, pred_ids: Sequence[int], object_ids: Sequence[int]
) -> np.ndarray:
    """Compute J of every predicted id and object in one frame, (P, K)."""
    if pred.ids is None or truth.ids is None:
        preds, truths = [_mask(pred, i) for i in pred_ids], [_mask(truth, k) for k in object_ids]
        pairs = [region_similarity(p, t) for p in preds for t in truths]
        return np.array(pairs, dtype=np.float64).reshape(len(pred_ids), len(object_ids))
    codes = pred.ids.astype(np.intp) << 8 | truth.ids
    joint = np.bincount(codes.ravel(), minlength=1 << 16).reshape(1 << 8, 1 << 8)
    areas, true_areas = joint.sum(axis=1), joint.sum(axis=0)
    # 0 is the background of a map, also where another frame has an object 0 in layers.
    joint[0], joint[:, 0], areas[0], true_areas[0] = 0, 0, 0, 0
    rows, columns = np.array(pred_ids, dtype=np.intp), np.array(object_ids, dtype=np.intp)
    shared = joint[np.ix_(rows, columns)]
    union = areas[rows, None] + true_areas[columns] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def _mask(labels: Labels, object_id: int) -> np.ndarray:
    if labels.ids is not None and object_id == BACKGROUND_ID:
        return np.zeros(labels.shape, dtype=bool)
    return labels.mask(object_id)


def _quality(scores: SequenceScores) -> float:
    """Compute J&F of a sequence."""
    parts = (np.nanmean(each, axis=1).mean() for each in (scores.region, scores.boundary))
    return float(sum(parts)) / 2


@dataclass(frozen=True, slots=True, eq=False)
class _Renumbered:
    """Predicted masks under other ids; those that are assigned to no object are background."""

    predictions: Predictions
    ids: Mapping[int, int]

    @property
    def root(self) -> Path:
        return self.predictions.root

    @property
    def sequences(self) -> Sequence[str]:
        return self.predictions.sequences

    def frames(self, sequence: str) -> tuple[str, ...]:
        return self.predictions.frames(sequence)

    def where(self, sequence: str, frame: str) -> Path:
        return self.predictions.where(sequence, frame)

    def read(self, sequence: str, frame: str) -> Labels:
        labels = self.predictions.read(sequence, frame)
        masks = {self.ids[i]: labels.mask(i) for i in labels.object_ids if i in self.ids}
        return Labels.of_masks(masks, labels.shape)
