"""Score one sequence by the rules of any protocol, one true and one predicted frame at a time.

Key: K objects, P proposals, T scored frames.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from propagate.eval.assignment import match_proposals
from propagate.eval.labels import Labels, UnusableMaskError, check_size
from propagate.eval.metrics import score_all_pairs, score_frame, score_masks, tolerance_px
from propagate.eval.missing import Predictions
from propagate.eval.protocols import Counting, Objects, OtherIds, Protocol, Void
from propagate.records import BACKGROUND_ID, VOID_ID

MAX_PROPOSALS = 20


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """Which frames of a sequence to score.

    Attributes:
        name: Of the sequence.
        reference: The first annotated frame.
        frames: The frames to score, in order.
        unpredicted: Those of `frames` that have no prediction and are left out.
    """

    name: str
    reference: str
    frames: tuple[str, ...]
    unpredicted: frozenset[str] = frozenset()

    @property
    def predicted(self) -> list[int]:
        """The positions in `frames` that have a prediction."""
        return [t for t, frame in enumerate(self.frames) if frame not in self.unpredicted]


@dataclass(frozen=True, slots=True, eq=False)
class SequenceScores:
    """The scores of one sequence, and which special rules applied to it.

    Attributes:
        name: Of the sequence.
        frames: Names of the scored frames.
        object_ids: True ids of the scored objects.
        region: (K, T) float64, J of each object and frame; NaN if a frame does not count for it.
        boundary: (K, T) float64, F.
        proposals: The number of the proposal of each object; empty if objects keep their ids.
        void: Whether a scored truth frame has pixels of 255 that are not an object.
        exceptions: The ids to which a special rule applied, by the name of the rule.
    """

    name: str
    frames: tuple[str, ...]
    object_ids: tuple[int, ...]
    region: np.ndarray
    boundary: np.ndarray
    proposals: tuple[int, ...]
    void: bool
    exceptions: Mapping[str, frozenset[int]]


def score_sequence(
    truth: Predictions, predictions: Predictions, plan: SequencePlan, protocol: Protocol
) -> SequenceScores | list[UnusableMaskError]:
    """Score every frame, or list all problems of the sequence."""
    sides = _Sides(truth, predictions, plan, protocol)
    try:
        first_ids = sides.objects_in(_ids(sides.read_truth(plan.reference)))
        known = _known_objects(first_ids, sides)
    except UnusableMaskError as error:
        return [error]
    observe = _observe_proposals if protocol.other_ids is OtherIds.PROPOSALS else _observe_by_id
    observed: list[_Observed] = []
    problems: list[UnusableMaskError] = []
    for frame in plan.frames:
        try:
            observed.append(observe(sides, frame, known))
        except UnusableMaskError as error:
            problems.append(error)
    return problems or _collect(sides, observed, first_ids, known)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Truth and predictions of a sequence, read by the rules of a protocol."""

    truth: Predictions
    predictions: Predictions
    plan: SequencePlan
    protocol: Protocol

    def read_truth(self, frame: str) -> Labels:
        return self._view(self.truth.read(self.plan.name, frame))

    def read_prediction(self, frame: str, truth: Labels) -> Labels:
        labels = self.predictions.read(self.plan.name, frame)
        check_size(self.predictions.where(self.plan.name, frame), labels.shape, truth.shape)
        return self._view(labels)

    def objects_in(self, truth_ids: frozenset[int]) -> frozenset[int]:
        """Leave out 255, unless the protocol counts it as an object."""
        return truth_ids if self.protocol.void is Void.OBJECT else truth_ids - {VOID_ID}

    def unusable(self, frame: str, found: str, hint: str) -> UnusableMaskError:
        return UnusableMaskError(self.predictions.where(self.plan.name, frame), found, hint)

    def _view(self, labels: Labels) -> Labels:
        if self.protocol.objects is not Objects.FOREGROUND:
            return labels
        masks = [labels.ids > 0] if labels.ids is not None else list(labels.layers.values())
        return Labels.of_ids(np.any(masks, axis=0).astype(np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """What one scored frame showed.

    Attributes:
        truth_ids: The objects in the truth.
        pred_ids: The ids in the prediction; None if there is no prediction.
        scores: J and F by id, for ids in the truth or the prediction; for others both are 1.
        pairs: (2, P, K) float64, J and F of all proposals and objects, if ids are proposals.
        void: Whether the truth has pixels of 255 that are not an object.
    """

    truth_ids: frozenset[int]
    pred_ids: frozenset[int] | None = None
    scores: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    pairs: np.ndarray | None = None
    void: bool = False

    def scores_of(self, object_id: int, counts: bool) -> tuple[float, float]:
        """Return J and F of an object; NaN if this frame does not count for it."""
        return self.scores.get(object_id, (1.0, 1.0)) if counts else (math.nan, math.nan)


def _known_objects(first_ids: frozenset[int], sides: _Sides) -> frozenset[int]:
    """Name the objects that are known before the scored frames are read."""
    if sides.protocol.objects is Objects.FOREGROUND:
        return frozenset({1})
    if sides.protocol.objects is Objects.IN_TRUTH:
        return first_ids
    if sides.protocol.objects is Objects.IN_SCORED_FRAMES:
        return frozenset()
    path = sides.truth.where(sides.plan.name, sides.plan.reference)
    if not first_ids:
        found = "no object in the first annotated frame"
        hint = "label the objects, leave the sequence out, or score 0 and 255 by davis2016"
        raise UnusableMaskError(path, found, hint)
    if sides.protocol.objects is Objects.IN_FIRST_FRAME:
        return first_ids
    if BACKGROUND_ID in first_ids:
        raise UnusableMaskError(path, "object id 0", "count the objects from 1")
    return frozenset(range(1, max(first_ids) + 1))


def _ids(labels: Labels) -> frozenset[int]:
    """Name the ids in a frame, 255 too."""
    has_void = labels.ids is not None and labels.ids.max() == VOID_ID
    return frozenset(labels.object_ids) | ({VOID_ID} if has_void else frozenset())


# --- one frame -----------------------------------------------------------------------------------


def _observe_by_id(sides: _Sides, frame: str, known: frozenset[int]) -> _Observed:
    truth = sides.read_truth(frame)
    shown = _ids(truth)
    truth_ids = sides.objects_in(shown)
    if frame in sides.plan.unpredicted:
        return _Observed(truth_ids)
    pred = sides.read_prediction(frame, truth)
    pred_ids = _ids(pred)
    if sides.protocol.other_ids is OtherIds.REFUSED and not pred_ids <= known:
        largest = f"id {max(pred_ids - known)}"
        found = f"{largest}, where the first annotated frame has 1..{max(known)}"
        raise sides.unusable(frame, found, "use the ids of that frame, and 0 for everything else")
    scores = _score(pred, truth, sorted(truth_ids | pred_ids))
    return _Observed(truth_ids, pred_ids, scores, void=shown != truth_ids)


def _score(pred: Labels, truth: Labels, ids: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Score some objects of a frame; J and F by id."""
    if pred.ids is not None and truth.ids is not None:
        region, boundary = score_frame(pred.ids, truth.ids, ids)
        return dict(zip(ids, zip(region.tolist(), boundary.tolist(), strict=True), strict=True))
    tolerance = tolerance_px(*truth.shape)
    return {i: score_masks(_mask(pred, i), _mask(truth, i), tolerance) for i in ids}


def _mask(labels: Labels, object_id: int) -> np.ndarray:
    # In a map of ids 0 is the background, but an object may have a folder called 000.
    if labels.ids is not None and object_id == BACKGROUND_ID:
        return np.zeros(labels.shape, dtype=bool)
    return labels.mask(object_id)


def _observe_proposals(sides: _Sides, frame: str, known: frozenset[int]) -> _Observed:
    truth = sides.read_truth(frame)
    truth_ids = sides.objects_in(_ids(truth))
    if frame in sides.plan.unpredicted:
        return _Observed(truth_ids)
    pred = sides.read_prediction(frame, truth)
    pred_ids = _ids(pred)
    if max(pred_ids, default=0) > MAX_PROPOSALS:
        found = f"id {max(pred_ids)}, above the {MAX_PROPOSALS} proposals that are allowed"
        raise sides.unusable(frame, found, f"number the proposals 1..{MAX_PROPOSALS}")
    pred_map = _map(pred, sides.predictions.where(sides.plan.name, frame))
    truth_map = _map(truth, sides.truth.where(sides.plan.name, frame))
    # There must be as many proposals as objects; empty ones fill up.
    rows = range(1, max(MAX_PROPOSALS, *known) + 1)
    pairs = np.stack(score_all_pairs(pred_map, truth_map, rows, sorted(known), truth.void))
    return _Observed(truth_ids, pred_ids, pairs=pairs, void=truth.void is not None)


def _map(labels: Labels, path: Path) -> np.ndarray:
    if labels.ids is None:
        raise UnusableMaskError(path, "objects overlap", "give each pixel to one of them")
    return labels.ids


# --- the whole sequence --------------------------------------------------------------------------


def _collect(
    sides: _Sides, observed: Sequence[_Observed], first_ids: frozenset[int], known: frozenset[int]
) -> SequenceScores | list[UnusableMaskError]:
    """Choose the objects, and the frames that count for each of them."""
    plan, protocol = sides.plan, sides.protocol
    none = frozenset[int]()
    in_truth = none.union(*(frame.truth_ids for frame in observed))
    in_pred = none.union(*(frame.pred_ids or none for frame in observed))
    from_truth = protocol.objects in (Objects.IN_TRUTH, Objects.IN_SCORED_FRAMES)
    objects = known | in_truth if from_truth else known
    start = {i: _first_that_counts(i, observed, first_ids, protocol.counting) for i in objects}
    predicted = [t for t, frame in enumerate(observed) if frame.pred_ids is not None]
    scored = tuple(i for i in sorted(objects) if start[i] <= predicted[-1])
    if not scored:
        path = sides.truth.where(plan.name, plan.reference)
        found = "no object in this and the scored truth frames"
        return [UnusableMaskError(path, found, "label the objects, or leave the sequence out")]
    proposals: tuple[int, ...] = ()
    ignored = none
    if protocol.other_ids is OtherIds.PROPOSALS:
        pairs = [frame.pairs for frame in observed if frame.pairs is not None]  # (2, P, K) each
        region, boundary, proposals = _match(np.stack(pairs, axis=-1), max(in_pred, default=0))
    else:
        ignored = in_pred - objects
        table = [[observed[t].scores_of(i, t >= start[i]) for t in predicted] for i in scored]
        region, boundary = np.array(table).transpose(2, 0, 1)  # each (K, T)
    return SequenceScores(
        name=plan.name,
        frames=tuple(plan.frames[t] for t in predicted),
        object_ids=scored,
        region=region,
        boundary=boundary,
        proposals=proposals,
        void=any(frame.void for frame in observed),
        exceptions={
            "objects_absent_from_first_frame": known - first_ids,
            "late_objects_not_scored": in_truth - objects,
            "objects_without_a_scored_frame": objects - frozenset(scored),
            "predicted_ids_ignored": ignored,
        },
    )


def _first_that_counts(
    object_id: int, observed: Sequence[_Observed], first_ids: frozenset[int], counting: Counting
) -> int:
    """Find the first scored frame that counts for an object; past the end if there is none."""
    if counting is Counting.ALL or (
        counting is Counting.AFTER_OWN_FIRST and object_id in first_ids
    ):
        return 0
    for t, frame in enumerate(observed):
        if counting is Counting.ONCE_SHOWN and object_id in frame.scores:
            return t
        if counting is Counting.AFTER_OWN_FIRST and object_id in frame.truth_ids:
            return t + 1
    return len(observed)


def _match(
    pairs: np.ndarray, largest_pred_id: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Assign a proposal to each object: J and F, each (K, T), and the numbers of the proposals.

    Args:
        pairs: (2, P, K, T) float64, J and F of all proposals and objects.
        largest_pred_id: The number of proposals, including those that are always empty.
    """
    objects = pairs.shape[2]
    # Empty proposals take part only if there are fewer proposals than objects.
    region, boundary = pairs[:, : max(objects, largest_pred_id)]  # each (P, K, T)
    rows = match_proposals(region, boundary)
    matched = rows, np.arange(objects)
    return region[matched], boundary[matched], tuple((rows + 1).tolist())
