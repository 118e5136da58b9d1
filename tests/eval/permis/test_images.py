"""PerMIS-image: the pairs, and their IoU and boundary IoU."""

import json
from pathlib import Path

import numpy as np

from propagate.eval.permis.images import evaluate_permis_images
from propagate.eval.permis.list import PermisList, PermisVideo
from tests.drawn_permis import (
    CAR,
    HEIGHT,
    MINI,
    SPLITS,
    TRAIN,
    VAL,
    WIDTH,
    A,
    B,
    C,
    D,
    Tracks,
    build,
    sequence,
    true,
    video_of,
    write_predictions,
)


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
