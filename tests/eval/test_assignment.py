"""DAVIS-2017 unsupervised: against the official scorer, and the matching on hand-made cases."""

import json
from itertools import permutations

import numpy as np
import pytest

from propagate.errors import EvaluationError
from propagate.eval.assignment import match_proposals
from propagate.eval.davis import evaluate_davis
from tests.drawn_masks import draw_trees, frame, save
from tests.official_scorers import all_cases, needs_oracle, official, params

UNSUP = "davis2017.unsup"

# What davis2017-evaluation scores: every number equal to the last bit.
EQUAL = (
    *("c01_basic", "c02_missing_object", "c03_empty_gt_frames", "c04a_late_predicted"),
    *("c04b_late_unpredicted", "c04d_only_in_first", "c04e_only_in_last", "c05a_extra_pred_id"),
    *("c06_thin", "c07a_borders", "c07b_full_frame", "c08a_853x480", "c08c_one_row"),
    *("c08d_1080p", "c10a_two_frames", "c10b_three_frames", "c10c_one_frame", "c10d_lengths"),
    *("c11_ten_objects", "c12_void", "c14_mode_1", "c14_pred_l", "c14_pred_pshort"),
    *("c15c_extra_frames", "c15g_stray_files", "c15k_sparse_gt", "c18_all_zero", "c18_perfect"),
    *("c19_iou_exactly_half", "c20a_unsup_permuted", "c23_same_box"),
)
# All but its decay, which overflows there.
EQUAL_BUT_DECAY = ("c10e_long_300",)
# What it cannot read, and we score: files it does not need, and colours that are those of ids.
SCORED = (
    "c14_gt_rgb",
    "c14_pred_rgb",
    "c14_pred_rgba",
    "c15i_no_jpegs",
    "c15j_first_annotation_only",
)
NO_OBJECT = r"00000.png: no object in the first annotated frame"
# Where it exits without a word, crashes, or averages nothing, and we say why.
REFUSED = {
    "c05c_pred_255": r"pred-255/00000.png: id 255, above the 20 proposals that are allowed",
    "c13a_half_res": r"halfres/00000.png: 100x60 pixels, the truth 200x120",
    "c13b_one_frame_res": r"oneres/00003.png: 199x120 pixels, the truth 200x120",
    "c13c_transposed": r"transposed/00000.png: 120x200 pixels, the truth 200x120",
    "c14_antialiased": r"soft/00000.png: id \d+, above the 20 proposals",
    "c14_davis2016_pred01": NO_OBJECT,
    "c14_davis2016_style": NO_OBJECT,
    "c14_gt01_pred255": r"p255/00000.png: id 255, above the 20 proposals",
    "c15a_missing_middle": r"gap/00003.png: missing; predict every scored frame",
    "c15b_missing_first_last": r"ends/00000.png: missing; .*ends/00006.png: missing; predict",
    "c15d_missing_sequence": r"pred/gone: no such folder; predict every scored frame",
    "c15e_corrupt_png": r"corrupt/00003.png: no readable image",
    "c16_noncontiguous_ids": r"ids/00000.png: id 38, above the 20 proposals",
    "c17_empty_first_frame": NO_OBJECT,
    "c20c_unsup_21_proposals": r"many-prop/00000.png: id 21, above the 20 proposals",
}


@pytest.fixture
def evaluate(evaluate_case):
    return lambda case: evaluate_case(case, task="unsupervised")


def in_official_order(scores):
    """By sequence, the positions of the objects in the order of their proposals."""
    return {name: np.argsort(proposals) for name, proposals in scores.proposals.items()}


@needs_oracle
def test_every_case_of_the_oracle_is_in_one_of_the_tables():
    tables = [*EQUAL, *EQUAL_BUT_DECAY, *SCORED, *REFUSED]
    assert sorted(tables) == all_cases()


@pytest.mark.parametrize("name", params([*EQUAL, *EQUAL_BUT_DECAY]))
def test_all_numbers_equal_the_official_ones_to_the_last_bit(name, evaluate):
    expected, scores = official(name, UNSUP), evaluate(name)
    assert scores.per_frame.keys() == expected["per_frame"].keys()
    pairs = [(scores.global_, expected["global"])]
    for sequence, order in in_official_order(scores).items():
        for measure in ("J", "F"):
            rows = scores.per_frame[sequence][measure]
            assert [rows[k] for k in order] == expected["per_frame"][sequence][measure]
        for number, k in enumerate(order, start=1):
            ours = scores.per_object[f"{sequence}_{scores.object_ids[sequence][k]}"]
            pairs.append((ours, expected["per_object"][f"{sequence}_{number}"]))
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        for column, value in theirs.items():
            if name in EQUAL_BUT_DECAY and column.endswith("Decay"):
                assert value == "nan"
            else:
                assert ours[column] == value


@needs_oracle
@pytest.mark.parametrize("name", SCORED)
def test_files_that_the_official_tool_cannot_read_are_scored(name, evaluate):
    assert official(name, UNSUP) == {}
    assert 0 < evaluate(name).global_["J&F-Mean"] <= 1


@pytest.mark.parametrize("name", params(REFUSED))
def test_what_cannot_be_scored_is_one_line_that_names_the_file(name, evaluate):
    with pytest.raises(EvaluationError, match=REFUSED[name]) as caught:
        evaluate(name)
    assert "\n" not in str(caught.value)


# --- rules, on frames small enough to count by hand ----------------------------------------------


@pytest.fixture
def trees(tmp_path):
    return draw_trees(tmp_path)


def two_objects(first, second):
    """Two squares, one beside the other."""
    return frame(object_id=first) + frame(shift=10, object_id=second)


def test_ids_are_free_and_all_frames_count(trees):
    truth, pred = trees
    for index in range(5):
        save(truth / "ant" / f"{index:05d}.png", two_objects(1, 2))
        save(pred / "ant" / f"{index:05d}.png", two_objects(7, 4))
    scores = evaluate_davis(truth, pred, task="unsupervised")
    assert scores.proposals["ant"] == [7, 4]
    assert scores.object_ids["ant"] == [1, 2]
    assert scores.per_frame["ant"] == {"J": [[1.0] * 5] * 2, "F": [[1.0] * 5] * 2}
    assert json.loads(scores.to_json())["proposals"]["ant"] == [7, 4]


def test_one_object_has_one_proposal_in_all_frames(trees):
    truth, pred = trees
    for index in range(5):
        save(pred / "ant" / f"{index:05d}.png", frame(object_id=1 if index < 3 else 2))
    scores = evaluate_davis(truth, pred, task="unsupervised")
    assert scores.per_frame["ant"]["J"] == [[1.0, 1.0, 1.0, 0.0, 0.0]]


def test_an_object_without_a_proposal_of_its_own_gets_an_empty_one(trees):
    truth, pred = trees
    for index in range(5):
        save(truth / "ant" / f"{index:05d}.png", two_objects(1, 2))
        save(pred / "ant" / f"{index:05d}.png", frame(shift=10, object_id=1))
    scores = evaluate_davis(truth, pred, task="unsupervised")
    assert scores.proposals["ant"] == [2, 1]
    assert scores.per_frame["ant"]["J"] == [[0.0] * 5, [1.0] * 5]


def test_pixels_of_255_count_neither_for_nor_against(trees):
    truth, pred = trees
    for index in range(5):
        save(truth / "ant" / f"{index:05d}.png", frame() + frame(shift=8, object_id=255))
        save(pred / "ant" / f"{index:05d}.png", two_objects(1, 1))
    scores = evaluate_davis(truth, pred, task="unsupervised")
    # Of the second predicted square 6 columns lie on void and 2 beyond.
    assert scores.per_frame["ant"]["J"] == [[64 / (64 + 2 * 8)] * 5]
    assert scores.protocol["exceptions"]["void_sequences"] == ["ant"]


def test_the_truth_made_for_the_task_is_preferred(trees, tmp_path):
    truth, pred = trees
    root = tmp_path / "DAVIS"
    for folder in ("Annotations", "Annotations_unsupervised"):
        (root / folder).mkdir(parents=True)
    truth.rename(root / "Annotations_unsupervised" / "480p")
    save(root / "Annotations" / "480p" / "cat" / "00000.png", frame())
    scores = evaluate_davis(root, pred, task="unsupervised")
    assert list(scores.frames) == ["ant", "bee"]


def test_proposals_that_overlap_are_refused(trees, tmp_path):
    truth, _ = trees
    for name in ("ant", "bee"):
        for index in range(5):
            for object_id in ("1", "2"):
                save(tmp_path / "over" / name / object_id / f"{index:05d}.png", frame())
    with pytest.raises(EvaluationError, match=r"ant/\*/00000.png: objects overlap"):
        evaluate_davis(truth, tmp_path / "over", task="unsupervised")


# --- the matching --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_no_other_matching_has_a_larger_sum(seed):
    rng = np.random.default_rng(seed)
    region, boundary = rng.random((2, 5, 3, 4))  # (P, K, T) each
    quality = (region + boundary).mean(axis=2) / 2
    rows = match_proposals(region, boundary)
    assert len(set(rows)) == 3
    best = max(sum(quality[p, k] for k, p in enumerate(ps)) for ps in permutations(range(5), 3))
    assert sum(quality[p, k] for k, p in enumerate(rows)) == pytest.approx(best, abs=1e-12)


def test_the_boundary_can_decide_the_matching():
    region, boundary = np.zeros((2, 2, 2, 1))
    region[:, 0, 0] = 0.6, 0.5
    boundary[:, 0, 0] = 0.1, 0.9
    assert match_proposals(region, boundary).tolist() == [1, 0]


def test_fewer_proposals_than_objects_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="at least as many proposals"):
        match_proposals(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)))
