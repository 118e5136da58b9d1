"""PerMIS-video: J, F and identity switches over the drawn list."""

import json
from pathlib import Path

import numpy as np
import pytest

from propagate.eval.permis.list import PermisList, PermisVideo
from propagate.eval.permis.video import evaluate_permis
from tests.drawn_permis import TEST, TRAIN, VAL, swapped, true, write_predictions


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
