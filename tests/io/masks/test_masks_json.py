"""Masks as run lengths, in `masks.json`."""

import json
import os
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from propagate.errors import OutputError
from propagate.io.masks.masks_json import MasksJsonWriter, read_masks_json
from propagate.io.masks.rle import encode_rle
from tests.small_masks import refusal


def frames_of_ids() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 5, (13, 17)).repeat(3, axis=0).astype(np.uint8) for _ in range(4)]
    frames[2][:] = 0
    frames[3][5:9] = 255
    return frames


def test_rle_reads_back_as_the_ids_that_were_written(tmp_path):
    frames = frames_of_ids()
    with MasksJsonWriter(tmp_path / "masks.json", 39, 17) as writer:
        for index, ids in enumerate(frames):
            writer.write(ids, index=index, name=f"{index:05d}", time_s=index / 25)
    read = read_masks_json(tmp_path / "masks.json")
    assert read.shape == (39, 17)
    assert list(read.counts) == ["00000", "00001", "00002", "00003"]
    for name, expected in zip(read.counts, frames, strict=True):
        masks = read.masks(name)
        assert set(masks) == {*expected.ravel().tolist()} - {0, 255}
        for i, mask in masks.items():
            assert np.array_equal(mask, expected == i)


# pycocotools 2.0.11 has not caught up with numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_rle_entries_say_what_pycocotools_and_plain_counting_say(tmp_path):
    ids = frames_of_ids()[0]
    with MasksJsonWriter(tmp_path / "masks.json", *ids.shape) as writer:
        writer.write(ids, index=4, name="00004", time_s=0.16, scores={2: 0.75})
    content = json.loads((tmp_path / "masks.json").read_text())
    assert content["size"] == [39, 17]
    (frame,) = content["frames"]
    assert (frame["index"], frame["name"], frame["time_s"]) == (4, "00004", 0.16)
    assert [entry["id"] for entry in frame["objects"]] == [1, 2, 3, 4]
    for entry in frame["objects"]:
        region = ids == entry["id"]
        rows, columns = np.nonzero(region)
        assert np.array_equal(coco.decode(entry["segmentation"]), region)
        assert entry["area"] == region.sum()
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) - left + 1, int(rows.max()) - top + 1
        assert entry["bbox"] == [left, top, width, height]
    assert [entry.get("score") for entry in frame["objects"]] == [None, 0.75, None, None]


def test_run_lengths_go_down_the_columns():
    ids = np.zeros((3, 4), dtype=np.uint8)
    ids[:, 1] = 9
    (entry,) = encode_rle(ids)
    uncompressed: Any = {"size": [3, 4], "counts": [3, 3, 6]}
    by_hand: Any = coco.frPyObjects(uncompressed, 3, 4)
    assert entry["segmentation"]["counts"].encode() == by_hand["counts"]


def test_a_file_of_no_frames_is_valid_json(tmp_path):
    with MasksJsonWriter(tmp_path / "masks.json", 4, 4):
        pass
    assert read_masks_json(tmp_path / "masks.json").counts == {}


def test_rle_is_absent_until_it_is_complete(tmp_path):
    with MasksJsonWriter(tmp_path / "masks.json", 39, 17) as writer:
        writer.write(frames_of_ids()[0], index=0, name="00000", time_s=0.0)
        assert not (tmp_path / "masks.json").exists()
    assert os.listdir(tmp_path) == ["masks.json"]


def test_nothing_of_the_rle_stays_when_the_run_breaks_off(tmp_path):
    def write_and_stop() -> None:
        with MasksJsonWriter(tmp_path / "masks.json", 39, 17) as writer:
            writer.write(frames_of_ids()[0], index=0, name="00000", time_s=0.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert os.listdir(tmp_path) == []


def test_other_json_is_refused(tmp_path):
    (tmp_path / "masks.json").write_text('{"annotations": []}')
    refusal(
        lambda: read_masks_json(tmp_path / "masks.json"), "masks.json", "no readable run lengths"
    )
    (tmp_path / "masks.json").write_text("{")
    refusal(lambda: read_masks_json(tmp_path / "masks.json"), "masks.json", "run it again")


def test_damaged_run_lengths_are_refused(tmp_path):
    """pycocotools would return whatever lies behind the mask in memory."""
    with MasksJsonWriter(tmp_path / "masks.json", 39, 17) as writer:
        writer.write(frames_of_ids()[0], index=0, name="00000", time_s=0.0)
    content = json.loads((tmp_path / "masks.json").read_text())
    content["size"] = [39, 18]
    (tmp_path / "masks.json").write_text(json.dumps(content))
    read = read_masks_json(tmp_path / "masks.json")
    with pytest.raises(ValueError, match=r"covers 663 pixels, the frame of 18x39 has 702"):
        read.masks("00000")


def test_an_rle_file_that_does_not_fit_leaves_nothing(tmp_path, file_size_limit):
    def write_all() -> None:
        with MasksJsonWriter(tmp_path / "masks.json", 39, 17) as writer:
            for index in range(100):
                writer.write(frames_of_ids()[0], index=index, name="x", time_s=0.0)

    with pytest.raises(OutputError, match=r"masks\.json: .*file too large"), file_size_limit(5_000):
        write_all()
    assert os.listdir(tmp_path) == []
