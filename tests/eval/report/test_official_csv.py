"""The CSV files against those that davis2017-evaluation itself wrote, byte for byte."""

import pytest

from propagate.errors import OutputError
from propagate.eval.report.official_csv import write_official_csv
from propagate.eval.scores import Scores
from tests.official_scorers import all_cases, needs_oracle, official

TASKS = {"semi": "semi-supervised", "unsup": "unsupervised"}
GLOBAL, PER_OBJECT = "global_results-val.csv", "per-sequence_results-val.csv"
# Its decay overflows beyond 255 frames, and it leaves the field empty.
LONG = "c10e_long_300"
# A sequence without objects, for which it averages nothing and writes empty fields; ours refuses.
NO_OBJECT = {"c14_davis2016_pred01", "c17_empty_first_frame"}


def official_files(case, task):
    return official(case, f"davis2017_cli.{task}").get("csv") or {}


def cases():
    names = [name for name in all_cases() if name not in {LONG, *NO_OBJECT}]
    return [(name, task) for name in names for task in TASKS if official_files(name, task)]


@pytest.mark.parametrize(("case", "task"), cases())
def test_both_files_equal_the_official_ones_byte_for_byte(case, task, tmp_path, evaluate_case):
    paths = write_official_csv(evaluate_case(case, task=TASKS[task]), tmp_path / "csv", "val")
    assert paths == (tmp_path / "csv" / GLOBAL, tmp_path / "csv" / PER_OBJECT)
    written = {path.name: path.read_bytes().decode() for path in paths}
    assert written == official_files(case, task)


@needs_oracle
@pytest.mark.parametrize("task", TASKS)
def test_a_long_video_differs_in_the_decay_that_the_official_tool_cannot_compute(
    task, tmp_path, evaluate_case
):
    paths = write_official_csv(evaluate_case(LONG, task=TASKS[task]), tmp_path, "val")
    files = official_files(LONG, task)
    assert paths[1].read_text() == files[PER_OBJECT]
    header, ours = (line.split(",") for line in paths[0].read_text().splitlines())
    _, theirs = (line.split(",") for line in files[GLOBAL].splitlines())
    differing = {name for name, a, b in zip(header, ours, theirs, strict=True) if a != b}
    assert differing == {"J-Decay", "F-Decay"}
    assert theirs[header.index("J-Decay")] == ""


# --- without the official tool's files -----------------------------------------------------------


def some_scores(**changes):
    """Two objects of one sequence, of which the first matched the third proposal."""
    columns = {"J-Mean": 0.5, "J-Recall": 1.0, "J-Decay": float("nan")}
    columns |= {"F-Mean": 0.25, "F-Recall": 0.0, "F-Decay": -0.0004}
    fields = {
        "protocol": {"sequences": 1, "objects": 2, "frames": 1},
        "global_": {"J&F-Mean": 0.375, **columns},
        "groups": {},
        "per_sequence": {"ant": {"J&F-Mean": 0.375, **columns}},
        "per_object": {"ant_1": columns, "ant_2": columns | {"J-Mean": 2 / 3}},
        "object_ids": {"ant": [1, 2]},
        "frames": {"ant": ["00001"]},
        "per_frame": {"ant": {"J": [[0.5], [0.5]], "F": [[0.25], [0.25]]}},
        "proposals": {"ant": [3, 1]},
    }
    return Scores(**(fields | changes))


def test_a_number_that_does_not_exist_is_an_empty_field(tmp_path):
    path, _ = write_official_csv(some_scores(), tmp_path, "val")
    assert path.read_bytes() == (
        b"J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n"
        b"0.375,0.500,1.000,,0.250,0.000,-0.000\n"
    )


def test_matched_objects_are_counted_in_the_order_of_their_proposals(tmp_path):
    _, path = write_official_csv(some_scores(), tmp_path, "val")
    assert path.read_text() == "Sequence,J-Mean,F-Mean\nant_1,0.667,0.250\nant_2,0.500,0.250\n"
    _, path = write_official_csv(some_scores(proposals={}), tmp_path, "val")
    assert path.read_text() == "Sequence,J-Mean,F-Mean\nant_1,0.500,0.250\nant_2,0.667,0.250\n"


def test_files_of_an_earlier_evaluation_are_replaced(tmp_path):
    for name in (GLOBAL, PER_OBJECT):
        (tmp_path / name).write_text("old")
    for path in write_official_csv(some_scores(), tmp_path, "val"):
        assert "old" not in path.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {GLOBAL, PER_OBJECT}


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"file: cannot be written \(file exists\).* choose"):
        write_official_csv(some_scores(), tmp_path / "file", "val")
