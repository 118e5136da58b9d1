"""PerMIR: average precision, ranks, and tables of similarities."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import EvaluationError
from propagate.eval.permis.images import evaluate_permis_images
from propagate.eval.permis.list import PermisList
from propagate.eval.permis.retrieval import average_precision, evaluate_permis_retrieval, first_rank
from tests.drawn_permis import (
    SPLITS,
    TEST,
    VAL,
    build,
    similarities,
    true,
    write_predictions,
    write_table,
)


@pytest.mark.parametrize(
    ("scores", "relevant", "expected"),
    [
        ([0.9, 0.8, 0.1], [1, 1, 0], 1.0),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 5 / 6),  # scikit-learn's own example: 0.83...
        ([0.9, 0.8, 0.7], [0, 0, 1], 1 / 3),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 1], 0.5),  # no order among equals
    ],
)
def test_average_precision_of_known_cases(
    scores: list[float], relevant: list[int], expected: float
):
    assert average_precision(np.array(scores), np.array(relevant, bool)) == pytest.approx(expected)


def slow_average_precision(scores: list[int], relevant: list[bool]) -> float:
    """The area under precision over recall, a step at every distinct score."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [r for s, r in zip(scores, relevant, strict=True) if s >= threshold]
        precision = sum(taken) / len(taken)
        total += (sum(taken) / sum(relevant) - recall) * precision
        recall = sum(taken) / sum(relevant)
    return total


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1))
def test_average_precision_is_that_of_the_literal_curve(table: list[tuple[int, bool]]):
    table.append((3, True))
    scores, relevant = map(list, zip(*table, strict=True))
    expected = slow_average_precision(scores, relevant)
    assert average_precision(np.array(scores), np.array(relevant)) == pytest.approx(expected)


def test_without_a_relevant_image_there_is_no_average_precision():
    with pytest.raises(ValueError, match="relevant"):
        average_precision(np.array([1.0]), np.array([False]))


def test_irrelevant_images_of_equal_score_come_first():
    scores = np.array([0.5, 0.5, 0.5, 0.9])
    assert first_rank(scores, np.array([True, True, False, False])) == 3
    assert first_rank(scores, np.array([True, True, False, True])) == 1


@pytest.mark.parametrize("name", ["table.csv", "table.json"])
def test_retrieval_finds_the_other_frames_of_the_video(
    tmp_path: Path, permis: PermisList, name: str
):
    path = write_table(tmp_path / name, *similarities(permis))
    scores = evaluate_permis_retrieval(permis, path)
    assert (scores.protocol["queries"], scores.protocol["gallery"]) == (2, 6)
    # Five images are ranked, the query's own is not. VAL: ranks 1 and 5; TEST: 4 and 5.
    assert scores.per_query[VAL] == {"AP": (1 / 1 + 2 / 5) / 2, "rank": 1}
    assert scores.per_query[TEST] == {"AP": (1 / 4 + 2 / 5) / 2, "rank": 4}
    assert scores.global_["mAP"] == pytest.approx((0.7 + 0.325) / 2)
    assert [scores.global_[f"Recall@{k}"] for k in (1, 5, 10, 50)] == [0.5, 1.0, 1.0, 1.0]
    assert json.loads(scores.to_json())["global"] == scores.global_


def test_rows_and_columns_may_be_in_any_order(tmp_path: Path, permis: PermisList):
    queries, gallery, scores = similarities(permis)
    a = write_table(tmp_path / "a.csv", queries, gallery, scores)
    b = write_table(tmp_path / "b.csv", queries[::-1], gallery[::-1], scores[::-1, ::-1])
    first, second = (evaluate_permis_retrieval(permis, path).to_json() for path in (a, b))
    assert first == second


def test_a_table_that_does_not_fit_the_list_is_refused(tmp_path: Path, permis: PermisList):
    queries, gallery, scores = similarities(permis)
    nan = scores.copy()
    nan[1, 2] = np.nan
    cases = [
        ((queries[:1], gallery, scores[:1]), rf"queries missing: {TEST}"),
        ((queries, gallery[1:], scores[:, 1:]), rf"images of the gallery missing: {gallery[0]}"),
        ((queries, ["x", *gallery], np.c_[nan[:, :1], scores]), r"images of .* not in the list: x"),
        ((queries, gallery, nan), rf"query '{TEST}', image '{gallery[2]}': the score is nan"),
        ((queries, [gallery[1], *gallery[1:]], scores), rf"'{gallery[1]}' occurs twice"),
    ]
    for table, message in cases:
        path = write_table(tmp_path / "table.csv", *table)
        with pytest.raises(EvaluationError, match=rf"table.csv: {message}"):
            evaluate_permis_retrieval(permis, path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "no readable table"),
        ("t.csv", "query,a,b\nq,1\n", r"no .* \(row 'q' has 2 cells, the first one 3\)"),
        ("t.csv", "query,a\nq,high\n", "no readable table"),
        ("t.json", "{}", "no readable table"),
        ("t.json", '{"queries": ["q"], "gallery": ["a"], "scores": [[1, 2]]}', r"scores \(1, 2\)"),
        ("gone.csv", None, "no such table"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, permis: PermisList, name: str, text: str | None, message: str
):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=rf"{name}: {message}"):
        evaluate_permis_retrieval(permis, tmp_path / name)


def test_a_list_without_images_has_no_pairs_and_no_retrieval(tmp_path: Path):
    permis = build(tmp_path, {"train": SPLITS["train"]})
    predictions = write_predictions(tmp_path, permis, true)
    with pytest.raises(EvaluationError, match="no video of this list"):
        evaluate_permis_images(permis, predictions)
    with pytest.raises(EvaluationError, match="no video of this list"):
        evaluate_permis_retrieval(permis, tmp_path / "t.csv")
