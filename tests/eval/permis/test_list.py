"""The PerMIS list: a file that can be trusted, and the truth in it."""

import json
from pathlib import Path

import numpy as np
import pytest

from propagate.errors import EvaluationError
from propagate.eval.permis.build import build_permis_list
from propagate.eval.permis.list import PermisList, read_permis_list, write_permis_list
from tests.drawn_permis import (
    CAR,
    HEIGHT,
    SPLITS,
    VAL,
    WIDTH,
    A,
    B,
    C,
    Tracks,
    build,
    draw,
    sequence,
    video_of,
    write_annotations,
)


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


def test_of_overlapping_masks_the_smaller_one_is_in_front(tmp_path: Path):
    tracks: Tracks = {1: (CAR, [(2, 2, 4, 4), A]), 2: (CAR, [A, B])}
    (video,) = build(tmp_path, {"train": [sequence("BDD", "b", tracks)]}).videos
    assert np.count_nonzero(video.truth(0) == 1) == 16
    assert np.count_nonzero(video.truth(0) == 2) == 100 - 16
