"""J and F against the definitions written out pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import dilation, disk

import propagate
from propagate.eval.metrics import (
    PixelGrid,
    region_similarity,
    score_all_pairs,
    score_frame,
    score_masks,
    statistics,
    tolerance_px,
)
from tests.paths import ROOT

quickly = settings(deadline=None, max_examples=100, database=None)
# Long frames: there the tolerance of the frame's size is more than one pixel.
sizes = st.one_of(
    st.tuples(st.integers(1, 11), st.integers(1, 11)),
    st.tuples(st.integers(1, 3), st.integers(100, 300)),
    st.tuples(st.integers(100, 300), st.integers(1, 3)),
)


@st.composite
def frames(draw, count=2, largest_id=1):
    """So many frames of one size: noise, or up to four boxes, so also lines, borders, nothing."""
    height, width = draw(sizes)
    drawn = []
    for _ in range(count):
        if height * width <= 121 and draw(st.booleans()):
            ids = st.integers(0, largest_id)
            drawn.append(draw(arrays(np.uint8, (height, width), elements=ids)))
            continue
        frame = np.zeros((height, width), dtype=np.uint8)
        for _ in range(draw(st.integers(0, 4))):
            y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
            bottom, right = draw(st.integers(y, height)), draw(st.integers(x, width))
            frame[y : bottom + 1, x : right + 1] = draw(st.integers(0, largest_id))
        drawn.append(frame)
    return drawn


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


def literal_without(ids, void):
    kept = [0 if v else i for i, v in zip(ids.flat, void.flat, strict=True)]
    return np.array(kept).reshape(ids.shape)


def literal_statistics(scores):
    """Mean, share above a half, and mean of the first quarter minus mean of the last."""
    n = len(scores)
    # Quarter q ends with frame q (n - 1) / 4, halves go up, and the next begins with it.
    cuts = [(q * (n - 1) + 2) // 4 for q in range(5)]

    def mean(some):
        return math.fsum(some) / len(some)

    first, last = scores[: cuts[1] + 1], scores[cuts[3] : cuts[4] + 1]
    return mean(scores), sum(x > 0.5 for x in scores) / n, mean(first) - mean(last)


def outline_of_array(mask):
    """The boundary map again: beyond the frame, its last row and column go on."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    lower_and_right = padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]
    return np.logical_or.reduce([mask != other for other in lower_and_right])


def unpack(grid, bits):
    """The (H, W) mask of an integer."""
    pixels = [
        [bits >> y * grid.stride + x & 1 for x in range(grid.width)] for y in range(grid.height)
    ]
    return np.array(pixels, dtype=bool)


# --- fast equals literal -------------------------------------------------------------------------


@quickly
@given(frames(), st.integers(0, 5))
def test_scores_equal_the_literal_definitions_to_the_last_bit(pair, radius):
    pred, truth = (ids == 1 for ids in pair)
    assert region_similarity(pred, truth) == literal_j(pred, truth)
    assert score_masks(pred, truth, radius) == (
        literal_j(pred, truth),
        literal_f(pred, truth, radius),
    )


@quickly
@given(frames(count=1), st.integers(0, 9))
def test_boundary_map_equals_the_literal_definition(frame, margin):
    mask = frame[0] == 1
    grid = PixelGrid(*mask.shape, margin_px=margin)
    marked = np.argwhere(unpack(grid, grid.boundary(grid.pack(mask))))
    assert [(int(y), int(x)) for y, x in marked] == literal_boundary(mask)


@pytest.mark.slow
@quickly
@given(frames(largest_id=4))
def test_objects_of_a_frame_are_scored_one_by_one_in_the_order_asked_for(pair):
    pred, truth = pair
    region, boundary = score_frame(pred, truth, (3, 1, 200))
    for row, object_id in enumerate((3, 1, 200)):
        masks = pred == object_id, truth == object_id
        assert region[row] == literal_j(*masks)
        assert boundary[row] == literal_f(*masks, tolerance_px(*truth.shape))


@pytest.mark.slow
@quickly
@given(frames(count=3, largest_id=3), st.booleans())
def test_all_pairs_are_scored_outside_void(three, is_void):
    pred, truth, void = three
    void = (void == 1) & is_void
    region, boundary = score_all_pairs(pred, truth, (2, 1, 3), (3, 2), void if is_void else None)
    pred, truth = literal_without(pred, void), literal_without(truth, void)
    for row, pred_id in enumerate((2, 1, 3)):
        for column, truth_id in enumerate((3, 2)):
            masks = pred == pred_id, truth == truth_id
            assert region[row, column] == literal_j(*masks)
            assert boundary[row, column] == literal_f(*masks, tolerance_px(*truth.shape))


@quickly
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@example([0.5])
def test_statistics_equal_the_literal_definitions(scores):
    found = statistics(np.array(scores))
    # Sums are taken in another order here.
    assert (found.mean, found.recall, found.decay) == pytest.approx(
        literal_statistics(scores), abs=1e-12
    )


@pytest.mark.slow
def test_windows_hold_on_a_real_frame_size_with_objects_on_every_edge():
    generator = np.random.default_rng(0)
    ids = (1, 2, 3)
    for _ in range(2):
        pair = np.zeros((2, 480, 854), dtype=np.uint8)
        for frame in pair:
            for object_id in ids:
                y, x = generator.integers(0, 480), generator.integers(0, 854)
                frame[y : y + 90, x : x + 150] = object_id
        # Whole frames, and scikit-image.
        outlines = [[outline_of_array(frame == i) for i in ids] for frame in pair]
        near = [[dilation(outline, disk(8)) for outline in frame] for frame in outlines]
        region, boundary = score_all_pairs(pair[0], pair[1], ids, ids)
        for p in range(3):
            for k in range(3):
                masks = pair[0] == p + 1, pair[1] == k + 1
                assert region[p, k] == (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
                precision = near[1][k][outlines[0][p]].mean()
                recall = near[0][p][outlines[1][k]].mean()
                expected = 2 * precision * recall / (precision + recall) if precision else 0
                assert boundary[p, k] == expected
        one_by_one = score_frame(pair[0], pair[1], ids)
        assert np.array_equal(one_by_one, (np.diag(region), np.diag(boundary)))


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8, 9, 10, 12, 18])
@pytest.mark.parametrize("spare", [0, 1, 5])
def test_dilation_by_a_disk_equals_scikit_image(radius, spare):
    mask = np.random.default_rng(radius).random((37, 53)) > 0.995
    mask[0, -1] = mask[-1, 7] = mask[5, 0] = True
    grid = PixelGrid(*mask.shape, margin_px=radius + spare)
    dilated = unpack(grid, grid.dilate(grid.pack(mask), radius))
    assert np.array_equal(dilated, dilation(mask, disk(radius)))


def test_no_object_and_no_proposal_make_empty_tables():
    ids = np.ones((4, 5), dtype=np.uint8)
    assert [scores.shape for scores in score_frame(ids, ids, ())] == [(0,)] * 2
    assert [scores.shape for scores in score_all_pairs(ids, ids, (), (1, 2))] == [(0, 2)] * 2
    assert [scores.shape for scores in score_all_pairs(ids, ids, (1,), ())] == [(1, 0)] * 2


# --- cases worth naming --------------------------------------------------------------------------


def test_two_empty_masks_score_one():
    empty = np.zeros((5, 7), dtype=bool)
    assert score_masks(empty, empty, 1) == (1, 1)


def test_one_empty_mask_scores_zero():
    empty, square = np.zeros((9, 9), dtype=bool), np.zeros((9, 9), dtype=bool)
    square[3:6, 3:6] = True
    for pair in ((empty, square), (square, empty)):
        assert score_masks(*pair, 1) == (0, 0)


def test_a_mask_of_the_whole_frame_has_no_boundary_and_so_matches_an_empty_one():
    full, empty = np.ones((6, 6), dtype=bool), np.zeros((6, 6), dtype=bool)
    assert score_masks(full, empty, 1) == (0, 1)


def test_a_pixel_has_four_boundary_pixels_inside_the_frame_and_one_in_the_first_corner():
    inside, corner = np.zeros((2, 5, 5), dtype=bool)
    inside[2, 2] = corner[0, 0] = True
    grid = PixelGrid(5, 5, margin_px=1)
    assert [grid.boundary(grid.pack(mask)).bit_count() for mask in (inside, corner)] == [4, 1]


def test_a_prediction_moved_within_the_tolerance_has_a_perfect_outline():
    truth, pred = np.zeros((2, 40, 40), dtype=bool)
    truth[10:20, 10:20] = pred[12:22, 10:20] = True
    assert score_masks(pred, truth, 2) == (80 / 120, 1)
    assert score_masks(pred, truth, 1)[1] < 1


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


@pytest.mark.parametrize("score", [region_similarity, lambda p, t: score_masks(p, t, 1)])
def test_masks_of_two_sizes_or_of_ids_are_refused(score):
    mask = np.zeros((4, 5), dtype=bool)
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(5, 4\)"):
        score(mask, mask.T)
    with pytest.raises(TypeError, match="uint8"):
        score(mask, mask.astype(np.uint8))


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"\(0,\)"):
        statistics(np.empty(0))


def test_two_masks_by_import():
    """On a square moved by one pixel, where both measures can be counted by hand."""
    truth = np.zeros((48, 64), bool)
    truth[10:20, 10:20] = True
    pred = np.roll(truth, 1, axis=1)
    assert propagate.region_similarity(pred, truth) == 90 / 110
    # The tolerance is 1 px for frames of this size, so every boundary pixel finds one.
    assert propagate.boundary_accuracy(pred, truth) == 1
    assert propagate.boundary_accuracy(np.roll(truth, 30, axis=1), truth) == 0
    with pytest.raises(TypeError, match="bool"):
        propagate.boundary_accuracy(pred.astype(np.uint8), truth)


def test_the_example_of_the_readme_prints_what_it_says(capsys):
    """J by hand: two squares of 16x16, 4 columns apart, share 12 of 20 columns."""
    text = (ROOT / "eval" / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    exec(compile(example, "README.md", "exec"), {})
    said = [line.split("# ")[1].split(",")[0] for line in example.splitlines() if "# " in line]
    assert said[-2:] == ["J: 0.6", "F: 0.46875"]
    assert capsys.readouterr().out.split() == ["0.6", "0.46875"]
