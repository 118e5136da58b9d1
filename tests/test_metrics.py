"""J and F against the definitions written out pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import dilation, disk

from propagate.eval.metrics import (
    boundary_f,
    boundary_map,
    dilate_disk,
    region_similarity,
    score_frame,
    statistics,
    tolerance_px,
)

quickly = settings(deadline=None, max_examples=60, database=None)
sizes = st.tuples(st.integers(1, 11), st.integers(1, 11))


def pairs_of_frames(largest_id):
    """Two frames of one size, as ids 0..largest_id."""
    ids = st.integers(0, largest_id)
    frame = sizes.flatmap(lambda size: arrays(np.uint8, (2, *size), elements=ids))
    return frame.map(tuple)


pairs_of_masks = pairs_of_frames(1).map(lambda pair: tuple(ids == 1 for ids in pair))


# --- the definitions, literally ------------------------------------------------------------------


def literal_boundary(mask):
    """Pixels that differ from the neighbour to the right, below, or both; as a list."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            inside = [(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (1, 1))]
            inside = [(v, u) for v, u in inside if v < height and u < width]
            if any(mask[v, u] != mask[y, x] for v, u in inside):
                found.append((y, x))
    return found


def literal_j(pred, truth):
    both = sum(bool(p and t) for p, t in zip(pred.flat, truth.flat, strict=True))
    either = sum(bool(p or t) for p, t in zip(pred.flat, truth.flat, strict=True))
    return both / either if either else 1.0


def literal_f(pred, truth, radius):
    a, b = literal_boundary(pred), literal_boundary(truth)
    if not a and not b:
        return 1.0
    if not a or not b:
        return 0.0

    def share(points, others):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points]
        return sum(near) / len(near)

    precision, recall = share(a, b), share(b, a)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


# --- fast equals literal -------------------------------------------------------------------------


@quickly
@given(pairs_of_masks, st.integers(0, 4))
def test_scores_equal_the_literal_definitions_to_the_last_bit(masks, radius):
    pred, truth = masks
    assert region_similarity(pred, truth) == literal_j(pred, truth)
    assert boundary_f(pred, truth, radius) == literal_f(pred, truth, radius)


@quickly
@given(pairs_of_masks)
def test_boundary_map_equals_the_literal_definition(masks):
    marked = [(int(y), int(x)) for y, x in np.argwhere(boundary_map(masks[0]))]
    assert marked == literal_boundary(masks[0])


@quickly
@given(pairs_of_frames(4))
def test_scoring_a_window_of_each_object_equals_scoring_the_whole_frame(frames):
    pred, truth = frames
    region, boundary = score_frame(pred, truth, 3)
    for row, object_id in enumerate((1, 2, 3)):
        masks = pred == object_id, truth == object_id
        assert region[row] == literal_j(*masks)
        assert boundary[row] == literal_f(*masks, tolerance_px(*truth.shape))


def test_windows_hold_on_a_real_frame_size_with_objects_on_every_edge():
    generator = np.random.default_rng(0)
    for _ in range(8):
        frames = np.zeros((2, 480, 854), dtype=np.uint8)
        for frame in frames:
            for object_id in (1, 2, 3):
                y, x = generator.integers(0, 480), generator.integers(0, 854)
                frame[y : y + 90, x : x + 150] = object_id
        region, boundary = score_frame(frames[0], frames[1], 3)
        for row in range(3):
            masks = frames[0] == row + 1, frames[1] == row + 1
            assert region[row] == region_similarity(*masks)
            assert boundary[row] == boundary_f(*masks, 8)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 8, 18])
def test_dilation_by_a_disk_equals_scikit_image(radius):
    mask = np.random.default_rng(radius).random((37, 53)) > 0.995
    mask[0, -1] = mask[-1, 7] = True
    assert np.array_equal(dilate_disk(mask, radius), dilation(mask, disk(radius)))


# --- cases worth naming --------------------------------------------------------------------------


def test_two_empty_masks_score_one():
    empty = np.zeros((5, 7), dtype=bool)
    assert region_similarity(empty, empty) == 1
    assert boundary_f(empty, empty, 1) == 1


def test_one_empty_mask_scores_zero():
    empty, square = np.zeros((9, 9), dtype=bool), np.zeros((9, 9), dtype=bool)
    square[3:6, 3:6] = True
    for pair in ((empty, square), (square, empty)):
        assert region_similarity(*pair) == 0
        assert boundary_f(*pair, 1) == 0


def test_a_mask_of_the_whole_frame_has_no_boundary_and_so_matches_an_empty_one():
    full, empty = np.ones((6, 6), dtype=bool), np.zeros((6, 6), dtype=bool)
    assert not boundary_map(full).any()
    assert region_similarity(full, empty) == 0
    assert boundary_f(full, empty, 1) == 1


def test_a_pixel_has_four_boundary_pixels_inside_the_frame_and_one_in_the_first_corner():
    inside, corner = np.zeros((2, 5, 5), dtype=bool)
    inside[2, 2] = corner[0, 0] = True
    assert boundary_map(inside).sum() == 4
    assert boundary_map(corner).sum() == 1


@pytest.mark.parametrize(
    ("width", "height", "tolerance"),
    [
        *((854, 480, 8), (853, 480, 8), (910, 480, 9), (1152, 480, 10), (1280, 720, 12)),
        *((1920, 1080, 18), (640, 360, 6), (100, 75, 1), (40, 1, 1)),
    ],
)
def test_tolerance_is_that_of_the_frame_size(width, height, tolerance):
    assert tolerance_px(height, width) == tolerance
    assert tolerance == math.ceil(0.008 * np.linalg.norm((height, width)))


def test_recall_counts_scores_above_a_half_but_not_a_half():
    assert statistics(np.array([0.5, 0.5, 0.75, 0.25])).recall == 0.25


@pytest.mark.parametrize(
    ("scores", "decay"),
    [
        ([0.7], 0.0),
        ([0.7, 0.2], 0.5),
        ([1.0, 0.5, 0.0], 0.75),  # frames 0-1 and frame 2
        ([1.0, 0.8, 0.4, 0.0], 0.7),  # frames 0-1 and 2-3
    ],
)
def test_decay_is_the_first_quarter_minus_the_last(scores, decay):
    assert statistics(np.array(scores)).decay == pytest.approx(decay, abs=1e-15)


@pytest.mark.parametrize("length", [255, 256, 257, 500, 3000])
def test_decay_is_true_beyond_255_frames(length):
    """A straight fall from 1 to 0 loses three quarters between the first and last quarter."""
    assert statistics(np.linspace(1, 0, length)).decay == pytest.approx(0.75, abs=2 / length)


# --- wrong arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize("score", [region_similarity, lambda p, t: boundary_f(p, t, 1)])
def test_masks_of_two_sizes_or_of_ids_are_refused(score):
    mask = np.zeros((4, 5), dtype=bool)
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(5, 4\)"):
        score(mask, mask.T)
    with pytest.raises(TypeError, match="uint8"):
        score(mask, mask.astype(np.uint8))


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"\(0,\)"):
        statistics(np.empty(0))
