"""PerMIS-image: one instance, shown in a reference image, to be found in another one.

Two measures, each averaged in two ways that give different numbers:

- IoU, intersection over union of the masks.
- Boundary IoU, the same of the masks' boundary regions: of each mask, the pixels up to a distance
  of 2 % of the image diagonal (rounded, at least 1) from a pixel outside it. Distance is counted in
  steps of the 8-neighbourhood, and outside the image nothing belongs to a mask. Source: Cheng,
  Girshick, Dollar, Berg, Kirillov, "Boundary IoU", CVPR 2021, with the distance of its released
  code. It is IoU where the region is the whole mask; the minimum of both, which their
  Boundary AP takes, is not taken.
- *Pooled*: sum of the intersections over sum of the unions, of all pairs. The released code of PDM
  calls that "mIoU"; large instances decide it. Per image: the mean over pairs.

The paper's boundary IoU on PerMIS (86.8 with an mIoU of 42.3) cannot be this measure, and neither
paper nor code says what it is.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import EvaluationError
from propagate.eval.labels import UnusableMaskError
from propagate.eval.permis.list import PermisList, PermisVideo
from propagate.eval.permis.predictions import (
    Predictions,
    Wanted,
    describe_missing,
    find_predictions,
    open_predictions,
    read_prediction,
    refuse,
)

_DISTANCE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class PairScore:
    """The score of one pair, as counts of pixels.

    Attributes:
        video: Name in the list.
        object_id: The instance.
        reference: Name of the frame that shows the instance to be found.
        target: Name of the frame in which it is to be found.
        intersection_px: Of the masks.
        union_px: Of the masks.
        boundary_intersection_px: Of the boundary regions.
        boundary_union_px: Of the boundary regions.
    """

    video: str
    object_id: int
    reference: str
    target: str
    intersection_px: int
    union_px: int
    boundary_intersection_px: int
    boundary_union_px: int

    @property
    def iou(self) -> float:
        """IoU of this pair; 1 if both masks are empty."""
        return self.intersection_px / self.union_px if self.union_px else 1.0

    @property
    def boundary_iou(self) -> float:
        """Boundary IoU of this pair; 1 if both masks are empty."""
        return (
            self.boundary_intersection_px / self.boundary_union_px
            if self.boundary_union_px
            else 1.0
        )


@dataclass(frozen=True, slots=True, eq=False)
class PermisImageScores:
    """Scores of PerMIS-image.

    Attributes:
        protocol: "name" and "title", the rules in words, the counts, the checksum of the list.
        global_: "IoU-Pooled", "IoU-Mean", "bIoU-Pooled" and "bIoU-Mean" over all pairs.
        pairs: Each pair.
    """

    protocol: Mapping[str, Any]
    global_: Mapping[str, float]
    pairs: Sequence[PairScore]

    def to_json(self) -> str:
        """Give everything as JSON text; the numbers are complete, nothing is rounded."""
        pairs = [asdict(p) | {"IoU": p.iou, "bIoU": p.boundary_iou} for p in self.pairs]
        content = {"protocol": self.protocol, "global": self.global_, "pairs": pairs}
        return json.dumps(content, indent=1, allow_nan=False)

    def __repr__(self) -> str:
        return (
            f"PermisImageScores(IoU-Pooled={self.global_['IoU-Pooled']:.4f}, "
            f"IoU-Mean={self.global_['IoU-Mean']:.4f}, pairs={len(self.pairs)})"
        )


def evaluate_permis_images(
    permis: PermisList, predictions: str | Path, *, allow_missing: bool = False
) -> PermisImageScores:
    """Score the pairs of a list.

    Args:
        permis: The list; each of its videos with an image part gives two pairs.
        predictions: Folder of masks in any layout of `mask_trees`, with the names of videos and
            frames of the list. The pixels of a pair's instance have its id of the list; so the
            masks of a whole video can be scored as they are. Other frames are not read.
        allow_missing: Score what is there: pairs without a prediction are left out, and named in
            the protocol.

    Returns:
        The scores.

    Raises:
        EvaluationError: If the list has no pairs, or predictions are missing or cannot be used.
    """
    tree = open_predictions(predictions, permis)
    whole = [Wanted(v, v.image_part.targets) for v in permis.videos if v.image_part]
    if not whole:
        raise EvaluationError(
            "no video of this list has images to find an instance in: build it from more "
            "annotations"
        )
    wanted, missing = find_predictions(tree, whole, allow_missing=allow_missing)
    objects = {v.name: v.image_part.object_id for v in permis.videos if v.image_part}
    pairs: list[PairScore] = []
    problems: list[UnusableMaskError] = []
    for video, target in ((item.video, t) for item in wanted for t in item.frames):
        try:
            pairs.append(_score_pair(tree, video, objects[video.name], target))
        except UnusableMaskError as error:
            problems.append(error)
    refuse(problems)
    rules = permis.choices["rules"]
    return PermisImageScores(
        protocol={
            "name": "permis-image",
            "title": "PerMIS-image" + describe_missing(missing),
            "rules": {
                "pairs": rules["pairs"],
                "object": rules["image_object"],
                "frames": rules["image_frames"],
                "pooled": "sum of intersections over sum of unions, of all pairs; PDM's released "
                "code calls it mIoU",
                "mean": "mean over pairs",
                "boundary IoU": "IoU of the boundary regions: of each mask, the pixels within 2 % "
                "of the image diagonal (rounded, at least 1) of a pixel outside it, by 8-neighbour "
                "steps (Cheng et al. 2021)",
            },
            "list_sha256": permis.sha256,
            "sequences": len(wanted),
            "pairs": len(pairs),
            "missing": missing,
        },
        global_={
            "IoU-Pooled": sum(p.intersection_px for p in pairs) / sum(p.union_px for p in pairs),
            "IoU-Mean": float(np.mean([p.iou for p in pairs])),
            "bIoU-Pooled": sum(p.boundary_intersection_px for p in pairs)
            / sum(p.boundary_union_px for p in pairs),
            "bIoU-Mean": float(np.mean([p.boundary_iou for p in pairs])),
        },
        pairs=pairs,
    )


def _score_pair(tree: Predictions, video: PermisVideo, object_id: int, target: int) -> PairScore:
    pred = read_prediction(tree, video, target).mask(object_id)
    truth = video.truth(target) == object_id
    distance = boundary_distance_px(video.height, video.width)
    pred_region, truth_region = (boundary_region(mask, distance) for mask in (pred, truth))
    return PairScore(
        video=video.name,
        object_id=object_id,
        reference=video.frame_names[0],
        target=video.frame_names[target],
        intersection_px=int(np.count_nonzero(pred & truth)),
        union_px=int(np.count_nonzero(pred | truth)),
        boundary_intersection_px=int(np.count_nonzero(pred_region & truth_region)),
        boundary_union_px=int(np.count_nonzero(pred_region | truth_region)),
    )


def boundary_distance_px(height: int, width: int) -> int:
    """Give the depth of a boundary region: 2 % of the image diagonal, rounded, at least 1.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.

    Returns:
        Pixels: 20 at 854x480.
    """
    return max(1, round(_DISTANCE_SHARE * math.hypot(height, width)))


def boundary_region(mask: np.ndarray, distance_px: int) -> np.ndarray:
    """Mark the pixels of a mask that have a pixel outside it within a distance.

    Args:
        mask: (H, W) bool. Outside the array nothing belongs to it.
        distance_px: 1 or more, in steps of the 8-neighbourhood.

    Returns:
        (H, W) bool.
    """
    side = 2 * distance_px + 1
    padded = np.pad(mask, distance_px).astype(np.int32)
    sums = np.pad(padded.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    below_px = sums[side:] - sums[:-side]
    around_px = below_px[:, side:] - below_px[:, :-side]
    return mask & (around_px < side * side)
