"""The protocols of other benchmarks: against their scorers, and by hand where none is public."""

import json
from collections.abc import Set

import numpy as np
import pytest
from rich.console import Console

from propagate.cli.tables import format_protocols, format_table
from propagate.errors import EvaluationError
from propagate.eval.davis import evaluate_davis
from propagate.eval.protocols import PROTOCOLS, UNSUPERVISED_PROTOCOLS, find_protocol
from tests.drawn_masks import DRIFT_J, draw_trees, frame, save
from tests.official_scorers import all_cases, official

# Too few annotated frames: their scorers give NaN, ours an error.
SHORT = {"c10a_two_frames", "c10c_one_frame", "c15j_first_annotation_only"}
# A sequence is missing: their scorers leave it out, ours refuses.
MISSING = {"c15d_missing_sequence"}
# No object for LVOS, whose mean is NaN.
BLACK_AND_WHITE = {"c14_davis2016_pred01", "c14_davis2016_style"}
# No object for the old DAVIS scorer, which gives no mean.
EMPTY_FIRST = {"c17_empty_first_frame"}


def cases(scorer: str, *, without: Set[str] = frozenset()) -> list[str]:
    """The cases that are here, of which a scorer gives numbers that ours gives too."""
    return [name for name in all_cases() if name not in SHORT | without and official(name, scorer)]


# --- against their scorers -----------------------------------------------------------------------


@pytest.mark.parametrize("name", cases("sav.skip", without=MISSING))
def test_sa_v_equals_its_scorer_frame_by_frame(name, evaluate_case):
    """Means differ in the last bit at most: it averages percentages."""
    expected, scores = official(name, "sav.skip"), evaluate_case(name, protocol="sa-v")
    for sequence, (theirs,) in expected["per_frame"].items():
        for measure in ("J", "F"):
            rows = zip(
                scores.object_ids[sequence], scores.per_frame[sequence][measure], strict=True
            )
            for object_id, row in rows:
                counted = [score for score in row if score is not None]
                assert counted == theirs[measure][str(object_id)]
        assert {str(i) for i in scores.object_ids[sequence]} == {*expected["per_object"][sequence]}
    for measure in ("J", "F"):
        ours = 100 * scores.global_[f"{measure}-Mean"]
        assert ours == pytest.approx(expected["global"][measure], abs=1e-12)


def test_sa_v_equals_vos_benchmark_where_that_reads_the_same_files(evaluate_case):
    # In one case it takes Thumbs.db for the last frame.
    names = cases("vos_benchmark.skip", without=MISSING | {"c15g_stray_files"})
    assert len(names) > 20
    for name in names:
        expected = official(name, "vos_benchmark.skip")["global"]
        ours = evaluate_case(name, protocol="sa-v").global_["J&F-Mean"]
        assert 100 * ours == pytest.approx(expected["J&F"], abs=1e-12), name


@pytest.mark.parametrize("name", cases("lvos_python", without=BLACK_AND_WHITE))
def test_lvos_equals_its_scorer_for_every_object(name, evaluate_case):
    expected = official(name, "lvos_python")["per_object"]
    scores = evaluate_case(name, protocol="lvos")
    assert len(scores.per_object) == len(expected)
    # It numbers the objects of a sequence 1, 2, ... whatever their ids.
    for sequence, ids in scores.object_ids.items():
        for number, object_id in enumerate(ids, start=1):
            for column in ("J-Mean", "F-Mean"):
                ours = scores.per_object[f"{sequence}_{object_id}"][column]
                assert ours == expected[f"{sequence}_{number}"][column]


@pytest.mark.parametrize("name", cases("davis_py2.single", without=EMPTY_FIRST))
def test_davis_2016_equals_its_scorer_frame_by_frame(name, evaluate_case):
    expected = official(name, "davis_py2.single")
    scores = evaluate_case(name, protocol="davis2016")
    for key, theirs in expected["per_frame"].items():
        assert scores.per_frame[key.removesuffix("_1")] == {m: [theirs[m]] for m in ("J", "F")}
    for column, theirs in expected["global"].items():
        measure, _, statistic = column.partition("-")
        # Of 300 frames it has no decay, for the reason that its successor has none.
        if theirs != "nan" or statistic != "decay":
            ours = scores.global_[f"{measure}-{statistic.capitalize()}"]
            assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    "name", ["c04a_late_predicted", "c05a_extra_pred_id", "c16_noncontiguous_ids"]
)
def test_mose_scores_the_objects_that_its_scorer_scores(name, evaluate_case):
    """Its J is smoothed, (I + 1) / (U + 1), and printed with two decimals."""
    expected = official(name, "mosev2")["per_object"]
    scores = evaluate_case(name, protocol="mose")
    assert scores.per_object.keys() == expected.keys()
    for key, theirs in expected.items():
        assert 100 * scores.per_object[key]["J-Mean"] == pytest.approx(theirs["J"], abs=0.05)


# --- objects that come and go, by hand -----------------------------------------------------------


@pytest.fixture
def trees(tmp_path):
    return draw_trees(tmp_path)


@pytest.fixture
def late(tmp_path):
    """Object 2 is in the truth from frame 2 on and predicted, one column wide, from frame 1 on."""
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    second = frame(shift=10, object_id=2)
    narrow = second * (np.arange(32) == 18).astype(np.uint8)
    for index in range(5):
        save(truth / "ant" / f"{index:05d}.png", frame() + second * np.uint8(index >= 2))
        save(pred / "ant" / f"{index:05d}.png", frame() + narrow * np.uint8(index >= 1))
    return truth, pred


@pytest.mark.parametrize(
    ("protocol", "frames", "second"),
    [
        ("sa-v", ["00001", "00002", "00003"], [0.0, 1 / 8, 1 / 8]),
        ("lvos", ["00001", "00002", "00003"], [None, None, 1 / 8]),
        ("youtube-vos", ["00001", "00002", "00003", "00004"], [None, None, 1 / 8, 1 / 8]),
    ],
)
def test_a_late_object_counts_from_where_the_protocol_says(late, protocol, frames, second):
    scores = evaluate_davis(*late, protocol=protocol)
    assert scores.frames["ant"] == frames
    assert scores.object_ids["ant"] == [1, 2]
    assert scores.per_frame["ant"]["J"] == [[1.0] * len(frames), second]
    counted = [score for score in second if score is not None]
    assert scores.per_object["ant_2"]["J-Mean"] == np.mean(counted)


@pytest.mark.parametrize("protocol", ["mose", "davis2016"])
def test_a_late_object_is_no_object_of_its_own_elsewhere(late, protocol):
    scores = evaluate_davis(*late, protocol=protocol)
    assert scores.object_ids["ant"] == [1]


def test_davis_2017_refuses_a_predicted_late_object(late):
    with pytest.raises(EvaluationError, match=r"00001.png: id 2, where .* has 1\.\.1"):
        evaluate_davis(*late)


def test_an_object_that_is_left_without_a_frame_is_named(trees):
    truth, pred = trees
    save(truth / "ant" / "00003.png", frame() + frame(shift=14, object_id=4))
    scores = evaluate_davis(truth, pred, protocol="lvos")
    assert scores.object_ids["ant"] == [1]
    assert scores.protocol["exceptions"] == {"objects_without_a_scored_frame": ["ant_4"]}


def test_the_first_frame_of_a_late_object_counts_as_its_first_even_without_prediction(late):
    truth, pred = late
    (pred / "ant" / "00002.png").unlink()
    scores = evaluate_davis(truth, pred, protocol="youtube-vos", allow_missing=True)
    assert scores.frames["ant"] == ["00001", "00003", "00004"]
    assert scores.per_frame["ant"]["J"] == [[1.0] * 3, [None, 1 / 8, 1 / 8]]


@pytest.mark.parametrize("protocol", ["sa-v", "mose", "lvos", "youtube-vos"])
def test_other_predicted_ids_are_ignored_and_named(trees, protocol):
    truth, pred = trees
    expected = evaluate_davis(truth, pred, protocol=protocol)
    save(pred / "bee" / "00001.png", frame(shift=1) + frame(shift=14, object_id=9))
    scores = evaluate_davis(truth, pred, protocol=protocol)
    assert scores.per_frame == expected.per_frame
    assert scores.protocol["exceptions"] == {"predicted_ids_ignored": ["bee_9"]}


def test_davis_2016_takes_every_pixel_that_is_not_0(trees):
    truth, pred = trees
    for index in range(5):
        save(truth / "ant" / f"{index:05d}.png", frame(object_id=255))
        save(pred / "ant" / f"{index:05d}.png", frame(shift=index, object_id=7))
    scores = evaluate_davis(truth, pred, protocol="davis2016")
    assert scores.per_frame["ant"]["J"] == [DRIFT_J]
    assert scores.protocol["exceptions"] == {}


def test_overlapping_objects_are_scored_each_by_itself(tmp_path):
    for index in range(5):
        for object_id, shift in (("000", 0), ("001", 4)):
            truth = (frame(shift=shift) > 0).astype(np.uint8)
            save(tmp_path / "truth" / "ant" / object_id / f"{index:05d}.png", truth)
            pred = (frame(shift=shift + index) > 0).astype(np.uint8) * (
                object_id == "001" or index < 2
            )
            save(tmp_path / "pred" / "ant" / object_id / f"{index:05d}.png", pred)
    scores = evaluate_davis(tmp_path / "truth", tmp_path / "pred", protocol="sa-v")
    assert scores.object_ids["ant"] == [0, 1]
    assert scores.per_frame["ant"]["J"] == [[DRIFT_J[0], 0.0, 0.0], DRIFT_J]


# --- lists of the data sets ----------------------------------------------------------------------


def test_davis_2016_is_listed_by_pairs_of_paths_or_by_names(trees, tmp_path):
    truth, pred = trees
    root = tmp_path / "DAVIS"
    (root / "Annotations").mkdir(parents=True)
    truth.rename(root / "Annotations" / "480p")
    pairs = [
        f"/JPEGImages/480p/bee/{i:05d}.jpg /Annotations/480p/bee/{i:05d}.png" for i in range(5)
    ]
    for folder, text in (("2016", "ant\n"), ("480p", "\n".join(pairs))):
        path = root / "ImageSets" / folder / "val.txt"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        scores = evaluate_davis(root, pred, protocol="davis2016")
        assert list(scores.frames) == [{"2016": "ant", "480p": "bee"}[folder]]


def test_attributes_are_read_from_the_file_of_the_data_set(trees, tmp_path):
    truth, pred = trees
    for index in range(5):
        save(pred / "bee" / f"{index:05d}.png", frame())
    info = """
sequences:
- name: ant
  attributes: [OCC, FM]
- name: bee
  attributes: [OCC]
- name: cat
  attributes: [DB]
"""
    (truth / "db_info.yaml").write_text(info)
    scores = evaluate_davis(truth, pred, protocol="davis2016")
    assert list(scores.groups) == ["FM", "OCC"]
    assert scores.groups["FM"] == scores.per_sequence["ant"]
    assert scores.groups["OCC"] == scores.global_
    (truth / "db_info.yaml").rename(tmp_path / "info.yaml")
    assert evaluate_davis(truth, pred, protocol="davis2016").groups == {}
    given = evaluate_davis(truth, pred, protocol="davis2016", attributes=tmp_path / "info.yaml")
    assert given.groups == scores.groups
    with pytest.raises(ValueError, match="no attributes"):
        evaluate_davis(truth, pred, attributes=tmp_path / "info.yaml")


def test_lvos_is_the_mean_of_seen_and_unseen_where_the_list_is_given(trees, tmp_path):
    truth, pred = trees
    save(truth / "bee" / "00000.png", frame() + frame(shift=14, object_id=2))
    unseen = tmp_path / "unseen_videos.txt"
    unseen.write_text("ant\nelsewhere\n")
    scores = evaluate_davis(truth, pred, protocol="lvos", unseen=unseen)
    assert list(scores.groups) == ["seen", "unseen"]
    assert scores.groups["unseen"] == scores.per_sequence["ant"]
    for column in ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"):
        both = [scores.groups[name][column] for name in ("seen", "unseen")]
        assert scores.global_[column] == np.mean(both)
    four = [scores.groups[g][f"{m}-Mean"] for g in ("seen", "unseen") for m in ("J", "F")]
    assert scores.global_["J&F-Mean"] == pytest.approx(np.mean(four), abs=1e-15)
    plain = evaluate_davis(truth, pred, protocol="lvos")
    assert plain.global_["J-Mean"] != scores.global_["J-Mean"]
    assert plain.groups == {}
    assert "no list of unseen ones" in plain.protocol["rules"]["average"]
    unseen.write_text("ant bee")
    all_unseen = evaluate_davis(truth, pred, protocol="lvos", unseen=unseen)
    assert "every object is unseen" in all_unseen.protocol["rules"]["average"]


def test_youtube_vos_tells_seen_objects_by_the_categories_of_the_training_split(trees, tmp_path):
    truth, pred = trees
    scored = {
        "ant": {"objects": {"1": {"category": "ape"}}},
        "bee": {"objects": {"1": {"category": "cow"}}},
    }
    training = {"cat": {"objects": {"4": {"category": "cow"}}}}
    paths = []
    for name, videos in (("valid", scored), ("train", training)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"videos": videos}))
    scores = evaluate_davis(truth, pred, protocol="youtube-vos", categories=tuple(paths))
    assert scores.groups == {
        "seen": scores.per_sequence["bee"],
        "unseen": scores.per_sequence["ant"],
    }
    with pytest.raises(
        EvaluationError, match=r"train.json: no category for object 1 of sequence ant"
    ):
        evaluate_davis(truth, pred, protocol="youtube-vos", categories=(paths[1], paths[0]))


@pytest.mark.parametrize("text", [None, "{", "[]", "videos: 3"])
def test_a_list_that_cannot_be_read_is_named(trees, tmp_path, text):
    path = tmp_path / "list"
    if text is not None:
        path.write_text(text)
    for lists in ({"categories": (path, path)}, {"unseen": path} if text is None else {}):
        if lists:
            with pytest.raises(EvaluationError, match=f"{path}: not a readable list"):
                evaluate_davis(*trees, protocol="youtube-vos", **lists)
    with pytest.raises(EvaluationError, match=f"{path}: not a readable list"):
        evaluate_davis(*trees, protocol="davis2016", attributes=path)


# --- the protocols themselves --------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), *UNSUPERVISED_PROTOCOLS.values()])
def test_every_protocol_says_all_its_rules_and_is_found_by_its_name(protocol):
    assert find_protocol(protocol.name, protocol.task) is protocol
    topics = {"frames", "objects", "frames of an object", "empty masks", "255 in the truth"}
    assert topics | {"other predicted ids", "average", "source"} <= protocol.rules().keys()
    console = Console(width=200)
    with console.capture() as capture:
        console.print(format_protocols())
    assert f"\n {protocol.name}" in capture.get() or f"\n{protocol.name}" in capture.get()


def test_groups_have_rows_of_their_own_in_the_table(trees, tmp_path):
    unseen = tmp_path / "unseen_videos.txt"
    unseen.write_text("ant")
    console = Console(width=100)
    with console.capture() as capture:
        console.print(format_table(evaluate_davis(*trees, protocol="lvos", unseen=unseen)))
    rows = [line.split()[0] for line in capture.get().splitlines() if line.split()]
    assert rows.index("bee") < rows.index("seen") < rows.index("unseen") < rows.index("overall")
