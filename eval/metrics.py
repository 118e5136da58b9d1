"""Region similarity J and boundary accuracy F, as the DAVIS benchmark defines them.

Every count is an integer and every score one division of two counts, so the scores are bit-equal to
those of davis2017-evaluation. All functions are pure.

For speed, masks are cropped to a window around the object and packed into one Python integer, one
bit for each pixel. Moving a mask is then a shift, joining two is `|`, comparing them is `^`, and
counting pixels is `bit_count`: each is one pass over a few kilobytes.

Key: H W rows and columns of a frame, P K predicted and true objects, T scored frames.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016, section 5; boundary maps and matching after Martin, Fowlkes and Malik,
PAMI 2004.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

_TOLERANCE_SHARE = 0.008
_RECALL_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures that DAVIS reports for one object.

    Each summarises J or F over time.

    Attributes:
        mean: Over the scored frames.
        recall: Share of the frames with a score above 0.5.
        decay: Mean of the first quarter of the frames minus that of the last; positive if the
            scores fall.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """The order of a window's pixels in an integer: pixel (y, x) is bit `y * stride + x`.

    At least `margin_px` empty bits follow each row. Pixels that move sideways out of a row, by up
    to that many pixels, land there and not in the next row.

    Attributes:
        height: Rows, 1 or more.
        width: Columns, 1 or more.
        margin_px: The largest sideways move.
    """

    height: int
    width: int
    margin_px: int

    @property
    def stride(self) -> int:
        """Bits from one row to the next, a multiple of 8."""
        return (self.width + self.margin_px + 7) // 8 * 8

    def pack(self, mask: np.ndarray) -> int:
        """Turn a mask, (height, width) bool, into its integer."""
        rows = np.zeros((self.height, self.stride), dtype=bool)
        rows[:, : self.width] = mask
        return int.from_bytes(np.packbits(rows, bitorder="little").tobytes(), "little")

    def boundary(self, bits: int) -> int:
        """Mark the pixels whose right, lower or lower-right neighbour has another value.

        Pixels outside the window are no neighbours, so a mask that fills the window has no
        boundary.
        """
        stride = self.stride
        row = ((1 << self.width - 1) - 1).to_bytes(stride // 8, "little")
        has_right = int.from_bytes(row * self.height, "little")
        has_lower = (1 << stride * (self.height - 1)) - 1
        right = (bits ^ bits >> 1) & has_right
        lower = (bits ^ bits >> stride) & has_lower
        lower_right = (bits ^ bits >> stride + 1) & has_right & has_lower
        return right | lower | lower_right

    def dilate(self, bits: int, radius_px: int) -> int:
        """Mark every pixel within a Euclidean distance, up to `margin_px`, of a marked one.

        A disk is a stack of horizontal runs, which grow from its rim to its middle. So the run is
        widened row by row, and the runs so far move one row up and one row down each time.

        Bits outside the window may be set too.
        """
        stride, half_width, run, above, below = self.stride, 0, bits, 0, 0
        for dy in range(radius_px, -1, -1):
            goal = math.isqrt(radius_px * radius_px - dy * dy)
            while half_width < goal:
                # Two copies of a run leave no gap between them up to its own length.
                step = min(2 * half_width + 1, goal - half_width)
                run |= run << step | run >> step
                half_width += step
            above = above >> stride | run
            below = below << stride | run
        return above | below


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """One mask, prepared for comparison with others on the same grid.

    Attributes:
        inside: Its pixels.
        boundary: Its boundary pixels.
        near: The pixels within the tolerance of its boundary; bits outside the window mean nothing.
        inside_px: The number of its pixels.
        boundary_px: The number of its boundary pixels.
    """

    inside: int
    boundary: int
    near: int
    inside_px: int
    boundary_px: int


def tolerance_px(height: int, width: int) -> int:
    """Compute the distance up to which two boundary pixels match.

    It is 0.8 % of the diagonal, rounded up.

    Args:
        height: Of the whole frame, pixels.
        width: Of the whole frame, pixels.

    Returns:
        Pixels: 8 at 854x480, 18 at 1920x1080.
    """
    return math.ceil(_TOLERANCE_SHARE * math.sqrt(height * height + width * width))


def region_similarity(pred: np.ndarray, truth: np.ndarray) -> float:
    """Compute J, the intersection over union of two masks.

    Args:
        pred: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        A fraction, 0..1; 1 if both masks are empty.

    Raises:
        TypeError: If a mask is not bool.
        ValueError: If the masks are not two-dimensional or differ in size.
    """
    _check_pair(pred, truth)
    return _jaccard(int(np.count_nonzero(pred & truth)), int(np.count_nonzero(pred | truth)))


def boundary_accuracy(pred: np.ndarray, truth: np.ndarray) -> float:
    """Compute F, how well the boundaries of two masks match within `tolerance_px` (DAVIS 2016).

    The tolerance is 0.8 % of the diagonal, rounded up to whole pixels: 8 at 854x480.

    Args:
        pred: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        A fraction, 0..1; 1 if neither mask has a boundary, 0 if only one has.

    Raises:
        TypeError: If a mask is not bool.
        ValueError: If the masks are not two-dimensional or differ in size.
    """
    _check_pair(pred, truth)
    return score_masks(pred, truth, tolerance_px(*truth.shape))[1]


def score_masks(pred: np.ndarray, truth: np.ndarray, tolerance_px: int) -> tuple[float, float]:
    """Compute J and F of one object in one frame.

    F is the harmonic mean of boundary precision and boundary recall. A boundary pixel is matched if
    any boundary pixel of the other mask lies within the tolerance, by Euclidean distance. Several
    pixels may match the same one.

    Args:
        pred: (H, W) bool.
        truth: (H, W) bool.
        tolerance_px: Largest distance of a match, pixels; 0 or more.

    Returns:
        J as `region_similarity` gives it, and F: 0..1; 1 if neither mask has a boundary, 0 if only
        one has.

    Raises:
        TypeError: If a mask is not bool.
        ValueError: If the masks are not two-dimensional or differ in size.
    """
    _check_pair(pred, truth)
    pred, truth = _crop(pred, truth)
    if not pred.size:
        return 1.0, 1.0
    return _score_pair(_shape(pred, tolerance_px), _shape(truth, tolerance_px))


def score_frame(
    pred_ids: np.ndarray, truth_ids: np.ndarray, object_ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Score some objects of one frame, each against the prediction with its own id.

    Args:
        pred_ids: (H, W) integer ids.
        truth_ids: (H, W) integer ids.
        object_ids: K ids above 0, in any order; other ids count as background.

    Returns:
        J and F, each (K,) float64, in the order of `object_ids`.

    Raises:
        ValueError: If the two are not two-dimensional or differ in size.
    """
    _check_shapes(pred_ids, truth_ids)
    tolerance = tolerance_px(*truth_ids.shape)
    pred_ids, truth_ids = _crop(pred_ids, truth_ids)
    scores = [score_masks(pred_ids == i, truth_ids == i, tolerance) for i in object_ids]
    region, boundary = np.array(scores, dtype=np.float64).reshape(-1, 2).T
    return region, boundary


def score_all_pairs(
    pred_ids: np.ndarray,
    truth_ids: np.ndarray,
    pred_object_ids: Sequence[int],
    truth_object_ids: Sequence[int],
    void: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score every predicted object of one frame against every true one.

    Args:
        pred_ids: (H, W) integer ids.
        truth_ids: (H, W) integer ids.
        pred_object_ids: P ids above 0, in any order.
        truth_object_ids: K ids above 0, in any order.
        void: (H, W) bool, pixels that are removed from all objects, true and predicted, before
            their boundaries are computed. None for no such pixels.

    Returns:
        J and F, each (P, K) float64.

    Raises:
        ValueError: If the arrays are not two-dimensional or differ in size.
    """
    _check_shapes(pred_ids, truth_ids)
    if void is not None:
        _check_shapes(void, truth_ids)
        pred_ids, truth_ids = np.where(void, 0, pred_ids), np.where(void, 0, truth_ids)
    tolerance = tolerance_px(*truth_ids.shape)
    pred_ids, truth_ids = _crop(pred_ids, truth_ids)
    preds = [_shape_in_rows(pred_ids == i, tolerance) for i in pred_object_ids]
    truths = [_shape_in_rows(truth_ids == i, tolerance) for i in truth_object_ids]
    scores = np.array([_score_pair(p, t) for p in preds for t in truths], dtype=np.float64)
    region, boundary = scores.reshape(len(preds), len(truths), 2).transpose(2, 0, 1)
    return region, boundary


def statistics(scores: np.ndarray) -> Statistics:
    """Summarise the scores of one object over its scored frames.

    For the decay, the frames are cut into quarters that share their border frames. Here the cuts
    are plain integers. davis2017-evaluation keeps them in 8 bits, so from 256 scored frames on its
    decay is NaN or wrong.

    Args:
        scores: (T,) float, T at least 1.

    Returns:
        Mean, recall and decay.

    Raises:
        ValueError: If there is no score, or `scores` is not one-dimensional.
    """
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"scores: (T,) with T >= 1, not {scores.shape}")
    # Half a frame rounds up, in spite of numpy's rounding half to even.
    cuts = np.round(np.linspace(1, scores.size, 5) + 1e-10).astype(np.int64) - 1
    first_quarter = scores[cuts[0] : cuts[1] + 1]
    last_quarter = scores[cuts[3] : cuts[4] + 1]
    return Statistics(
        mean=float(np.mean(scores)),
        recall=float(np.mean(scores > _RECALL_THRESHOLD)),
        decay=float(np.mean(first_quarter) - np.mean(last_quarter)),
    )


def _crop(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop two masks, or two frames of ids, to the pixels that are not 0 in either.

    The window has one more pixel on each side, where the frame has one, so that its boundary map is
    that of the frame. If no pixel is left, it is of shape (0, 0).
    """
    either = pred | truth
    columns = np.flatnonzero(either.any(axis=0))
    if not columns.size:
        return pred[:0, :0], truth[:0, :0]
    across = slice(max(columns[0] - 1, 0), columns[-1] + 2)
    rows = np.flatnonzero(either[:, across].any(axis=1))
    down = slice(max(rows[0] - 1, 0), rows[-1] + 2)
    return pred[down, across], truth[down, across]


def _shape(mask: np.ndarray, tolerance_px: int) -> _Shape:
    grid = PixelGrid(*mask.shape, margin_px=tolerance_px)
    inside = grid.pack(mask)
    boundary = grid.boundary(inside)
    near = grid.dilate(boundary, tolerance_px)
    return _Shape(inside, boundary, near, inside.bit_count(), boundary.bit_count())


def _shape_in_rows(mask: np.ndarray, tolerance_px: int) -> _Shape:
    """Prepare a mask as `_shape` does, but compute only the rows that the object can reach."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return _Shape(0, 0, 0, 0, 0)
    # The boundary begins one row above the object. `near` may leave the window at the bottom.
    top = max(int(rows[0]) - 1 - tolerance_px, 0)
    shape = _shape(mask[top : rows[-1] + 2], tolerance_px)
    offset = top * PixelGrid(*mask.shape, margin_px=tolerance_px).stride
    return replace(
        shape,
        inside=shape.inside << offset,
        boundary=shape.boundary << offset,
        near=shape.near << offset,
    )


def _score_pair(pred: _Shape, truth: _Shape) -> tuple[float, float]:
    """Compute J and F of two shapes on one grid."""
    both_px = (pred.inside & truth.inside).bit_count()
    region = _jaccard(both_px, pred.inside_px + truth.inside_px - both_px)
    if not pred.boundary_px or not truth.boundary_px:
        return region, float(pred.boundary_px == truth.boundary_px)
    precision = (pred.boundary & truth.near).bit_count() / pred.boundary_px
    recall = (truth.boundary & pred.near).bit_count() / truth.boundary_px
    if precision + recall == 0:
        return region, 0.0
    return region, 2 * precision * recall / (precision + recall)


def _jaccard(intersection_px: int, union_px: int) -> float:
    return intersection_px / union_px if union_px else 1.0


def _check_pair(pred: np.ndarray, truth: np.ndarray) -> None:
    _check_shapes(pred, truth)
    if pred.dtype != bool or truth.dtype != bool:
        raise TypeError(f"pred, truth: bool masks, not {pred.dtype} and {truth.dtype}")


def _check_shapes(pred: np.ndarray, truth: np.ndarray) -> None:
    if pred.ndim != 2 or pred.shape != truth.shape:
        raise ValueError(
            f"pred, truth: (H, W) of the same size, not {pred.shape} and {truth.shape}"
        )
