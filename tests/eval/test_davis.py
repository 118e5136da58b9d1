"""The DAVIS-2017 scorer against the official one, and what it says where that one has no answer."""

import dataclasses
import json
import math
import multiprocessing
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from propagate.cli.tables import format_table
from propagate.errors import EvaluationError
from propagate.eval.davis import evaluate_davis
from propagate.eval.scores import Scores
from tests.drawn_masks import DRIFT_J, draw_trees, frame, save
from tests.official_scorers import all_cases, needs_oracle, official, params
from tests.paths import DEV

MULTI = DEV / "multi"
needs_multi = pytest.mark.skipif(
    not MULTI.is_dir(), reason="the clips of ../shared/data/dev/multi are absent"
)

SEMI = "davis2017.semi"

# What davis2017-evaluation scores: every number equal to the last bit.
EQUAL = (
    *("c01_basic", "c02_missing_object", "c03_empty_gt_frames", "c04b_late_unpredicted"),
    *("c04d_only_in_first", "c04e_only_in_last", "c06_thin", "c07a_borders", "c07b_full_frame"),
    *("c08a_853x480", "c08c_one_row", "c08d_1080p", "c10b_three_frames", "c10d_lengths"),
    *("c11_ten_objects", "c12_void", "c14_mode_1", "c14_pred_l", "c14_pred_pshort"),
    *("c15b_missing_first_last", "c15c_extra_frames", "c15g_stray_files", "c15k_sparse_gt"),
    *("c16_noncontiguous_ids", "c18_all_zero", "c18_perfect", "c19_iou_exactly_half"),
    "c23_same_box",
)
# All but its decay, which overflows there.
EQUAL_BUT_DECAY = ("c10e_long_300",)
# What it cannot read, and we score: files it does not need, and colours that are those of ids.
SCORED = ("c14_gt_rgb", "c14_pred_rgb", "c14_pred_rgba", "c15i_no_jpegs")
NO_OBJECT = r"00000.png: no object in the first annotated frame; label .* by davis2016"
# Where it exits without a word, or crashes, and we say why: the file, and what is wrong with it.
REFUSED = {
    "c04a_late_predicted": r"late-a/00004.png: id 2, where the first annotated frame has 1..1",
    "c05a_extra_pred_id": r"extra-id/00003.png: id 3, where the first annotated frame has 1..2",
    "c05c_pred_255": r"pred-255/00001.png: id 255, .* and 3 more \(6 in all\)",
    "c10a_two_frames": r"480p/two: annotated frames in this folder: 2; give 3 or more",
    "c10c_one_frame": r"480p/one: annotated frames in this folder: 1; give 3 or more",
    "c13a_half_res": r"halfres/00001.png: 100x60 pixels, the truth 200x120",
    "c13b_one_frame_res": r"oneres/00003.png: 199x120 pixels, the truth 200x120; predict at",
    "c13c_transposed": r"transposed/00001.png: 120x200 pixels, the truth 200x120",
    "c14_antialiased": r"soft/00001.png: id \d+, where the first annotated frame has 1..2",
    "c14_davis2016_pred01": NO_OBJECT,
    "c14_davis2016_style": NO_OBJECT,
    "c14_gt01_pred255": r"p255/00001.png: id 255, where the first annotated frame has 1..1",
    "c15a_missing_middle": r"gap/00003.png: missing; predict every scored frame",
    "c15d_missing_sequence": r"pred/gone: no such folder; predict every scored frame",
    "c15e_corrupt_png": r"corrupt/00003.png: no readable image .*; save it as an",
    "c15j_first_annotation_only": r"480p/testdev: annotated frames in this folder: 1",
    "c17_empty_first_frame": NO_OBJECT,
    "c20a_unsup_permuted": r"perm/00001.png: id 4, where the first annotated frame has 1..3",
    "c20c_unsup_21_proposals": r"many-prop/00001.png: id 21, where the first annotated frame",
}


# --- the official scorer -------------------------------------------------------------------------


@needs_oracle
def test_every_case_of_the_oracle_is_in_one_of_the_tables():
    tables = [*EQUAL, *EQUAL_BUT_DECAY, *SCORED, *REFUSED]
    assert sorted(tables) == all_cases()
    with_result = {name for name in tables if official(name, SEMI)}
    assert with_result == {*EQUAL, *EQUAL_BUT_DECAY}


@pytest.mark.parametrize("name", params(EQUAL))
def test_all_numbers_equal_the_official_ones_to_the_last_bit(name, evaluate_case):
    expected = official(name, SEMI)
    result = json.loads(evaluate_case(name).to_json())
    assert {key: result[key] for key in expected} == expected


@pytest.mark.parametrize("name", params(EQUAL_BUT_DECAY))
def test_a_long_video_differs_from_the_official_numbers_in_its_decay_alone(name, evaluate_case):
    expected, scores = official(name, SEMI), evaluate_case(name)
    assert scores.per_frame == expected["per_frame"]
    rows = [(scores.global_, expected["global"])]
    rows += [(scores.per_object[key], row) for key, row in expected["per_object"].items()]
    for ours, theirs in rows:
        assert ours.keys() == theirs.keys()
        for column, value in theirs.items():
            if column.endswith("Decay"):
                assert value == "nan"
                assert -1 <= ours[column] <= 1
            else:
                assert ours[column] == value


@needs_oracle
def test_a_root_without_images_is_scored_like_vos_benchmark(evaluate_case):
    expected = official("c15i_no_jpegs", "vos_benchmark.skip")["global"]
    scores = evaluate_case("c15i_no_jpegs").global_
    assert 100 * scores["J-Mean"] == pytest.approx(expected["J"], abs=1e-9)
    assert 100 * scores["F-Mean"] == pytest.approx(expected["F"], abs=1e-9)


@pytest.mark.parametrize("name", params(REFUSED))
def test_what_cannot_be_scored_is_one_line_that_names_the_file(name, evaluate_case):
    with pytest.raises(EvaluationError, match=REFUSED[name]) as caught:
        evaluate_case(name)
    assert "\n" not in str(caught.value)


def test_a_gap_in_the_ids_and_void_and_late_objects_are_named_in_the_protocol(evaluate_case):
    gaps = evaluate_case("c16_noncontiguous_ids").protocol
    assert len(gaps["exceptions"]["objects_absent_from_first_frame"]) == 35
    assert gaps["objects"] == 38
    assert evaluate_case("c12_void").protocol["exceptions"] == {"void_sequences": ["void"]}
    assert evaluate_case("c04b_late_unpredicted").protocol["exceptions"] == {
        "late_objects_not_scored": ["late-b_2"]
    }


# --- which files ---------------------------------------------------------------------------------


@pytest.fixture
def trees(tmp_path):
    return draw_trees(tmp_path)


def test_two_plain_folders_are_scored_without_their_first_and_last_frames(trees):
    scores = evaluate_davis(*trees)
    assert scores.per_frame["ant"]["J"] == [DRIFT_J]
    assert scores.frames["ant"] == ["00001", "00002", "00003"]
    assert scores.object_ids == {"ant": [1], "bee": [1]}
    assert scores.per_object.keys() == {"ant_1", "bee_1"}
    assert scores.global_["J-Mean"] == np.mean(DRIFT_J)
    assert scores.global_["J-Recall"] == 2 / 3
    assert scores.per_sequence["bee"]["J-Mean"] == scores.global_["J-Mean"]
    counts = [scores.protocol[noun] for noun in ("sequences", "objects", "frames")]
    assert counts == [2, 2, 6]
    assert scores.protocol["sequence_source"] == "every folder of truth"


def test_a_davis_folder_is_scored_by_its_list_of_sequences(trees, tmp_path):
    truth, pred = trees
    root = tmp_path / "DAVIS"
    (root / "Annotations").mkdir(parents=True)
    truth.rename(root / "Annotations" / "480p")
    save_list = root / "ImageSets" / "2017" / "val.txt"
    save_list.parent.mkdir(parents=True)
    save_list.write_text("bee\n\n")
    scores = evaluate_davis(root, pred)
    assert list(scores.frames) == ["bee"]
    assert scores.protocol["sequence_source"] == "ImageSets/2017/val.txt"
    assert list(evaluate_davis(root, pred, split=None).frames) == ["ant", "bee"]
    with pytest.raises(EvaluationError, match=r"test.txt: no such list .*\(there is: val\)"):
        evaluate_davis(root, pred, split="test")
    with pytest.raises(EvaluationError, match=r"1080p: no such resolution \(there is: 480p\)"):
        evaluate_davis(root, pred, resolution="1080p")
    save_list.write_text("\n")
    with pytest.raises(EvaluationError, match=r"val.txt: no sequence in this list"):
        evaluate_davis(root, pred)


def test_only_annotated_frames_of_sparse_truth_are_scored(trees):
    truth, pred = trees
    (truth / "ant" / "00001.png").unlink()
    scores = evaluate_davis(truth, pred)
    assert scores.frames["ant"] == ["00002", "00003"]
    assert scores.per_frame["ant"]["J"] == [DRIFT_J[1:]]


@needs_multi
def test_five_masks_of_a_clip_of_87_frames_are_scored(tmp_path):
    """The official tool crashes here. Object 2 enters after the first frame and is not scored."""
    (tmp_path / "truth").mkdir()
    truth = tmp_path / "truth" / "caps"
    shutil.copytree(MULTI / "Annotations" / "480p" / "caps", truth)
    for path in truth.glob("*.png"):
        with Image.open(path) as image:
            save(tmp_path / "pred" / "caps" / path.name, np.asarray(image) == 1)
    scores = evaluate_davis(truth.parent, tmp_path / "pred")
    assert scores.frames["caps"] == ["00014", "00033", "00043"]
    assert scores.global_["J&F-Mean"] == 1
    assert scores.protocol["exceptions"]["late_objects_not_scored"] == ["caps_2"]
    with pytest.raises(EvaluationError, match=r"caps/00033.png: id 2, where .* has 1\.\.1"):
        evaluate_davis(truth.parent, truth.parent)


@pytest.mark.slow
def test_more_processes_give_the_same_scores_and_the_same_errors(trees):
    truth, pred = trees
    for index in range(5, 8):
        save(truth / "bee" / f"{index:05d}.png", frame())
        save(pred / "bee" / f"{index:05d}.png", frame())
    assert evaluate_davis(truth, pred, jobs=2).to_json() == evaluate_davis(truth, pred).to_json()
    (pred / "bee" / "00002.png").write_bytes(b"no image")
    with pytest.raises(EvaluationError, match=r"bee/00002.png: no readable image"):
        evaluate_davis(truth, pred, jobs=2)


def test_a_killed_process_is_one_error(trees):
    """A worker is killed as it starts, as the system does for lack of memory."""
    truth, pred = trees

    def kill_the_workers():
        # Both, because a process cannot be started while the pool breaks.
        while len(workers := multiprocessing.active_children()) < 2:
            time.sleep(0.001)
        for worker in workers:
            worker.kill()

    killer = threading.Thread(target=kill_the_workers, daemon=True)
    killer.start()
    with pytest.raises(EvaluationError, match=r"ended early .*; score with jobs=1"):
        evaluate_davis(truth, pred, jobs=2)
    killer.join(timeout=10)


# --- rules, on frames small enough to count by hand ----------------------------------------------


def test_void_is_background_so_a_prediction_on_it_costs(trees):
    truth, pred = trees
    for path in truth.glob("ant/*.png"):
        save(path, frame() + frame(shift=8, object_id=255))
    scores = evaluate_davis(truth, pred)
    assert scores.per_frame["ant"]["J"] == [DRIFT_J]
    assert scores.protocol["exceptions"] == {"void_sequences": ["ant"]}


def test_an_id_missing_in_the_first_frame_is_an_object_that_scores_one_while_empty(trees):
    truth, pred = trees
    for path in [*truth.glob("ant/*.png"), *pred.glob("ant/*.png")]:
        save(path, frame(object_id=3))
    scores = evaluate_davis(truth, pred)
    assert scores.per_frame["ant"]["J"] == scores.per_frame["ant"]["F"] == [[1.0] * 3] * 3
    assert scores.protocol["exceptions"] == {"objects_absent_from_first_frame": ["ant_1", "ant_2"]}


def test_an_object_that_enters_after_the_first_frame_is_not_scored_but_named(trees):
    truth, pred = trees
    save(truth / "ant" / "00002.png", frame() + frame(shift=14, object_id=4))
    scores = evaluate_davis(truth, pred)
    assert scores.per_frame["ant"]["J"] == [DRIFT_J]
    assert scores.protocol["exceptions"] == {"late_objects_not_scored": ["ant_4"]}


# --- refusals ------------------------------------------------------------------------------------


def test_all_missing_files_are_told_in_one_line(trees):
    truth, pred = trees
    shutil.rmtree(pred / "ant")
    for index in range(5):
        (pred / "bee" / f"{index:05d}.png").unlink()
    save(pred / "cat" / "00000.png", frame())
    with pytest.raises(EvaluationError) as caught:
        evaluate_davis(truth, pred)
    message = str(caught.value)
    assert message.startswith(f"{pred / 'ant'}: no such folder; {pred / 'bee' / '00001.png'}")
    assert "and 1 more (4 in all)" in message
    assert "\n" not in message


def test_problems_of_several_sequences_are_told_together(trees):
    truth, pred = trees
    save(pred / "ant" / "00001.png", frame()[:, :-1])
    save(pred / "bee" / "00003.png", frame(object_id=9))
    with pytest.raises(EvaluationError, match=r"31x24 pixels.*id 9, .*1\.\.1; predict at .*; use"):
        evaluate_davis(truth, pred)


@pytest.mark.parametrize("side", [0, 1], ids=["truth", "prediction"])
def test_a_broken_mask_is_named_whichever_side_it_is_on(trees, side):
    broken = trees[side] / "bee" / "00002.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(EvaluationError, match=f"^{broken}: no readable image"):
        evaluate_davis(*trees)


def test_no_byte_of_a_mask_can_break_the_error(trees):
    """A flipped byte gives a score or an `EvaluationError`, nothing else."""
    truth, pred = trees
    target = pred / "ant" / "00002.png"
    whole = target.read_bytes()
    refused = 0
    for position in range(len(whole)):
        target.write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
        )
        try:
            evaluate_davis(truth, pred)
        except EvaluationError as error:
            refused += "00002.png" in str(error)
    assert refused > len(whole) / 2


def test_folders_that_are_absent_or_empty_are_named(trees, tmp_path):
    truth, pred = trees
    (tmp_path / "empty" / "ant").mkdir(parents=True)
    with pytest.raises(EvaluationError, match=r"nowhere: no such folder of ground truth"):
        evaluate_davis(tmp_path / "nowhere", pred)
    with pytest.raises(EvaluationError, match=r"nowhere: no such folder of predictions"):
        evaluate_davis(truth, tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match=r"empty: no ground truth in this folder"):
        evaluate_davis(tmp_path / "empty", pred)
    (truth / "cat").mkdir()
    with pytest.raises(EvaluationError, match=r"cat: annotated frames in this folder: 0"):
        evaluate_davis(truth, pred)


def test_wrong_arguments_are_a_mistake_of_the_caller(trees):
    with pytest.raises(ValueError, match="jobs"):
        evaluate_davis(*trees, jobs=0)
    with pytest.raises(ValueError, match=r"protocol must be one of davis2017, .* not 'davis2018'"):
        evaluate_davis(*trees, protocol="davis2018")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"protocol must be one of davis2017, davis2016, not 'lvos'"
    ):
        evaluate_davis(*trees, protocol="lvos", task="unsupervised")
    with pytest.raises(ValueError, match="task: semi-supervised or unsupervised, not 'none'"):
        evaluate_davis(*trees, task="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no seen and unseen categories"):
        evaluate_davis(*trees, unseen="unseen.txt")


# --- missing predictions, allowed ----------------------------------------------------------------


def test_missing_sequences_and_frames_are_left_out_and_named_if_allowed(trees):
    truth, pred = trees
    shutil.rmtree(pred / "ant")
    (pred / "bee" / "00002.png").unlink()
    scores = evaluate_davis(truth, pred, allow_missing=True)
    assert scores.frames == {"bee": ["00001", "00003"]}
    assert scores.per_frame["bee"]["J"] == [[DRIFT_J[0], DRIFT_J[2]]]
    assert scores.protocol["missing"] == {"sequences": ["ant"], "frames": {"bee": ["00002"]}}
    assert scores.protocol["title"].endswith("INCOMPLETE: missing sequences: 1, frames: 1")
    assert json.loads(scores.to_json())["protocol"]["missing"] == scores.protocol["missing"]
    text = shown(scores)
    assert "INCOMPLETE" in text.partition("Sequence ")[0]
    assert "bee/00002" in text


def test_a_whole_prediction_gives_the_same_scores_with_missing_ones_allowed(trees):
    assert evaluate_davis(*trees, allow_missing=True).to_json() == evaluate_davis(*trees).to_json()


def test_an_unlabelled_frame_without_prediction_is_nothing_missing(trees):
    truth, pred = trees
    for tree in trees:
        (tree / "ant" / "00002.png").unlink()
    assert evaluate_davis(truth, pred).protocol["missing"] == {"sequences": [], "frames": {}}


def test_everything_missing_and_every_other_problem_is_still_refused(trees, tmp_path):
    truth, pred = trees
    save(pred / "ant" / "00001.png", frame()[:, :-1])
    with pytest.raises(EvaluationError, match=r"ant/00001.png: 31x24 pixels"):
        evaluate_davis(truth, pred, allow_missing=True)
    save(tmp_path / "other" / "cat" / "00001.png", frame())
    with pytest.raises(EvaluationError, match=r"other: no prediction of any scored frame"):
        evaluate_davis(truth, tmp_path / "other", allow_missing=True)


# --- the record and the table --------------------------------------------------------------------


def test_scores_survive_json_whole(trees):
    scores = evaluate_davis(*trees)
    assert Scores.from_json(scores.to_json()).to_json() == scores.to_json()
    with pytest.raises(ValueError, match="not the JSON of scores"):
        Scores.from_json("{}")


def test_a_number_that_does_not_exist_is_null_in_json(trees):
    whole = evaluate_davis(*trees)
    scores = dataclasses.replace(whole, global_=dict(whole.global_) | {"J-Decay": math.nan})
    assert json.loads(scores.to_json())["global"]["J-Decay"] is None
    assert math.isnan(Scores.from_json(scores.to_json()).global_["J-Decay"])


def shown(scores, width=80):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(format_table(scores))
    return capture.get()


def test_the_table_shows_sequences_objects_and_the_protocol_in_80_columns(trees):
    truth, pred = trees
    for tree in trees:
        (tree / "ant").rename(tree / "ant[1]")
    two = frame() + frame(shift=12, object_id=2)
    for index in range(5):
        save(truth / "bee" / f"{index:05d}.png", two)
    text = shown(evaluate_davis(truth, pred))
    assert "DAVIS-2017 semi-supervised (sequences: 2, objects: 3, frames: 6)" in text
    assert "every annotated frame but the first and the last" in text
    for label in ("J&F-Mean", "F-Decay", "ant[1]", "bee_1", "bee_2", "overall"):
        assert f"{label} " in text or f"{label}\n" in text
    assert "ant[1]_1" not in text
    assert " 61.1 " in next(line for line in text.splitlines() if line.split()[:1] == ["ant[1]"])
