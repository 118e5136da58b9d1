"""Identity switches: how often a predicted instance lies on another instance of its class.

J and F do not distinguish a mask that slipped into the background from one that jumped to a similar
object; these counts do. In one frame, a prediction P *lies on* the true instance T if

1. T is the instance with most pixels of P, among the instances of its class, its own included, and
2. P and T share at least half the pixels of the smaller of the two.

Imprecise borders, or a prediction that touches its neighbours, do not change the answer. By (1),
the largest part of the prediction decides. By (2), a mask that only grazes an instance lies on
none, while a mask that is too large or too small still lies on its instance. With equal shares, the
object's own instance is preferred. If an instance has no pixel in the truth, no prediction lies on
it; its own prediction may then lie on another instance, which is an error. An empty prediction lies
on none; that counts as a lost object, which lowers J, not as an identity error.

Over time, for one object:

- *on other*: the scored frames in which its prediction lies on an instance other than its own. The
  share is of all scored frames of all objects, including those without truth or prediction, so that
  all methods are divided by the same number.
- *switches*: how many times the prediction moved from its own instance to another one. It starts on
  its own. Frames in which it lies on none are skipped. Moves back, and from one wrong instance to
  the next, do not count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from propagate.errors import EvaluationError
from propagate.eval.labels import UnusableMaskError, check_size
from propagate.eval.mask_trees import MaskTree
from propagate.records import BACKGROUND_ID, VOID_ID

NO_INSTANCE = BACKGROUND_ID


@dataclass(frozen=True, slots=True)
class IdentityCounts:
    """Identity errors of one object, or of several together.

    Attributes:
        object_frames: Scored frames, counted once for each object.
        on_other: Those in which the prediction lies on another instance.
        switches: Moves from its own instance to another one.
    """

    object_frames: int
    on_other: int
    switches: int

    @property
    def share(self) -> float:
        """`on_other` / `object_frames`, 0..1; NaN without a scored frame."""
        return self.on_other / self.object_frames if self.object_frames else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class IdentityScores:
    """Identity errors of many sequences.

    Attributes:
        total: Over everything.
        per_sequence: By its name.
        per_object: By sequence and id: `bear_1`.
        under: By sequence and object id: for each scored frame, the instance under the prediction,
            on which it lies; 0 if it lies on none.
    """

    total: IdentityCounts
    per_sequence: Mapping[str, IdentityCounts]
    per_object: Mapping[str, IdentityCounts]
    under: Mapping[str, Mapping[int, Sequence[int]]]

    def to_dict(self) -> dict[str, Any]:
        """Convert everything to plain dicts, lists and numbers, ready for JSON."""
        return {
            "total": _to_dict(self.total),
            "per_sequence": {name: _to_dict(c) for name, c in self.per_sequence.items()},
            "per_object": {name: _to_dict(c) for name, c in self.per_object.items()},
            "under": {
                name: {str(i): list(under) for i, under in objects.items()}
                for name, objects in self.under.items()
            },
        }


def instance_under(
    pred: np.ndarray, truth_ids: np.ndarray, own_id: int, class_ids: Iterable[int]
) -> int:
    """Find the instance on which a prediction lies, by the rules at the top of this module.

    Args:
        pred: (H, W) bool, the predicted mask of one object.
        truth_ids: (H, W) uint8 true ids. Pixels of 255 (void) do not count.
        own_id: The object.
        class_ids: All instances of its class, with or without its own.

    Returns:
        The id of the instance, or `NO_INSTANCE`.

    Raises:
        ValueError: If the sizes differ.
    """
    if pred.shape != truth_ids.shape:
        raise ValueError(
            f"pred, truth_ids: of the same size, not {pred.shape} and {truth_ids.shape}"
        )
    shared_px = np.bincount(truth_ids[pred], minlength=VOID_ID + 1)
    rivals = sorted({own_id, *class_ids} - {BACKGROUND_ID, VOID_ID})
    under = max(rivals, key=lambda i: (shared_px[i], i == own_id, -i))
    pred_px = shared_px.sum() - shared_px[VOID_ID]
    smaller_px = min(pred_px, np.count_nonzero(truth_ids == under))
    if not shared_px[under] or 2 * shared_px[under] < smaller_px:
        return NO_INSTANCE
    return under


def count_identity(own_id: int, under: Iterable[int]) -> IdentityCounts:
    """Count the identity errors of one object.

    Args:
        own_id: The object.
        under: What `instance_under` gives for each of its scored frames, in order.

    Returns:
        The counts.
    """
    object_frames = on_other = switches = 0
    was_on_own = True
    for instance in under:
        object_frames += 1
        if instance == NO_INSTANCE:
            continue
        is_on_own = instance == own_id
        on_other += not is_on_own
        switches += was_on_own and not is_on_own
        was_on_own = is_on_own
    return IdentityCounts(object_frames, on_other, switches)


def score_identity(under: Mapping[str, Mapping[int, Sequence[int]]]) -> IdentityScores:
    """Count the identity errors of many sequences.

    Args:
        under: By sequence and object id, what `instance_under` gives for each scored frame.

    Returns:
        The counts of each object, each sequence, and of all.
    """
    counts = {
        name: {i: count_identity(i, row) for i, row in objects.items()}
        for name, objects in under.items()
    }
    return IdentityScores(
        total=_add(c for objects in counts.values() for c in objects.values()),
        per_sequence={name: _add(objects.values()) for name, objects in counts.items()},
        per_object={
            f"{name}_{i}": c for name, objects in counts.items() for i, c in objects.items()
        },
        under=under,
    )


def evaluate_identity(
    truth: MaskTree,
    predictions: MaskTree,
    *,
    classes: Mapping[str, Mapping[int, str]] | None = None,
) -> IdentityScores:
    """Count identity errors over folders of masks, such as clips in the DAVIS layout.

    The objects are those in the first true frame of a sequence; all later true frames are scored.
    Objects that enter later are not scored, but a prediction may lie on them.

    Args:
        truth: True masks. Objects may not overlap.
        predictions: Predicted masks, with the ids of the truth.
        classes: By sequence, the class of each object id. An id without a class has a class of its
            own. In sequences that are not listed, all objects are of one class.

    Returns:
        The counts, for every sequence of the truth.

    Raises:
        EvaluationError: If a mask is missing, cannot be used, or has another size than the truth,
            or if a sequence has fewer than two true frames or overlapping true objects.
    """
    classes = classes or {}
    return score_identity(
        {
            name: _score_sequence(truth, predictions, name, classes.get(name))
            for name in truth.sequences
        }
    )


def _score_sequence(
    truth: MaskTree, predictions: MaskTree, sequence: str, classes: Mapping[int, str] | None
) -> dict[int, list[int]]:
    frames = truth.frames(sequence)
    if len(frames) < 2:
        raise EvaluationError(
            f"{truth.root / sequence}: true masks in this sequence: {len(frames)}",
            "give the reference and at least one more",
        )
    object_ids = truth.read(sequence, frames[0]).object_ids
    under: dict[int, list[int]] = {i: [] for i in object_ids}
    for frame in frames[1:]:
        truth_ids = truth.read(sequence, frame).ids
        if truth_ids is None:
            raise UnusableMaskError(
                truth.where(sequence, frame), "true objects that overlap", "give index PNGs"
            )
        labels = predictions.read(sequence, frame)
        check_size(predictions.where(sequence, frame), labels.shape, truth_ids.shape)
        present = np.unique(truth_ids).tolist()
        for i in object_ids:
            rivals = [j for j in present if _class_of(i, classes) == _class_of(j, classes)]
            under[i].append(instance_under(labels.mask(i), truth_ids, i, rivals))
    return under


def _class_of(object_id: int, classes: Mapping[int, str] | None) -> str | int | None:
    return None if classes is None else classes.get(object_id, object_id)


def _add(counts: Iterable[IdentityCounts]) -> IdentityCounts:
    rows = list(counts)
    return IdentityCounts(
        sum(row.object_frames for row in rows),
        sum(row.on_other for row in rows),
        sum(row.switches for row in rows),
    )


def _to_dict(counts: IdentityCounts) -> dict[str, float | None]:
    return {
        "object_frames": counts.object_frames,
        "on_other": counts.on_other,
        "share": counts.share if counts.object_frames else None,
        "switches": counts.switches,
    }
