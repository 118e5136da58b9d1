"""Names that do not fit: extra predictions are named, near misses quoted, and neither is scored."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.davis import evaluate_davis
from tests.drawn_masks import draw_trees, frame, save
from tests.paths import SHARED

E = SHARED / "data" / "inputs" / "e"
needs_inputs = pytest.mark.skipif(
    not E.is_dir(), reason="the inputs of ../shared/data/inputs are absent"
)


@pytest.fixture
def trees(tmp_path):
    return draw_trees(tmp_path)


def told(*arguments, **choices):
    """The scores, and the lines that were said beside them."""
    lines = []
    return evaluate_davis(*arguments, say=lines.append, **choices), lines


# --- predictions that the truth does not have ----------------------------------------------------


def test_extra_frames_and_sequences_are_named_and_change_no_score(trees):
    truth, pred = trees
    before, lines = told(truth, pred)
    assert lines == []
    for index in range(5, 10):
        save(pred / "bee" / f"{index:05d}.png", frame(shift=9))
    save(pred / "cat" / "00000.png", frame())
    (pred / "logs").mkdir()  # without masks, so no sequence
    after, lines = told(truth, pred)
    assert after.to_json() == before.to_json()
    assert lines == [
        f"{pred}: 1 sequence of the predictions not in the truth, not scored: cat",
        f"{pred}: 5 frames of the predictions not in the truth, not scored: "
        "bee/00005, bee/00006, bee/00007, ...",
    ]


def davis_root(truth: Path, folder: Path, listed: str) -> Path:
    """A DAVIS root of this truth, whose list of sequences names one."""
    root = folder / "DAVIS"
    (root / "Annotations").mkdir(parents=True)
    truth.rename(root / "Annotations" / "480p")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text(f"{listed}\n")
    return root


def test_a_sequence_that_the_list_leaves_out_is_named_by_the_list(trees, tmp_path):
    truth, pred = trees
    root = davis_root(truth, tmp_path, "bee")
    _, lines = told(root, pred)
    assert lines == [
        f"{pred}: 1 sequence of the predictions not in ImageSets/2017/val.txt, not scored: ant"
    ]


def test_the_first_and_last_frame_are_in_the_truth_though_not_scored(trees):
    truth, pred = trees
    (pred / "ant" / "00000.png").unlink()
    assert told(truth, pred)[1] == []


def test_without_a_listener_it_is_a_warning_of_the_log(trees, caplog):
    truth, pred = trees
    save(pred / "ant" / "00007.png", frame())
    evaluate_davis(truth, pred)
    assert "1 frame of the predictions not in the truth, not scored: ant/00007" in caplog.text


@needs_inputs
def test_the_extra_frames_of_the_shared_input_are_named(propagate):
    plain = propagate("eval", "davis", "--root", E / "davis", "--pred", E / "p_perfect")
    extra = propagate("eval", "davis", "--root", E / "davis", "--pred", E / "p_extra")
    assert (plain.status, plain.stderr) == (0, "")
    assert (extra.status, extra.stdout) == (0, plain.stdout)
    assert extra.stderr.count("\n") == 1
    assert "2 frames of the predictions not in the truth, not scored: cups/00008" in extra.stderr


# --- near misses of names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("{}.png", "00001.png is missing; there is 1.png"),
        ("{:03d}.png", "00001.png is missing; there is 001.png"),
        ("{:05d}.PNG", "00001.png is missing; there is 00001.PNG"),
        ("{:05d}.jpg", "00001.png is missing; there is 00001.jpg"),
        ("frame_{:05d}.png", "00001.png is missing; there is frame_00001.png"),
        ("{:05d}_mask.png", "00001.png is missing; there is 00001_mask.png"),
        ("pred/{:05d}.png", "00001.png is missing; there is pred/00001.png"),
        ("masks/{:05d}.png", "predictions in two layouts"),
    ],
)
def test_the_name_that_is_there_is_quoted(trees, name, quoted):
    truth, pred = trees
    for folder in ("pred", "masks"):
        (pred / "ant" / folder).mkdir()
    for index in range(5):
        path = pred / "ant" / f"{index:05d}.png"
        path.rename(pred / "ant" / name.format(index))
    for folder in (pred / "ant").iterdir():
        if folder.is_dir() and not list(folder.iterdir()):
            folder.rmdir()
    with pytest.raises(EvaluationError, match=quoted) as caught:
        evaluate_davis(truth, pred)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("Ant", "ant is missing; there is Ant"),
        ("480p/ant", "ant is missing; there is 480p/ant"),
    ],
)
def test_the_folder_that_is_there_is_quoted(trees, name, quoted):
    truth, pred = trees
    (pred / name).parent.mkdir(exist_ok=True)
    (pred / "ant").rename(pred / name)
    with pytest.raises(EvaluationError, match=f"{pred}: {quoted}; give sequences"):
        evaluate_davis(truth, pred)
    _, lines = told(truth, pred, allow_missing=True)
    assert f"{pred}: {quoted}; left out" in lines


def test_a_frame_without_a_near_name_is_missing_as_before(trees):
    truth, pred = trees
    (pred / "ant" / "00002.png").unlink()
    with pytest.raises(EvaluationError, match=r"ant/00002.png: missing; predict every scored"):
        evaluate_davis(truth, pred)


@pytest.mark.parametrize("name", ["{}.jpg", "{}.PNG", "{}.npy", "x/y/{}.png"])
def test_a_folder_without_a_mask_of_a_known_layout_tells_what_is_there(tmp_path, trees, name):
    truth, _ = trees
    path = tmp_path / "other" / "ant" / name.format("00000")
    path.parent.mkdir(parents=True)
    path.touch()
    there = path.relative_to(tmp_path / "other")
    if name.startswith("x"):  # deeper than anything that is meant as a sequence
        there = "no predictions in this folder; give"
    with pytest.raises(EvaluationError, match=f"{there}"):
        evaluate_davis(truth, tmp_path / "other")


def test_names_that_fit_nothing_are_told_with_those_that_are_wanted(trees, tmp_path):
    truth, pred = trees
    (pred / "ant").rename(pred / "emu")
    (pred / "bee").rename(pred / "fox")
    for allowed in (False, True):
        with pytest.raises(EvaluationError) as caught:
            evaluate_davis(truth, pred, allow_missing=allowed)
        assert str(caught.value) == (
            f"{pred}: no prediction of any scored frame: no name of its 2 sequences (emu, fox) is "
            "one of the truth (ant, bee); give sequences and frames the names that the truth has"
        )


def test_a_sequence_of_the_list_without_truth_is_quoted_with_its_near_name(trees, tmp_path):
    truth, pred = trees
    root = davis_root(truth, tmp_path, "Bee")
    with pytest.raises(EvaluationError, match="480p: Bee is missing; there is bee; add the masks"):
        evaluate_davis(root, pred)


@needs_inputs
def test_the_unpadded_names_of_the_shared_input_are_quoted(propagate):
    finished = propagate("eval", "davis", "--root", E / "davis", "--pred", E / "p_unpadded")
    assert finished.status == 1
    assert finished.stderr.count("\n") == 1
    assert "00001.png is missing; there is 1.png" in finished.stderr


# --- sequences too short to score ----------------------------------------------------------------


def test_a_sequence_of_two_frames_is_an_error_or_left_out_and_said(trees):
    truth, pred = trees
    whole = evaluate_davis(truth, pred)
    for tree in trees:
        for index in (0, 1):
            save(tree / "two" / f"{index:05d}.png", frame())
    with pytest.raises(EvaluationError, match=f"^{truth / 'two'}: annotated frames in this folder"):
        evaluate_davis(truth, pred)
    scores, lines = told(truth, pred, allow_missing=True)
    assert scores.per_frame == whole.per_frame
    assert scores.global_ == whole.global_
    assert scores.protocol["exceptions"] == {"sequences_too_short": ["two"]}
    assert scores.protocol["title"].endswith("INCOMPLETE: sequences too short to score: 1")
    assert lines == [
        f"{truth / 'two'}: too short to score, left out (annotated frames in this folder: 2)"
    ]
    shutil.rmtree(truth / "ant")
    shutil.rmtree(truth / "bee")
    with pytest.raises(EvaluationError, match="two: annotated frames in this folder: 2"):
        evaluate_davis(truth, pred, allow_missing=True)


@needs_inputs
def test_the_short_sequence_of_the_shared_input(propagate):
    call = ("eval", "davis", "--root", E / "davis_mix", "--pred", E / "p_mix")
    refused = propagate(*call)
    assert refused.status == 1
    assert "two: annotated frames" in refused.stderr
    assert "--allow-missing" in refused.stderr
    scored = propagate(*call, "--allow-missing")
    assert scored.status == 0
    assert "two: too short to score, left out" in scored.stderr
    assert "Too short to score, left out: two." in scored.stdout


# --- colours -------------------------------------------------------------------------------------


@needs_inputs
def test_colours_of_the_davis_palette_score_as_their_ids(propagate):
    results = [
        propagate("eval", "davis", "--root", E / "davis", "--pred", E / name).stdout
        for name in ("p_rgb", "p_perfect")
    ]
    assert results[0] == results[1]
    assert "100.0" in results[0]


def test_other_colours_are_refused_by_name(trees):
    truth, pred = trees
    for index, colour in enumerate([(128, 0, 0), (255, 0, 0)]):
        rgb = (frame() > 0)[..., None] * np.array(colour, np.uint8)
        Image.fromarray(rgb).save(pred / "ant" / f"{index + 1:05d}.png")
    with pytest.raises(EvaluationError) as caught:
        evaluate_davis(truth, pred)
    assert "ant/00002.png" in str(caught.value)
    assert "ant/00001.png" not in str(caught.value)


# --- lists of sequences --------------------------------------------------------------------------


def test_a_split_of_a_root_without_lists_is_an_error(trees, propagate):
    truth, pred = trees
    finished = propagate("eval", "davis", "--root", truth, "--pred", pred, "--split", "train")
    assert finished.status == 1
    assert "train.txt: no such list of sequences: the root has no ImageSets/2017" in finished.stderr
    assert "leave --split out" in finished.stderr
    assert propagate("eval", "davis", "--root", truth, "--pred", pred).status == 0
    assert evaluate_davis(truth, pred).protocol["sequences"] == 2
