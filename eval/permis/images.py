"""PerMIS-image: one instance, shown in a reference image, must be found in another image.

Two measures, IoU and boundary IoU (`propagate.eval.boundary_iou`), are each averaged in two ways,
which give different numbers:

- *pooled*: sum of the intersections over sum of the unions, of all pairs. The released code of PDM
  calls it "mIoU". Large instances dominate it.
- *mean*: the mean over pairs.

The boundary IoU that the paper gives for PerMIS (86.8 with an mIoU of 42.3) cannot be this measure,
and neither the paper nor its code defines it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import EvaluationError
from propagate.eval.boundary_iou import Overlap, overlap
from propagate.eval.labels import UnusableMaskError, refuse
from propagate.eval.missing import Predictions, Say, describe_missing
from propagate.eval.permis.list import PermisList, PermisVideo
from propagate.eval.permis.predictions import (
    Wanted,
    find_predictions,
    open_predictions,
    read_prediction,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PairScore:
    """The score of one pair.

    Attributes:
        video: Name in the list.
        object_id: The instance.
        reference: Name of the frame that shows the instance.
        target: Name of the frame in which it must be found.
        overlap: Of prediction and truth.
    """

    video: str
    object_id: int
    reference: str
    target: str
    overlap: Overlap

    def to_dict(self) -> dict[str, Any]:
        """Convert everything to plain values, ready for JSON."""
        names = asdict(self)
        counts = names.pop("overlap")
        return names | counts | {"IoU": self.overlap.iou, "bIoU": self.overlap.boundary_iou}


@dataclass(frozen=True, slots=True, eq=False)
class PermisImageScores:
    """Scores of PerMIS-image.

    Attributes:
        protocol: "name" and "title", the rules in words, the counts, the checksum of the list.
        global_: "IoU-Pooled", "IoU-Mean", "bIoU-Pooled" and "bIoU-Mean" over all pairs.
        pairs: The score of each pair.
    """

    protocol: Mapping[str, Any]
    global_: Mapping[str, float]
    pairs: Sequence[PairScore]

    def to_json(self) -> str:
        """Write everything as JSON text; nothing is rounded."""
        pairs = [pair.to_dict() for pair in self.pairs]
        content = {"protocol": self.protocol, "global": self.global_, "pairs": pairs}
        return json.dumps(content, indent=1, allow_nan=False)

    def __repr__(self) -> str:
        return (
            f"PermisImageScores(IoU-Pooled={100 * self.global_['IoU-Pooled']:.1f} %, "
            f"IoU-Mean={100 * self.global_['IoU-Mean']:.1f} %, pairs={len(self.pairs)})"
        )


def evaluate_permis_images(
    permis: PermisList,
    predictions: str | Path,
    *,
    allow_missing: bool = False,
    say: Say = log.warning,
) -> PermisImageScores:
    """Score the pairs of a list.

    Args:
        permis: The list; each of its videos with an image part gives two pairs.
        predictions: Folder of masks in any layout of `propagate.eval.mask_trees`, or a BURST JSON,
            with the names of videos and frames of the list. The instance of a pair has its id of
            the list, so the masks of whole videos can be scored as they are. Other frames are not
            read.
        allow_missing: Leave out pairs without a prediction, and name them in the protocol.
        say: See `evaluate_permis`.

    Returns:
        The scores.

    Raises:
        EvaluationError: If the list has no pairs, or predictions are missing or cannot be used.
    """
    tree = open_predictions(predictions, permis)
    whole = [Wanted(v, v.image_part.targets) for v in permis.videos if v.image_part]
    if not whole:
        raise EvaluationError(
            "no video of this list has images for PerMIS-image", "build it from more annotations"
        )
    wanted, missing = find_predictions(tree, whole, allow_missing=allow_missing, say=say)
    objects = {v.name: v.image_part.object_id for v in permis.videos if v.image_part}
    pairs: list[PairScore] = []
    problems: list[UnusableMaskError] = []
    for video, target in ((item.video, t) for item in wanted for t in item.frames):
        try:
            pairs.append(_score_pair(tree, video, objects[video.name], target))
        except UnusableMaskError as error:
            problems.append(error)
    refuse(problems)
    pooled = sum((pair.overlap for pair in pairs), Overlap())
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
            "IoU-Pooled": pooled.iou,
            "IoU-Mean": float(np.mean([pair.overlap.iou for pair in pairs])),
            "bIoU-Pooled": pooled.boundary_iou,
            "bIoU-Mean": float(np.mean([pair.overlap.boundary_iou for pair in pairs])),
        },
        pairs=pairs,
    )


def _score_pair(tree: Predictions, video: PermisVideo, object_id: int, target: int) -> PairScore:
    pred = read_prediction(tree, video, target).mask(object_id)
    truth = video.truth(target) == object_id
    names = video.frame_names
    return PairScore(video.name, object_id, names[0], names[target], overlap(pred, truth))
