"""A benchmark over drawn data: what it scores, what it runs again, and what it refuses."""

import json
import shutil
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from propagate.benchmark.datasets import DavisData, PermisData
from propagate.benchmark.runner import FIRST_MASK, Watch, benchmark, combine
from propagate.config import MATCHERS
from propagate.errors import EvaluationError, OutputError
from propagate.eval.davis import evaluate_davis
from propagate.eval.permis.list import PermisList, PermisVideo, write_permis_list
from propagate.io.masks.rle import encode_mask
from tests import forked

FRAMES = 6
# A name that HTML, a shell and a careless path would each take for something else.
ODD = """a <b> & "q" 'c'"""


def draw(frame, ids):
    """Grey noise with squares that walk to the right, 4 pixels a frame; image and true ids."""
    image = np.random.default_rng(7).integers(110, 140, (48, 64, 1), np.uint8).repeat(3, axis=2)
    truth = np.zeros((48, 64), np.uint8)
    for i in ids:
        rows, columns = slice(24 * i - 20, 24 * i - 4), slice(4 + 4 * frame, 20 + 4 * frame)
        image[rows, columns] = {1: (220, 40, 40), 2: (40, 60, 220)}[i]
        truth[rows, columns] = i
    return image, truth


@pytest.fixture
def root(tmp_path):
    """A DAVIS root of two sequences; the object of the first is out of sight in frame 3."""
    for name, ids in ((ODD, (1,)), ("two", (1, 2))):
        for frame in range(FRAMES):
            image, truth = draw(frame, () if (name, frame) == (ODD, 3) else ids)
            for kind, pixels, suffix in (
                ("JPEGImages", image, "jpg"),
                ("Annotations", truth, "png"),
            ):
                folder = tmp_path / "DAVIS" / kind / "480p" / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{frame:05d}.{suffix}")
    return tmp_path / "DAVIS"


def run(root, out, *models, overwrite=False, matchers=("default",), **choices):
    """Benchmark a DAVIS root; the result, and the sequences that were run, as they were told."""
    told = []
    result = benchmark(
        DavisData(root, **choices),
        combine(models or ("color", FIRST_MASK), matchers),
        out,
        overwrite=overwrite,
        watch=Watch(say=told.append),
    )
    return result, [line.split(", sequence ")[0] for line in told if ", sequence " in line]


def scores_of(entry):
    assert entry.scores is not None
    return entry.scores


def first_mask_j(frame):
    """IoU of a 16-pixel square with itself, 4 pixels a frame further."""
    shared = max(0, 16 - 4 * frame)
    return shared / (32 - shared)


# --- what it scores ------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_configuration_is_scored_as_the_eval_command_does(root, tmp_path):
    result, _ = run(root, tmp_path / "out")
    assert [entry.name for entry in result.entries] == ["color", "first-mask"]
    for entry in result.entries:
        expected = evaluate_davis(root, tmp_path / "out" / entry.name)
        assert scores_of(entry).to_dict() == expected.to_dict()
        saved = tmp_path / "out" / entry.name / "scores.json"
        assert json.loads(saved.read_text()) == json.loads(expected.to_json())
    color, first_mask = (scores_of(entry).per_sequence["two"]["J-Mean"] for entry in result.entries)
    assert color > 0.9 > first_mask


def test_the_first_mask_scores_what_standing_still_scores(root, tmp_path):
    result, _ = run(root, tmp_path / "out", FIRST_MASK)
    scores = scores_of(result.entries[0])
    assert scores.per_frame["two"]["J"] == [[first_mask_j(t) for t in (1, 2, 3, 4)]] * 2
    # Where the object is out of sight, a mask that stands still is wrong everywhere.
    assert scores.per_frame[ODD]["J"] == [[first_mask_j(1), first_mask_j(2), 0, first_mask_j(4)]]


def test_chosen_sequences_and_frames_alone_are_scored_and_the_title_says_so(root, tmp_path):
    result, ran = run(root, tmp_path / "out", FIRST_MASK, sequences=["two"], max_frames=4)
    assert ran == ["first-mask: two"]
    assert result.title.endswith(", only 1 of 2 sequences and the first 4 frames of each")
    assert scores_of(result.entries[0]).frames == {"two": ["00001", "00002"]}
    assert len(list((tmp_path / "out" / "first-mask" / "two" / "masks").iterdir())) == 4


def test_several_matchers_are_configurations_of_their_own(root, tmp_path):
    result, ran = run(
        *(root, tmp_path / "out", "color", FIRST_MASK),
        matchers=("default", "dino"),
        sequences=["two"],
        max_frames=3,
    )
    assert ran == ["color: two", "color-dino: two", "first-mask: two"]
    facts = [entry.facts.get("matcher settings", "") for entry in result.entries]
    assert "recent_frames 1," in facts[0]
    assert "recent_frames 7," in facts[1]


def test_a_first_mask_on_a_later_frame_is_given_there(root, tmp_path):
    for kind in ("Annotations/480p/two/00000.png", "Annotations/480p/two/00001.png"):
        (root / kind).unlink()
    result, _ = run(root, tmp_path / "out", sequences=["two"])
    masks = tmp_path / "out" / "color" / "two" / "masks"
    assert not np.asarray(Image.open(masks / "00001.png")).any()
    truth = np.asarray(Image.open(root / "Annotations/480p/two/00002.png"))
    assert (np.asarray(Image.open(masks / "00002.png")) == truth).all()
    assert scores_of(result.entries[0]).frames == {"two": ["00003", "00004"]}


@pytest.mark.slow
def test_the_summary_holds_the_table_and_the_times(root, tmp_path):
    run(root, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    color, first_mask = summary["configurations"]
    assert color["frames"] == first_mask["frames"] == 2 * FRAMES
    assert color["seconds"] > 0
    assert first_mask["seconds"] is None
    assert (
        color["global"]
        == json.loads((tmp_path / "out" / "color" / "scores.json").read_text())["global"]
    )


# --- what it runs again --------------------------------------------------------------------------


@pytest.mark.slow
def test_finished_runs_are_not_run_again_and_the_scores_are_the_same(root, tmp_path):
    first, ran = run(root, tmp_path / "out", sequences=["two"])
    assert ran == ["color: two", "first-mask: two"]
    again, ran = run(root, tmp_path / "out", sequences=["two"])
    assert ran == []
    for before, after in zip(first.entries, again.entries, strict=True):
        assert scores_of(after).to_dict() == scores_of(before).to_dict()
        assert (after.frames, after.seconds) == (before.frames, before.seconds)


def test_a_run_without_its_report_is_run_again_alone(root, tmp_path):
    run(root, tmp_path / "out", FIRST_MASK)
    shutil.rmtree(tmp_path / "out" / "first-mask" / "two")
    _, ran = run(root, tmp_path / "out", FIRST_MASK)
    assert ran == ["first-mask: two"]


@pytest.mark.slow
def test_a_benchmark_killed_in_the_middle_of_a_sequence_goes_on_there(root, tmp_path):
    script = (
        "import os, signal, sys\n"
        "from contextlib import nullcontext\n"
        "from propagate.benchmark.runner import FIRST_MASK, Watch, benchmark, combine\n"
        "from propagate.benchmark.datasets import DavisData\n"
        "def advance(done, total):\n"
        f"    if done == {FRAMES + 2}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "watch = Watch(progress=lambda name: nullcontext(advance))\n"
        "configurations = combine([FIRST_MASK], ['default'])\n"
        "benchmark(DavisData(sys.argv[1]), configurations, sys.argv[2], watch=watch)\n"
    )
    out = tmp_path / "out"
    killed = forked.run([sys.executable, "-c", script, root, out])
    assert killed.returncode == -signal.SIGKILL
    left = out / "first-mask" / "two"
    assert len(list((left / "masks").glob("*.png"))) == 2
    assert not (left / "result.json").exists()
    result, ran = run(root, out, FIRST_MASK)
    assert ran == ["first-mask: two"]
    whole, _ = run(root, tmp_path / "whole", FIRST_MASK)
    assert scores_of(result.entries[0]).to_dict() == scores_of(whole.entries[0]).to_dict()


def test_runs_of_other_settings_are_refused_in_one_line_before_anything_is_run(root, tmp_path):
    run(root, tmp_path / "out", FIRST_MASK, max_frames=4)
    report = (tmp_path / "out" / "report.html").read_bytes()
    with pytest.raises(OutputError, match=r"frames_given was 4, is 6 \(and 1 more\); pass"):
        run(root, tmp_path / "out", FIRST_MASK)
    assert (tmp_path / "out" / "report.html").read_bytes() == report


def test_overwrite_replaces_runs_of_other_settings_and_keeps_the_others(root, tmp_path):
    run(root, tmp_path / "out", FIRST_MASK, max_frames=4, sequences=["two"])
    run(root, tmp_path / "out", FIRST_MASK, sequences=[ODD])
    _, ran = run(root, tmp_path / "out", FIRST_MASK, overwrite=True)
    assert ran == ["first-mask: two"]


def test_a_changed_first_mask_is_another_setting(root, tmp_path):
    run(root, tmp_path / "out", FIRST_MASK)
    path = root / "Annotations" / "480p" / "two" / "00000.png"
    Image.fromarray(draw(1, (1, 2))[1]).save(path)
    with pytest.raises(OutputError, match=r"first-mask/two: .*: references_sha256.0 differs; pass"):
        run(root, tmp_path / "out", FIRST_MASK)


# --- what fails ----------------------------------------------------------------------------------


def test_a_sequence_that_fails_stops_no_other_and_leaves_its_configuration_without_scores(
    propagate, root, tmp_path
):
    out = tmp_path / "out"
    command = ("benchmark", "davis", "--root", root, "--model", FIRST_MASK, "-o", out)
    assert propagate(*command).status == 0
    frame = root / "JPEGImages" / "480p" / ODD / "00002.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(b"no image")
    shutil.rmtree(out / "first-mask" / ODD)
    finished = propagate(*command)
    assert finished.status == 1
    assert f"error: first-mask, {ODD}: {frame}: cannot be read as an image" in finished.stderr
    assert "1 of 2 sequences were already finished" in finished.stderr
    assert "30." not in finished.stdout
    assert not (out / "first-mask" / "scores.json").exists()
    assert "cannot be read as an image" in (out / "report.html").read_text()
    frame.write_bytes(whole)
    assert propagate(*command).status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--model", "color", "--sequences", "two,no"), 1, "no: not among the 2 sequences"),
        (("--model", "color", "--model", "color"), 2, "two configurations are named color"),
        (("--model", "color", "--matcher", "best"), 2, "no matcher is named 'best'"),
        (("--model", "color", "--max-frames", "2"), 2, "--max-frames"),
        (("--model", "color", "--recipe", "best"), 2, "no recipe is named 'best'"),
        (("--model", "first-mask", "--model", "tinny"), 1, "no model is named 'tinny'"),
        (("--model", "first-mask", "--model", "./gone"), 1, "model ./gone"),
        (("--model", "color", "--split", "train"), 1, "train.txt: no such list of sequences"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_run(
    propagate, root, tmp_path, arguments, status, words
):
    finished = propagate("benchmark", "davis", "--root", root, "-o", tmp_path / "out", *arguments)
    assert finished.status == status
    assert words in finished.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrong_name_is_told_before_a_root_that_is_missing(propagate, tmp_path):
    call = ("benchmark", "davis", "--root", tmp_path / "gone", "-o", tmp_path / "out")
    for model, words in (("tinny", "no model is named 'tinny'"), ("color", "gone: no such folder")):
        finished = propagate(*call, "--model", model)
        assert finished.status == 1
        assert words in finished.stderr
        assert finished.stderr.count("\n") == 1
    finished = propagate(*call, "--model", "color", "--matcher", "best")
    assert finished.status == 2
    assert "no matcher is named 'best'" in finished.stderr


def test_a_sequence_too_short_to_score_is_told_before_anything_is_run(root):
    folder = root / "Annotations" / "480p" / "two"
    for path in sorted(folder.iterdir())[2:]:
        path.unlink()
    with pytest.raises(EvaluationError, match=f"{folder}: annotated frames in this folder: 2"):
        DavisData(root)
    assert DavisData(root, sequences=[ODD]).sequences == (ODD,)


def test_truth_in_black_and_white_is_for_davis2016(root, tmp_path):
    for path in (root / "Annotations" / "480p" / "two").iterdir():
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids > 0, 255, 0).astype(np.uint8)).save(path)
    result, _ = run(root, tmp_path / "out", FIRST_MASK, sequences=["two"])
    assert "black and white; score it by davis2016" in result.entries[0].failures["two"]
    result, _ = run(root, tmp_path / "b", FIRST_MASK, sequences=["two"], protocol="davis2016")
    assert scores_of(result.entries[0]).object_ids == {"two": [1]}


def test_a_part_with_too_few_masks_is_an_error_at_the_place_of_the_truth(root, tmp_path):
    truth = root / "Annotations" / "480p" / "two"
    (truth / "00001.png").unlink()
    with pytest.raises(EvaluationError, match=f"{truth}: annotated frames in this folder: 2"):
        run(root, tmp_path / "out", FIRST_MASK, sequences=["two"], max_frames=3)


def test_a_root_without_frames_is_refused(root):
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(EvaluationError, match="480p: no such folder of frames; give a DAVIS root"):
        DavisData(root)


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_prints_the_tables_and_names_the_report(propagate, root, tmp_path):
    out = tmp_path / "out"
    finished = propagate(
        *("benchmark", "davis", "--root", root, "-o", out),
        *("--model", "color", "--model", FIRST_MASK),
    )
    assert finished.status == 0
    assert f"color: {ODD}, sequence 1 of 2" in finished.stderr
    assert "frames/s" in finished.stderr
    rows = [line.split() for line in finished.stdout.splitlines() if line.strip()]
    scores = json.loads((out / "first-mask" / "scores.json").read_text())["global"]
    columns = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
    expected = [f"{100 * scores[column]:.1f}" for column in columns]
    assert ["first-mask", *expected, "12", "-"] in rows
    assert rows[-1] == ["report:", str(out / "report.html")]


# --- PerMIS --------------------------------------------------------------------------------------


@pytest.fixture
def permis(root, tmp_path):
    """A list of one video, the drawn one with two squares, by every second of its frames."""
    shown = range(0, FRAMES, 2)
    images = tuple(f"480p/two/{frame:05d}.jpg" for frame in shown)
    truth = [draw(frame, (1, 2))[1] for frame in shown]
    video = PermisVideo(
        name="val-two",
        images=images,
        height=48,
        width=64,
        category="square",
        object_ids=(1, 2),
        other_ids=(),
        tracks={1: 10, 2: 20},
        masks=tuple({i: encode_mask(ids == i) for i in (1, 2)} for ids in truth),
        exhaustive=True,
        image_part=None,
    )
    path = tmp_path / "permis.json"
    write_permis_list(
        path,
        PermisList(choices={"rules": {"objects": "drawn"}}, sources=(), counts={}, videos=(video,)),
    )
    return path


def test_a_permis_list_is_run_by_its_own_frames_and_names_and_switches_are_counted(
    root, permis, tmp_path
):
    out = tmp_path / "out"
    data = PermisData(root / "JPEGImages", permis)
    result = benchmark(data, combine(["color", FIRST_MASK], ["default"]), out)
    color, first_mask = result.entries
    masks = sorted(path.name for path in (out / "color" / "val-two" / "masks").iterdir())
    assert masks == ["00000.png", "00002.png", "00004.png"]
    assert (
        scores_of(first_mask).per_frame["val-two"]["J"] == [[first_mask_j(2), first_mask_j(4)]] * 2
    )
    assert scores_of(color).global_["J-Mean"] > 0.9
    assert color.figures == {"on-other": "0.0", "switches": "0"}
    saved = json.loads((out / "color" / "scores.json").read_text())
    assert saved["identity"]["total"]["switches"] == 0


def test_a_root_that_does_not_hold_the_images_of_the_list_is_told_at_once(root, permis, tmp_path):
    with pytest.raises(EvaluationError, match="gone: no such folder of images"):
        PermisData(tmp_path / "gone", permis)
    with pytest.raises(EvaluationError, match=r"480p/two/00000.jpg: no such image, nor that of"):
        PermisData(root, permis)


def test_recipes_are_configurations_of_their_own():
    combined = combine(["some/sd", FIRST_MASK], ["default", "dino"], ["dift", "paper"])
    names = [configuration.name for configuration in combined]
    assert names == ["sd-dift", "sd-dift-dino", "sd-paper", "sd-paper-dino", "first-mask"]
    assert combined[2].config.recipe == "paper"
    assert combined[3].config.matcher == MATCHERS["dino"]
