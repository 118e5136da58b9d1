"""Identity switches, by hand, against a slow literal count, and over folders of masks."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.identity import (
    IdentityCounts,
    count_identity,
    evaluate_identity,
    instance_under,
)
from propagate.eval.mask_trees import open_mask_tree

SIZE = 24
# Left, right: two look-alikes of 8x8 that touch, and a third apart from them.
PLACES = {1: (4, 4), 2: (4, 12), 3: (14, 4)}
TRUTH = np.zeros((SIZE, SIZE), dtype=np.uint8)
for _id, (_top, _left) in PLACES.items():
    TRUTH[_top : _top + 8, _left : _left + 8] = _id


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def under(pred: np.ndarray, own: int = 1, truth: np.ndarray = TRUTH) -> int:
    return instance_under(pred, truth, own, [1, 2, 3])


# --- one frame -----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [1, 2, 3])
@pytest.mark.parametrize("instance", [1, 2, 3])
def test_a_prediction_lies_on_the_instance_it_covers(own: int, instance: int):
    assert under(np.equal(TRUTH, instance), own) == instance


def test_an_empty_prediction_lies_on_none():
    assert under(box(0, 0, 0, 0)) == 0


def test_a_prediction_in_the_background_lies_on_none():
    assert under(box(14, 14, 8, 8)) == 0


def test_a_sloppy_border_over_the_neighbour_changes_nothing():
    assert under(box(3, 3, 10, 12)) == 1  # 64 pixels of its own, 24 of the neighbour


def test_a_prediction_that_only_grazes_another_instance_lies_on_none():
    assert under(box(0, 18, 8, 6)) == 0  # 8 pixels of instance 2, of 48


def test_a_part_of_an_instance_lies_on_it():
    assert under(box(5, 13, 2, 3)) == 2


def test_a_prediction_too_large_lies_on_the_instance_inside_it():
    assert under(box(12, 0, 12, 18)) == 3  # 216 pixels, 64 of them on the instance


def test_of_several_instances_the_one_with_most_pixels_counts():
    assert under(box(4, 9, 8, 8)) == 2  # 5 columns of the other, 3 of its own
    assert under(box(4, 9, 8, 8), own=3) == 2


def test_of_equal_shares_its_own_instance_counts():
    merged = box(4, 4, 8, 16)
    assert under(merged, own=1) == 1
    assert under(merged, own=2) == 2
    assert under(merged, own=3) == 1  # not its own: the lowest id


def test_half_of_the_smaller_one_is_enough_and_less_is_not():
    assert under(box(0, 4, 8, 8)) == 1  # 32 of 64
    assert under(box(0, 4, 7, 8)) == 0  # 24 of 56


def test_an_absent_instance_is_lain_on_by_nobody():
    gone = np.where(TRUTH == 1, 0, TRUTH).astype(np.uint8)
    assert under(TRUTH == 1, truth=gone) == 0
    assert under(TRUTH == 2, truth=gone) == 2


def test_an_instance_of_another_class_is_none_of_its_rivals():
    assert instance_under(TRUTH == 2, TRUTH, 1, [1, 3]) == 0


def test_void_pixels_of_the_prediction_do_not_count():
    truth = TRUTH.copy()
    pred = box(10, 12, 12, 8)
    assert under(pred, truth=truth) == 0  # 16 of 96
    truth[14:, 12:] = 255
    assert under(pred, truth=truth) == 2  # 16 of the 32 that are known


def test_sizes_that_differ_are_a_wrong_argument():
    with pytest.raises(ValueError, match="of the same size"):
        instance_under(np.zeros((3, 4), dtype=bool), TRUTH, 1, [1])


def slow_instance_under(pred: np.ndarray, truth_ids: np.ndarray, own: int, rivals: list[int]):
    shared = dict.fromkeys(rivals, 0)
    pred_px = 0
    for y in range(pred.shape[0]):
        for x in range(pred.shape[1]):
            if pred[y, x] and truth_ids[y, x] != 255:
                pred_px += 1
                if truth_ids[y, x] in shared:
                    shared[int(truth_ids[y, x])] += 1
    most = max(shared.values())
    first = [i for i in rivals if shared[i] == most]
    chosen = own if own in first else min(first)
    true_px = sum(int(v == chosen) for v in truth_ids.ravel())
    if most == 0 or most < min(pred_px, true_px) / 2:
        return 0
    return chosen


@given(
    arrays(np.bool_, (5, 6)),
    arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 3, 4, 255])),
    st.sampled_from([1, 2]),
)
def test_one_frame_is_counted_as_by_the_literal_loop(
    pred: np.ndarray, truth_ids: np.ndarray, own: int
):
    expected = slow_instance_under(pred, truth_ids, own, [1, 2, 3])
    assert instance_under(pred, truth_ids, own, [1, 2, 3]) == expected


# --- over time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "on_other", "switches"),
    [
        ([1, 1, 1], 0, 0),
        ([2, 2, 2], 3, 1),  # it starts on its own, in the reference
        ([1, 2, 1, 2], 2, 2),
        ([1, 2, 3, 2], 3, 1),  # from one wrong instance to the next is no new switch
        ([1, 0, 0, 2], 1, 1),  # lost in between
        ([2, 0, 2], 2, 1),  # lost, and back on the same wrong one
        ([2, 0, 1, 2], 2, 2),
        ([0, 0], 0, 0),
        ([], 0, 0),
    ],
)
def test_switches_are_moves_from_the_own_instance_to_another(
    row: list[int], on_other: int, switches: int
):
    assert count_identity(1, row) == IdentityCounts(len(row), on_other, switches)


@given(st.lists(st.integers(0, 3)))
def test_counts_are_those_of_the_literal_definition(row: list[int]):
    known = [i for i in [1, *row] if i]
    switches = sum(a == 1 and b != 1 for a, b in pairwise(known))
    on_other = len([i for i in row if i not in (0, 1)])
    assert count_identity(1, row) == IdentityCounts(len(row), on_other, switches)


# --- folders of masks ----------------------------------------------------------------------------


def write_clip(root: Path, name: str, frames: list[np.ndarray]) -> None:
    (root / name).mkdir(parents=True)
    for index, ids in enumerate(frames):
        Image.fromarray(ids.astype(np.uint8)).save(root / name / f"{index:05d}.png")


SWAPPED = np.choose(TRUTH, [0, 2, 1, 3])
LATE = np.choose(TRUTH, [0, 1, 2, 0])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """`swap`: 1 and 2 change places in frame 2 of 0..3. `late`: 3 enters in frame 1, and 2's
    prediction goes there.
    """
    write_clip(tmp_path / "truth", "swap", [TRUTH] * 4)
    write_clip(tmp_path / "pred", "swap", [TRUTH, TRUTH, SWAPPED, TRUTH])
    write_clip(tmp_path / "truth", "late", [LATE, TRUTH, TRUTH])
    write_clip(tmp_path / "pred", "late", [LATE, LATE, np.choose(TRUTH, [0, 1, 0, 2])])
    return tmp_path


def evaluate(root: Path, **kwargs: object):
    trees = open_mask_tree(root / "truth"), open_mask_tree(root / "pred")
    return evaluate_identity(*trees, **kwargs)  # pyright: ignore[reportArgumentType]


def test_a_swap_is_two_switches_and_a_late_instance_can_be_lain_on(clips: Path):
    scores = evaluate(clips)
    assert scores.under["swap"] == {1: [1, 2, 1], 2: [2, 1, 2], 3: [3, 3, 3]}
    assert scores.under["late"] == {1: [1, 1], 2: [2, 3]}
    assert scores.per_sequence["swap"] == IdentityCounts(9, 2, 2)
    assert scores.per_object["late_2"] == IdentityCounts(2, 1, 1)
    assert scores.total == IdentityCounts(13, 3, 3)
    assert scores.total.share == 3 / 13


def test_only_instances_of_one_class_are_rivals(clips: Path):
    classes = {"swap": {1: "cat", 2: "dog", 3: "cat"}}
    scores = evaluate(clips, classes=classes)
    assert scores.under["swap"] == {1: [1, 0, 1], 2: [2, 0, 2], 3: [3, 3, 3]}
    assert scores.per_sequence["late"].switches == 1  # not named: all of one class


def test_an_id_without_a_class_is_alone_in_its_own(clips: Path):
    assert evaluate(clips, classes={"swap": {1: "cat"}}).per_sequence["swap"].on_other == 0


def test_the_numbers_go_into_json_with_the_share(clips: Path):
    content = evaluate(clips).to_dict()
    assert content["per_sequence"]["swap"] == {
        "object_frames": 9,
        "on_other": 2,
        "share": 2 / 9,
        "switches": 2,
    }
    assert content["under"]["late"] == {"1": [1, 1], "2": [2, 3]}


def test_a_prediction_of_another_size_is_refused(clips: Path):
    Image.fromarray(TRUTH[:20]).save(clips / "pred" / "swap" / "00002.png")
    with pytest.raises(EvaluationError, match=r"swap/00002.png: 24x20 pixels, the truth 24x24"):
        evaluate(clips)


def test_a_missing_prediction_is_refused(clips: Path):
    (clips / "pred" / "late" / "00002.png").unlink()
    with pytest.raises(EvaluationError, match=r"late/00002.png"):
        evaluate(clips)


def test_a_clip_of_one_mask_is_refused(clips: Path):
    write_clip(clips / "truth", "one", [TRUTH])
    with pytest.raises(EvaluationError, match=r"one: true masks in this sequence: 1"):
        evaluate(clips)
