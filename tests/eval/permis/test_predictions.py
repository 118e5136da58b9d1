"""Predictions for a PerMIS list: what is missing, what does not fit, and BURST's JSON."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.permis.list import PermisList
from propagate.eval.permis.video import evaluate_permis
from tests.drawn_permis import (
    HEIGHT,
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    WIDTH,
    build,
    swapped,
    true,
    video_of,
    write_predictions,
)


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
