"""Ids that are exchanged: the score stays, and a line says what it would be with ids matched."""

import numpy as np
import pytest

from propagate.errors import EvaluationError
from propagate.eval.davis import evaluate_davis
from propagate.eval.report.comparison import percent
from tests.drawn_masks import save
from tests.paths import SHARED

E = SHARED / "data" / "inputs" / "e"
SWAPPED = {1: 2, 2: 3, 3: 1}


def three(shift=0):
    """Three squares of 6x6 pixels in a frame of 24 rows and 40 columns."""
    ids = np.zeros((24, 40), np.uint8)
    for object_id, left in ((1, 2), (2, 14), (3, 26)):
        ids[8:14, left + shift : left + shift + 6] = object_id
    return ids


def write(root, name, ids, frames=5):
    for index in range(frames):
        save(root / name / f"{index:05d}.png", ids(index))


def renumbered(ids, by):
    table = np.arange(256, dtype=np.uint8)
    table[list(by)] = list(by.values())
    return table[ids]


def told(*arguments, **choices):
    lines = []
    return evaluate_davis(*arguments, say=lines.append, **choices), lines


@pytest.fixture
def trees(tmp_path):
    """Two sequences; the predictions drift, those of `swap` under other ids."""
    truth, pred, right = (tmp_path / name for name in ("truth", "pred", "right"))
    for name in ("keep", "swap"):
        write(truth, name, lambda index: three())
        write(right, name, lambda index: three(index // 2))
    write(pred, "keep", lambda index: three(index // 2))
    write(pred, "swap", lambda index: renumbered(three(index // 2), SWAPPED))
    return truth, pred, right


@pytest.mark.parametrize("protocol", ["davis2017", "mose", "lvos", "youtube-vos", "sa-v"])
def test_the_line_gives_the_score_of_masks_that_a_person_renumbered(trees, protocol):
    truth, pred, right = trees
    scores, lines = told(truth, pred, protocol=protocol)
    expected, none = told(truth, right, protocol=protocol)
    assert none == []
    assert scores.per_sequence["swap"]["J-Mean"] < 0.1
    assert lines == [
        f"{pred}: with ids matched it would be J&F {percent(expected.global_['J&F-Mean'])}, not "
        f"{percent(scores.global_['J&F-Mean'])}: ids look exchanged in 1 sequence: "
        "swap (1 as 3, 2 as 1, 3 as 2)"
    ]


def test_the_results_are_those_without_a_listener(trees):
    truth, pred, _ = trees
    assert told(truth, pred)[0].to_json() == evaluate_davis(truth, pred).to_json()


def test_more_processes_say_the_same(trees):
    truth, pred, _ = trees
    assert told(truth, pred, jobs=2)[1] == told(truth, pred)[1]


def test_an_object_that_is_lost_is_not_said_to_be_exchanged(trees):
    """Its mask lies on a neighbour in one of three frames: no other id is clearly better."""
    truth, pred, _ = trees
    write(pred, "swap", lambda index: renumbered(three(), {3: 0} if index < 3 else {3: 0, 2: 3}))
    scores, lines = told(truth, pred)
    assert scores.per_object["swap_3"]["J-Mean"] < 0.5
    assert lines == []


def test_an_id_that_the_truth_does_not_have_is_matched_where_such_ids_are_ignored(tmp_path):
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    write(truth, "one", lambda index: renumbered(three(), {2: 0, 3: 0}))
    write(pred, "one", lambda index: renumbered(three(), {1: 7, 2: 0, 3: 0}))
    scores, lines = told(truth, pred, protocol="mose")
    assert scores.global_["J&F-Mean"] == 0
    assert len(lines) == 1
    assert "with ids matched it would be J&F 100.0, not 0.0" in lines[0]
    assert lines[0].endswith("one (7 as 1)")


def test_ids_outside_the_first_frame_are_still_refused(trees):
    truth, pred, _ = trees
    write(pred, "swap", lambda index: renumbered(three(), {1: 4}))
    with pytest.raises(EvaluationError, match="id 4, where the first annotated frame has"):
        evaluate_davis(truth, pred)


def test_protocols_without_ids_say_nothing(trees):
    truth, pred, _ = trees
    assert told(truth, pred, protocol="davis2016")[1] == []
    assert told(truth, pred, task="unsupervised")[1] == []


@pytest.mark.skipif(not E.is_dir(), reason="the inputs of ../shared/data/inputs are absent")
def test_the_permuted_ids_of_the_shared_input(propagate):
    finished = propagate("eval", "davis", "--root", E / "davis", "--pred", E / "p_permuted")
    assert finished.status == 0
    assert finished.stdout.split("overall")[1].split()[0] == "0.0"
    assert finished.stderr.count("\n") == 1
    assert "with ids matched it would be J&F 100.0, not 0.0" in finished.stderr
    assert "cups (" in finished.stderr
