"""IoU and boundary IoU of two masks, as counts of pixels that can be added up.

Boundary IoU is the IoU of the boundary regions of two masks. A boundary region holds the pixels of
a mask up to a distance of 2 % of the image diagonal from a pixel outside it. The distance counts
steps in the 8-neighbourhood, and pixels beyond the image border count as outside.

Where the region is the whole mask, boundary IoU equals IoU. The minimum of both, which the authors
use for Boundary AP, is not taken.

Source: Cheng, Girshick, Dollar, Berg, Kirillov, "Boundary IoU", CVPR 2021, with the distance of its
released code.
"""

import math
from dataclasses import dataclass

import numpy as np

_DISTANCE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far two masks agree; the sum of several is `a + b`.

    Attributes:
        intersection_px: Of the masks.
        union_px: Of the masks.
        boundary_intersection_px: Of the boundary regions.
        boundary_union_px: Of the boundary regions.
    """

    intersection_px: int = 0
    union_px: int = 0
    boundary_intersection_px: int = 0
    boundary_union_px: int = 0

    @property
    def iou(self) -> float:
        """IoU; 1 if both masks are empty."""
        return self.intersection_px / self.union_px if self.union_px else 1.0

    @property
    def boundary_iou(self) -> float:
        """Boundary IoU; 1 if both masks are empty."""
        union_px = self.boundary_union_px
        return self.boundary_intersection_px / union_px if union_px else 1.0

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(
            self.intersection_px + other.intersection_px,
            self.union_px + other.union_px,
            self.boundary_intersection_px + other.boundary_intersection_px,
            self.boundary_union_px + other.boundary_union_px,
        )


def overlap(pred: np.ndarray, truth: np.ndarray) -> Overlap:
    """Count the pixels that two masks, and their boundary regions, have in common.

    Args:
        pred: (H, W) bool.
        truth: (H, W) bool.
    """
    distance_px = boundary_distance_px(*truth.shape)
    pred_region, truth_region = (boundary_region(mask, distance_px) for mask in (pred, truth))
    return Overlap(
        int(np.count_nonzero(pred & truth)),
        int(np.count_nonzero(pred | truth)),
        int(np.count_nonzero(pred_region & truth_region)),
        int(np.count_nonzero(pred_region | truth_region)),
    )


def boundary_distance_px(height: int, width: int) -> int:
    """Compute the depth of a boundary region: 2 % of the image diagonal, rounded, at least 1.

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
        mask: (H, W) bool. Pixels beyond the array count as outside.
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
