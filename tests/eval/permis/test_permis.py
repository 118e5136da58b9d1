"""PerMIS: the list, the scores over it, and what is refused.

The annotations are drawn here: boxes in frames of 40x30, in three splits that share names.
"""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from rich.console import Console

from propagate.cli.tables import format_images, format_list, format_permis, format_retrieval
from propagate.errors import EvaluationError
from propagate.eval.boundary_iou import boundary_distance_px, boundary_region
from propagate.eval.permis.build import Choices, build_permis_list
from propagate.eval.permis.images import evaluate_permis_images
from propagate.eval.permis.list import PermisList, PermisVideo, read_permis_list, write_permis_list
from propagate.eval.permis.retrieval import (
    average_precision,
    evaluate_permis_retrieval,
    first_rank,
    retrieval_images,
)
from propagate.eval.permis.video import evaluate_permis
from propagate.io.write.rle import encode_mask

HEIGHT, WIDTH = 30, 40
CAT, DOG, CAR = 1, 2, 3
Box = tuple[int, int, int, int]  # top, left, height, width
Tracks = Mapping[int, tuple[int, list[Box | None]]]


def draw(box: Box) -> np.ndarray:
    top, left, height, width = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def sequence(dataset: str, name: str, tracks: Tracks, **changes: Any) -> dict[str, Any]:
    count = len(next(iter(tracks.values()))[1])
    images = [f"frame{30 * i + 1:04d}.jpg" for i in range(count)]
    return {
        "id": 1,
        "dataset": dataset,
        "seq_name": name,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 30,
        "all_image_paths": images,
        "annotated_image_paths": images,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "track_category_ids": {str(track): category for track, (category, _) in tracks.items()},
        "segmentations": [
            {
                str(track): {"rle": encode_mask(draw(box)), "is_gt": True}
                for track, (_, boxes) in tracks.items()
                if (box := boxes[i])
            }
            for i in range(count)
        ],
    } | changes


def annotation(split: str, *sequences: dict[str, Any]) -> dict[str, Any]:
    names = {CAT: "cat", DOG: "dog", CAR: "car"}
    categories = [{"id": i, "name": name} for i, name in names.items()]
    return {"split": split, "categories": categories, "sequences": list(sequences)}


A, B, C, D = (2, 2, 10, 10), (2, 24, 10, 10), (18, 2, 10, 10), (18, 24, 10, 10)
MINI = (0, 0, 1, 1)  # one pixel, less than 0.1 % of 1200
# Cat 8 enters late, cat 5 leaves, the first frame shows one cat alone, the dog is alone always.
CATS: Tracks = {
    3: (CAT, [A, A, A, A, A, A]),
    5: (CAT, [None, B, B, B, None, None]),
    8: (CAT, [None, None, None, C, C, None]),
    4: (DOG, [D, D, D, D, D, D]),
}
SPLITS = {
    "val": [
        sequence("YFCC100M", "v_1", CATS),
        sequence("Charades", "alone", {1: (CAT, [A, A]), 2: (DOG, [B, B])}),
        sequence("ArgoVerse", "end", {1: (CAR, [A, A]), 2: (CAR, [None, B])}),
    ],
    "test": [
        sequence("YFCC100M", "v_1", {1: (DOG, [A, B, A]), 2: (DOG, [B, A, B])}),
        sequence("HACS", "h_1", {1: (CAT, [A, A, A]), 2: (CAT, [B, B, B])}),
    ],
    "train": [
        sequence(
            "BDD",
            "b 1/c",
            {1: (CAR, [A, A]), 2: (CAR, [B, B]), 3: (CAR, [MINI, MINI])},
            not_exhaustive_category_ids=[CAR],
        )
    ],
}
VAL, TEST, TRAIN = "val-YFCC100M-v_1", "test-YFCC100M-v_1", "train-BDD-b-1-c"


def write_annotations(root: Path, splits: Mapping[str, list[dict[str, Any]]]) -> list[Path]:
    """Write the JSON of each split, and grey images of every frame."""
    paths = []
    root.mkdir(exist_ok=True)
    for split, sequences in splits.items():
        path = root / f"{split}.json"
        path.write_text(json.dumps(annotation(split, *sequences)))
        paths.append(path)
        for item in sequences:
            folder = root / "images" / split / item["dataset"] / item["seq_name"]
            folder.mkdir(parents=True, exist_ok=True)
            for image in item["annotated_image_paths"]:
                Image.new("L", (WIDTH, HEIGHT), 128).save(folder / image)
    return paths


def build(root: Path, splits: Mapping[str, list[dict[str, Any]]], **choices: Any) -> PermisList:
    paths = write_annotations(root, splits)
    return build_permis_list(paths, root / "images", Choices(**choices))


@pytest.fixture
def permis(tmp_path: Path) -> PermisList:
    return build(tmp_path, SPLITS)


def video_of(permis: PermisList, name: str) -> PermisVideo:
    return next(video for video in permis.videos if video.name == name)


# --- the list: which videos, frames and instances ------------------------------------------------


def test_all_splits_are_in_one_list_and_same_names_stay_apart(permis: PermisList):
    assert [video.name for video in permis.videos] == [TEST, TRAIN, VAL]
    assert video_of(permis, TEST).category == "dog"
    assert video_of(permis, VAL).category == "cat"


def test_the_reference_is_the_first_frame_with_two_instances_of_the_class(permis: PermisList):
    video = video_of(permis, VAL)
    assert video.images[0] == "val/YFCC100M/v_1/frame0031.jpg"
    assert video.frame_names == tuple(f"frame{n:04d}" for n in (31, 61, 91, 121, 151))


def test_instances_in_the_reference_are_scored_and_later_ones_are_not(permis: PermisList):
    video = video_of(permis, VAL)
    assert video.object_ids == (1, 2)
    assert video.other_ids == (3,)
    assert video.tracks == {1: 3, 2: 5, 3: 8}


def test_the_truth_holds_the_scored_instances_and_the_instances_all_of_the_class(
    permis: PermisList,
):
    video = video_of(permis, VAL)
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[draw(A)], expected[draw(B)] = 1, 2
    assert (video.truth(2) == expected).all()
    expected[draw(C)] = 3
    assert (video.instances(2) == expected).all()
    assert set(np.unique(video.truth(3))) == {0, 1}  # cat 5 has left, cat 8 is not scored


def test_an_instance_too_small_in_the_reference_is_not_scored(permis: PermisList):
    video = video_of(permis, TRAIN)
    assert (video.object_ids, video.other_ids) == ((1, 2), (3,))


def test_without_a_minimum_area_every_pixel_counts(tmp_path: Path):
    video = video_of(build(tmp_path, SPLITS, minimum_area_share=0.0), TRAIN)
    assert (video.object_ids, video.other_ids) == ((1, 2, 3), ())


def test_the_class_with_the_most_frames_of_several_instances_is_taken(tmp_path: Path):
    tracks: Tracks = {
        1: (CAT, [A, A, None]),
        2: (CAT, [B, B, None]),
        3: (DOG, [C, C, C]),
        4: (DOG, [D, D, D]),
    }
    (video,) = build(tmp_path, {"val": [sequence("BDD", "b", tracks)]}).videos
    assert video.category == "dog"


def test_what_is_left_out_is_counted_with_the_reason(permis: PermisList):
    assert permis.counts["left_out"] == {
        "source dropped": 1,
        "without 2 large instances of a class in one frame": 1,
        "without a frame after the reference": 1,
    }
    assert permis.counts["sequences"] == 6
    assert permis.counts["videos"] == 3
    assert permis.counts["objects"] == 6
    assert permis.counts["other_instances"] == 2
    assert permis.counts["scored_frames"] == 4 + 2 + 1
    assert permis.counts["videos_not_exhaustive"] == 1
    assert permis.counts["videos_per_category"] == {"car": 1, "cat": 1, "dog": 1}


def test_sources_can_be_kept_and_dropped(tmp_path: Path):
    kept = build(tmp_path, SPLITS, dropped_sources=("yfcc100m",))
    assert [video.name for video in kept.videos] == ["test-HACS-h_1", TRAIN]


def test_more_instances_can_be_asked_for(tmp_path: Path):
    tracks: Tracks = {1: (CAT, [A, A, A]), 2: (CAT, [B, B, B]), 3: (CAT, [None, C, C])}
    splits = {"val": [sequence("BDD", "b", tracks)]}
    (video,) = build(tmp_path, splits, minimum_instances=3).videos
    assert (video.frame_names, video.object_ids) == (("frame0031", "frame0061"), (1, 2, 3))


def test_masks_that_a_program_made_are_counted(tmp_path: Path):
    raw = sequence("BDD", "b", {1: (CAR, [A, A]), 2: (CAR, [B, B]), 3: (DOG, [C, C])})
    for track in ("1", "3"):
        raw["segmentations"][1][track]["is_gt"] = False
    assert build(tmp_path, {"train": [raw]}).counts["scored_masks_by_a_program"] == 1


def test_of_overlapping_masks_the_smaller_one_is_in_front(tmp_path: Path):
    tracks: Tracks = {1: (CAR, [(2, 2, 4, 4), A]), 2: (CAR, [A, B])}
    (video,) = build(tmp_path, {"train": [sequence("BDD", "b", tracks)]}).videos
    assert np.count_nonzero(video.truth(0) == 1) == 16
    assert np.count_nonzero(video.truth(0) == 2) == 100 - 16


def test_names_stay_apart_where_upper_and_lower_case_are_the_same(tmp_path: Path):
    cars: Tracks = {1: (CAR, [A, A]), 2: (CAR, [B, B])}
    twins = [sequence("BDD", name, cars) for name in ("b-1", "B-1", "b 1")]
    names = [v.name for v in build(tmp_path, {"val": twins}).videos]
    assert sorted(names) == ["val-BDD-B-1", "val-BDD-b-1-2", "val-BDD-b-1-3"]


# --- the list: a file that can be trusted --------------------------------------------------------


def test_the_same_choices_give_the_same_bytes_in_any_order_of_the_files(tmp_path: Path):
    paths = write_annotations(tmp_path, SPLITS)
    written = []
    for order in (paths, paths[::-1]):
        write_permis_list(tmp_path / "list.json", build_permis_list(order, tmp_path / "images"))
        written.append((tmp_path / "list.json").read_bytes())
    assert written[0] == written[1]


def test_a_list_that_is_read_is_the_one_that_was_written(tmp_path: Path, permis: PermisList):
    write_permis_list(tmp_path / "list.json", permis)
    again = read_permis_list(tmp_path / "list.json")
    assert again.sha256 == permis.sha256
    write_permis_list(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "list.json").read_bytes()
    assert (video_of(again, VAL).instances(2) == video_of(permis, VAL).instances(2)).all()
    assert video_of(again, VAL).image_part == video_of(permis, VAL).image_part


def test_every_choice_is_in_the_file(tmp_path: Path, permis: PermisList):
    write_permis_list(tmp_path / "list.json", permis)
    content = json.loads((tmp_path / "list.json").read_text())
    choices = content["choices"]
    assert choices.pop("rules").keys() >= {"videos", "reference", "objects", "frames", "pairs"}
    assert choices == {
        "dropped_sources": ["AVA", "HACS", "LaSOT"],
        "minimum_instances": 2,
        "minimum_area_share": 0.001,
        "seed": 0,
    }
    assert [source["split"] for source in content["sources"]] == ["test", "train", "val"]
    assert all(len(source["sha256"]) == 64 for source in content["sources"])


def test_a_list_that_was_edited_is_refused(tmp_path: Path, permis: PermisList):
    path = tmp_path / "list.json"
    write_permis_list(path, permis)
    path.write_text(path.read_text().replace('"minimum_instances": 2', '"minimum_instances": 3'))
    with pytest.raises(
        EvaluationError, match=r"list.json: the content does not match the checksum"
    ):
        read_permis_list(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no readable list"),
        ("[]", "not a propagate-permis list"),
        ('{"format": "propagate-permis", "version": 9}', "version 9 of the list, this .* reads 1"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(EvaluationError, match=rf"list.json: {message}.*; build the list again"):
        read_permis_list(tmp_path / "list.json")


def test_a_sequence_in_two_files_is_refused(tmp_path: Path):
    (path, *_) = write_annotations(tmp_path, SPLITS)
    twin = tmp_path / "common_classes.json"
    twin.write_bytes(path.read_bytes())
    with pytest.raises(EvaluationError, match=r"common_classes.json: sequence val/YFCC100M/v_1 is"):
        build_permis_list([path, twin], tmp_path / "images")


def test_missing_images_are_one_error_with_their_number(tmp_path: Path):
    paths = write_annotations(tmp_path, SPLITS)
    for image in (tmp_path / "images" / "val" / "YFCC100M" / "v_1").iterdir():
        image.unlink()
    message = r"5 of 10 images are missing: val/YFCC100M/v_1/frame0031.jpg, .*frame0091.jpg, \.\.\."
    with pytest.raises(EvaluationError, match=message):
        build_permis_list(paths, tmp_path / "images")


def test_images_of_another_size_are_refused(tmp_path: Path):
    paths = write_annotations(tmp_path, SPLITS)
    path = tmp_path / "images" / "train" / "BDD" / "b 1" / "c" / "frame0001.jpg"
    Image.new("L", (20, 15)).save(path)
    with pytest.raises(EvaluationError, match=r"frame0001.jpg: 20x15 pixels, its masks 40x30"):
        build_permis_list(paths, tmp_path / "images")


def test_a_list_without_videos_is_refused_with_the_reasons(tmp_path: Path):
    paths = write_annotations(tmp_path, {"val": SPLITS["val"][1:]})
    with pytest.raises(EvaluationError, match=r"no video is left \(1 without a frame after the"):
        build_permis_list(paths, tmp_path / "images")


@pytest.mark.parametrize("choice", [{"minimum_instances": 1}, {"minimum_area_share": 1.0}])
def test_choices_without_sense_are_wrong_arguments(choice: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(choice))):
        Choices(**choice)


# --- videos --------------------------------------------------------------------------------------

Predict = Callable[[PermisVideo, int], np.ndarray]


def write_predictions(root: Path, permis: PermisList, predict: Predict) -> Path:
    for video in permis.videos:
        folder = root / "pred" / video.name
        folder.mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(video.frame_names):
            ids = predict(video, index).astype(np.uint8)
            Image.fromarray(ids).save(folder / f"{name}.png")
    return root / "pred"


def true(video: PermisVideo, index: int) -> np.ndarray:
    return video.truth(index)


def swapped(video: PermisVideo, index: int) -> np.ndarray:
    return np.choose(video.truth(index), [0, 2, 1])


def test_the_truth_as_prediction_is_perfect(tmp_path: Path, permis: PermisList):
    result = evaluate_permis(permis, write_predictions(tmp_path, permis, true))
    assert result.scores.global_["J&F-Mean"] == 1.0
    assert (result.identity.total.on_other, result.identity.total.switches) == (0, 0)
    # Objects times scored frames, of the three videos.
    assert result.identity.total.object_frames == 2 * 4 + 2 * 2 + 2 * 1


def test_swapped_instances_score_nothing_and_are_counted_as_switches(
    tmp_path: Path, permis: PermisList
):
    result = evaluate_permis(permis, write_predictions(tmp_path, permis, swapped))
    assert result.scores.global_["J&F-Mean"] == 0.0
    # Cat 5 is gone in the last two frames: nobody can lie on it, but its prediction lies on cat 3.
    assert result.identity.under[VAL] == {1: [2, 2, 0, 0], 2: [1, 1, 1, 1]}
    assert result.identity.per_object[f"{VAL}_2"].on_other == 4
    assert result.identity.per_sequence[VAL].switches == 2
    assert result.identity.per_sequence[TEST].share == 1.0
    assert result.identity.total.switches == 6


def test_a_prediction_on_an_instance_that_entered_later_is_on_another(
    tmp_path: Path, permis: PermisList
):
    def on_cat_8(video: PermisVideo, index: int) -> np.ndarray:
        if video.name != VAL:
            return video.truth(index)
        ids = np.where(video.truth(index) == 1, 1, 0)
        return np.where(video.instances(index) == 3, 2, ids)

    result = evaluate_permis(permis, write_predictions(tmp_path, permis, on_cat_8))
    assert result.identity.under[VAL][2] == [0, 3, 3, 0]
    assert result.identity.total.switches == 1


def test_j_and_f_are_those_of_davis_without_the_reference(tmp_path: Path, permis: PermisList):
    def halved(video: PermisVideo, index: int) -> np.ndarray:
        ids = video.truth(index)
        ids[:, 2:7] = 0  # of the box at the left, half; in the reference too
        return ids

    scores = evaluate_permis(permis, write_predictions(tmp_path, permis, halved)).scores
    assert scores.per_frame[VAL]["J"] == [[0.5] * 4, [1.0] * 4]
    assert scores.frames[VAL] == ["frame0061", "frame0091", "frame0121", "frame0151"]
    assert scores.per_object[f"{VAL}_1"]["J-Recall"] == 0.0
    # Six objects alike, whatever the lengths of their videos: in TEST the boxes change places.
    expected = (0.5 + 1.0 + 0.75 + 0.75 + 0.5 + 1.0) / 6
    assert scores.global_["J-Mean"] == pytest.approx(expected, abs=1e-12)


def test_two_processes_give_the_same_numbers(tmp_path: Path, permis: PermisList):
    predictions = write_predictions(tmp_path, permis, swapped)
    one, two = (evaluate_permis(permis, predictions, jobs=jobs).to_json() for jobs in (1, 2))
    assert one == two


def test_the_protocol_names_the_list_and_what_was_counted(tmp_path: Path, permis: PermisList):
    result = evaluate_permis(permis, write_predictions(tmp_path, permis, true))
    content = json.loads(result.to_json())
    protocol = content["protocol"]
    assert protocol["list_sha256"] == permis.sha256
    assert [protocol[noun] for noun in ("sequences", "objects", "frames")] == [3, 6, 7]
    assert protocol["exceptions"] == {"instances_not_scored": [f"{TRAIN}_3", f"{VAL}_3"]}
    assert content["identity"]["total"]["share"] == 0.0
    assert content["global"]["J&F-Mean"] == 1.0


def test_missing_predictions_are_refused_all_at_once(tmp_path: Path, permis: PermisList):
    predictions = write_predictions(tmp_path, permis, true)
    (predictions / VAL / "frame0091.png").unlink()
    (predictions / VAL / "frame0031.png").unlink()  # the reference is not needed
    for path in (predictions / TEST).iterdir():
        path.unlink()
    (predictions / TEST).rmdir()
    with pytest.raises(EvaluationError) as error:
        evaluate_permis(permis, predictions)
    assert str(error.value) == (
        f"{predictions / TEST}: no such folder; {predictions / VAL}/frame0091.png: missing; "
        "predict every scored frame, or pass allow_missing=True to leave out what is missing"
    )


def test_what_may_be_missing_is_left_out_and_named(tmp_path: Path, permis: PermisList):
    predictions = write_predictions(tmp_path, permis, true)
    (predictions / VAL / "frame0091.png").unlink()
    for path in (predictions / TEST).iterdir():
        path.unlink()
    result = evaluate_permis(permis, predictions, allow_missing=True)
    protocol = result.scores.protocol
    assert protocol["missing"] == {"sequences": [TEST], "frames": {VAL: ["frame0091"]}}
    assert protocol["title"] == "PerMIS-video, INCOMPLETE: missing sequences: 1, frames: 1"
    assert result.scores.frames[VAL] == ["frame0061", "frame0121", "frame0151"]
    assert result.identity.per_sequence[VAL].object_frames == 6


def test_nothing_there_is_refused_even_where_some_may_be_missing(
    tmp_path: Path, permis: PermisList
):
    predictions = write_predictions(tmp_path, permis, true)
    for name in (VAL, TEST, TRAIN):
        (predictions / name).rename(predictions / f"x-{name}")
    with pytest.raises(EvaluationError, match=r"pred: no prediction of any scored frame"):
        evaluate_permis(permis, predictions, allow_missing=True)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.full((HEIGHT, WIDTH), 3), r"frame0061.png: id 3, where the list has 1..2"),
        (np.full((HEIGHT, WIDTH), 255), r"frame0061.png: id 255, where the list has 1..2"),
        (np.zeros((HEIGHT, 20)), r"frame0061.png: 20x30 pixels, the video 40x30"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    tmp_path: Path, permis: PermisList, ids: np.ndarray, message: str
):
    predictions = write_predictions(tmp_path, permis, true)
    Image.fromarray(ids.astype(np.uint8)).save(predictions / VAL / "frame0061.png")
    with pytest.raises(EvaluationError, match=message):
        evaluate_permis(permis, predictions)


def test_overlapping_predictions_in_folders_of_their_own_are_scored(
    tmp_path: Path, permis: PermisList
):
    for video in permis.videos:
        for i in video.object_ids:
            folder = tmp_path / "pred" / video.name / f"{i:03d}"
            folder.mkdir(parents=True)
            for index, name in enumerate(video.frame_names):
                everything = video.truth(index) > 0  # each prediction covers both instances
                Image.fromarray(everything).save(folder / f"{name}.png")
    result = evaluate_permis(permis, tmp_path / "pred")
    assert result.scores.per_frame[TEST]["J"] == [[0.5, 0.5], [0.5, 0.5]]
    assert result.identity.under[TEST] == {1: [1, 1], 2: [2, 2]}  # equal shares: its own


# --- images --------------------------------------------------------------------------------------


def test_the_pairs_show_an_instance_among_others_of_its_class(permis: PermisList):
    part = video_of(permis, VAL).image_part
    assert part is not None
    assert part.object_id == 1  # in three fit frames, cat 5 in two
    assert set(part.targets) < {1, 2, 3}  # in frame 4 it is alone
    assert video_of(permis, TRAIN).image_part is None  # one frame after the reference


def test_the_instance_of_a_pair_is_large_in_its_frames(tmp_path: Path):
    tracks: Tracks = {
        1: (CAR, [A, None, MINI, A]),
        2: (CAR, [B, B, B, B]),
        3: (CAR, [C, C, C, C]),
    }
    (video,) = build(tmp_path, {"val": [sequence("BDD", "b", tracks)]}).videos
    assert video.image_part is not None
    assert video.image_part.object_id == 2


def test_the_seed_draws_the_frames_and_each_video_for_itself(tmp_path: Path):
    targets = {video_of(build(tmp_path, SPLITS, seed=seed), VAL).image_part for seed in range(12)}
    assert len(targets) == 6  # two of three frames, in either order
    alone = build(tmp_path / "alone", {"val": SPLITS["val"]})
    assert video_of(alone, VAL).image_part == video_of(build(tmp_path, SPLITS), VAL).image_part


def test_pooled_and_mean_iou_differ_as_defined(tmp_path: Path):
    small, large = (2, 2, 4, 4), (0, 20, 30, 20)
    first: Tracks = {1: (CAR, [small] * 3), 2: (CAR, [D, None, None]), 3: (CAR, [C] * 3)}
    second: Tracks = {1: (CAR, [large] * 3), 2: (CAR, [C] * 3)}
    permis = build(tmp_path, {"val": [sequence("BDD", "a", first), sequence("BDD", "b", second)]})
    objects = [v.image_part.object_id for v in permis.videos if v.image_part]
    assert objects == [1, 1]

    def half_of_the_small_one(video: PermisVideo, index: int) -> np.ndarray:
        ids = video.truth(index)
        if video.name == "val-BDD-a":
            ids[:4] = 0  # two of its four rows
        return ids

    scores = evaluate_permis_images(
        permis, write_predictions(tmp_path, permis, half_of_the_small_one)
    )
    assert [pair.overlap.iou for pair in scores.pairs] == [0.5, 0.5, 1.0, 1.0]
    assert scores.global_["IoU-Mean"] == 0.75
    assert scores.global_["IoU-Pooled"] == (8 + 8 + 600 + 600) / (16 + 16 + 600 + 600)
    # The boundary region is one pixel deep: of 4x4 the rim of 12, of the lower half all 8, of which
    # the corner pixels and the lower rows' rim are shared.
    pair = scores.pairs[0]
    assert (pair.overlap.boundary_intersection_px, pair.overlap.boundary_union_px) == (6, 14)
    assert json.loads(scores.to_json())["pairs"][0]["bIoU"] == 6 / 14


def test_pairs_need_their_own_frames_only(tmp_path: Path, permis: PermisList):
    predictions = write_predictions(tmp_path, permis, true)
    part = video_of(permis, VAL).image_part
    assert part is not None
    for index, name in enumerate(video_of(permis, VAL).frame_names):
        if index not in part.targets:
            (predictions / VAL / f"{name}.png").unlink()
    for path in (predictions / TRAIN).iterdir():
        path.unlink()
    scores = evaluate_permis_images(permis, predictions)
    assert scores.global_ == dict.fromkeys(scores.global_, 1.0)
    assert (scores.protocol["sequences"], scores.protocol["pairs"]) == (2, 4)


def test_an_empty_prediction_scores_zero(tmp_path: Path, permis: PermisList):
    predictions = write_predictions(tmp_path, permis, lambda v, _: np.zeros((HEIGHT, WIDTH)))
    assert set(evaluate_permis_images(permis, predictions).global_.values()) == {0.0}


def slow_boundary_region(mask: np.ndarray, distance_px: int) -> np.ndarray:
    """The released code's way: pad by one pixel, erode by 3x3 so many times, subtract."""
    eroded = np.pad(mask, 1)
    for _ in range(distance_px):
        before = eroded.copy()
        for y in range(1, eroded.shape[0] - 1):
            for x in range(1, eroded.shape[1] - 1):
                eroded[y, x] = before[y - 1 : y + 2, x - 1 : x + 2].all()
    return mask & ~eroded[1:-1, 1:-1]


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.just(True)),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=6),
    st.integers(1, 4),
)
def test_the_boundary_region_is_that_of_repeated_erosion(
    mask: np.ndarray, holes: list[tuple[int, int]], distance_px: int
):
    for y, x in holes:
        mask[y % mask.shape[0], x % mask.shape[1]] = False
    expected = slow_boundary_region(mask, distance_px)
    assert (boundary_region(mask, distance_px) == expected).all()


def test_the_depth_of_the_region_is_two_percent_of_the_diagonal():
    assert boundary_distance_px(480, 854) == 20  # 19.6
    assert boundary_distance_px(720, 1280) == 29  # 29.4
    assert boundary_distance_px(20, 20) == 1


# --- retrieval -----------------------------------------------------------------------------------


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


def similarities(permis: PermisList) -> tuple[list[str], list[str], np.ndarray]:
    """VAL finds one of its frames first and the other one last; TEST finds both last."""
    images = retrieval_images(permis)
    gallery = [image for group in images.values() for image in group]
    scores = {
        VAL: [images[VAL][0], images[VAL][1], *images[TEST], images[VAL][2]],
        TEST: [images[TEST][0], *images[VAL], images[TEST][1], images[TEST][2]],
    }
    rows = [[-float(order.index(image)) for image in gallery] for order in scores.values()]
    return list(scores), gallery, np.array(rows)


def write_table(path: Path, queries: list[str], gallery: list[str], scores: np.ndarray) -> Path:
    if path.suffix == ".json":
        content = {"queries": queries, "gallery": gallery, "scores": scores.tolist()}
        path.write_text(json.dumps(content))
        return path
    with path.open("w", newline="") as file:
        rows = ([q, *row] for q, row in zip(queries, scores.tolist(), strict=True))
        csv.writer(file).writerows([["query", *gallery], *rows])
    return path


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
        ("gone.csv", None, "no readable table"),
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


# --- what a person sees --------------------------------------------------------------------------


def text_of(table: object) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_tables_say_the_protocol_in_words(tmp_path: Path, permis: PermisList):
    predictions = write_predictions(tmp_path, permis, swapped)
    video = text_of(format_permis(evaluate_permis(permis, predictions)))
    assert "PerMIS-video (sequences: 3, objects: 6, frames: 7)" in video
    assert f"List: sha256 {permis.sha256}." in video
    assert "Switches" in video
    assert "every annotated frame but the first" in video
    images = text_of(format_images(evaluate_permis_images(permis, predictions)))
    assert "PerMIS-image (sequences: 2, pairs: 4)" in images
    assert "all pairs, pooled" in images
    table = write_table(tmp_path / "t.csv", *similarities(permis))
    retrieval = text_of(format_retrieval(evaluate_permis_retrieval(permis, table)))
    assert "PerMIR retrieval (queries: 2, gallery: 6)" in retrieval
    assert "Recall@50" in retrieval
    assert "left out: source dropped" in text_of(format_list(permis))


def test_the_commands_build_a_list_and_score_it(tmp_path: Path, propagate: Callable[..., Any]):
    paths = write_annotations(tmp_path, SPLITS)
    out, scores = tmp_path / "list.json", tmp_path / "scores.json"
    images = tmp_path / "images"
    built = propagate(
        *("eval", "permis", "build", "--images", images, "-o", out),
        *(word for path in paths for word in ("--annotations", path)),
    )
    assert (built.status, built.stderr) == (0, f"propagate: {out}: 3 videos\n")
    assert "objects" in built.stdout
    permis = read_permis_list(out)
    pred = write_predictions(tmp_path, permis, swapped)
    call = ("eval", "permis", "--list", out, "--pred")
    assert "0.000" in propagate(*call, pred, "--json", scores).stdout
    assert json.loads(scores.read_text())["identity"]["total"]["switches"] == 6
    assert "bIoU" in propagate(*call, pred, "--task", "images").stdout
    table = write_table(tmp_path / "t.csv", *similarities(permis))
    assert "mAP" in propagate(*call, table, "--task", "retrieval").stdout


def test_burst_predictions_score_as_the_same_masks_in_folders_do(tmp_path: Path):
    """The annotations of a split are its perfect predictions; with two tracks renamed, a swap."""
    permis = build(tmp_path, {"val": SPLITS["val"]})
    perfect = evaluate_permis(permis, tmp_path / "val.json")
    assert perfect.scores.global_["J&F-Mean"] == 1
    content = json.loads((tmp_path / "val.json").read_text())
    other = {"3": "5", "5": "3"}
    for item in content["sequences"]:
        item["segmentations"] = [
            {other.get(track, track): mask for track, mask in masks.items() if track in other}
            for masks in item["segmentations"]
        ]
    (tmp_path / "swapped.json").write_text(json.dumps(content))
    folder = write_predictions(tmp_path, permis, swapped)
    from_json = evaluate_permis(permis, tmp_path / "swapped.json", jobs=2)
    assert from_json.to_json() == evaluate_permis(permis, folder).to_json()
    assert from_json.identity.total.switches > 0


def test_burst_predictions_that_do_not_fit_are_one_error(tmp_path: Path, permis: PermisList):
    with pytest.raises(EvaluationError, match=r"test-YFCC100M-v_1: no such folder"):
        evaluate_permis(permis, tmp_path / "val.json")
    content = json.loads((tmp_path / "val.json").read_text())
    item = next(item for item in content["sequences"] if item["seq_name"] == "v_1")
    last = item["annotated_image_paths"].index("frame0151.jpg")
    del item["annotated_image_paths"][last], item["segmentations"][last]
    (tmp_path / "val.json").write_text(json.dumps(content))
    one_split = replace(permis, videos=(video_of(permis, VAL),))
    with pytest.raises(EvaluationError, match=r"val.json:val-YFCC100M-v_1/frame0151: missing"):
        evaluate_permis(one_split, tmp_path / "val.json")


def test_the_commands_say_what_is_missing(tmp_path: Path, propagate: Callable[..., Any]):
    no_list = propagate("eval", "permis", "--pred", tmp_path)
    assert no_list.status == 2
    assert "--list" in no_list.stderr
    gone = propagate("eval", "permis", "--list", tmp_path / "gone.json", "--pred", tmp_path)
    assert gone.status == 1
    assert gone.stderr.count("\n") == 1
