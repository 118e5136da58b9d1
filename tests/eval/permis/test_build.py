"""Which videos, frames and instances of BURST enter the PerMIS list, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.permis.build import Choices, build_permis_list
from propagate.eval.permis.list import PermisList
from tests.drawn_permis import (
    CAR,
    CAT,
    DOG,
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    A,
    B,
    C,
    D,
    Tracks,
    build,
    sequence,
    video_of,
    write_annotations,
)


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


def test_names_stay_apart_where_upper_and_lower_case_are_the_same(tmp_path: Path):
    cars: Tracks = {1: (CAR, [A, A]), 2: (CAR, [B, B])}
    twins = [sequence("BDD", name, cars) for name in ("b-1", "B-1", "b 1")]
    names = [v.name for v in build(tmp_path, {"val": twins}).videos]
    assert sorted(names) == ["val-BDD-B-1", "val-BDD-b-1-2", "val-BDD-b-1-3"]


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
