"""BURST's JSON, read and written, and what it says of files that are not in order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from propagate.errors import EvaluationError
from propagate.eval.burst import frame_number, read_burst, write_burst
from propagate.io.masks.rle import decode_mask, encode_mask, mask_area_px

HEIGHT, WIDTH = 12, 20


def rle(top: int, left: int, height: int = 4, width: int = 5) -> str:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return encode_mask(mask)


def content() -> dict[str, Any]:
    """One sequence of two tracks; its frames are listed out of order."""
    return {
        "split": "val",
        "categories": [
            {"id": 7, "name": "cat", "synset": "cat.n.01", "def": "a feline", "synonyms": ["cat"]},
            {"id": 9, "name": "dog", "synset": "dog.n.01", "def": "a canine", "synonyms": []},
        ],
        "sequences": [
            {
                "id": 3,
                "dataset": "YFCC100M",
                "seq_name": "v_1",
                "width": WIDTH,
                "height": HEIGHT,
                "fps": 30,
                "all_image_paths": ["frame0002.jpg", "frame0010.jpg", "frame0011.jpg"],
                "annotated_image_paths": ["frame0010.jpg", "frame0002.jpg"],
                "neg_category_ids": [1, 2],
                "not_exhaustive_category_ids": [9],
                "track_category_ids": {"10": 9, "2": 7},
                "segmentations": [
                    {"2": {"rle": rle(1, 1), "is_gt": False, "score": 0.5}},
                    {"2": {"rle": rle(0, 0), "is_gt": True}, "10": {"rle": rle(5, 9)}},
                ],
            }
        ],
    }


def write(path: Path, raw: Any) -> Path:
    path.write_text(json.dumps(raw))
    return path


def test_frames_come_in_the_order_of_their_numbers_with_their_masks(tmp_path: Path):
    (sequence,) = read_burst(write(tmp_path / "a.json", content())).sequences
    assert sequence.annotated_images == ("frame0002.jpg", "frame0010.jpg")
    assert [list(masks) for masks in sequence.masks] == [[2, 10], [2]]
    assert sequence.masks[0][2].counts == rle(0, 0)
    assert sequence.masks[1][2].is_gt is False
    assert sequence.masks[1][2].score == 0.5
    assert sequence.masks[0][10].is_gt is None


def test_tracks_are_numbers(tmp_path: Path):
    burst = read_burst(write(tmp_path / "a.json", content()))
    assert burst.sequences[0].categories == {2: 7, 10: 9}
    assert burst.category_names == {7: "cat", 9: "dog"}


@pytest.mark.parametrize(
    ("image", "number"),
    [
        ("frame0391.jpg", 391),
        ("ring_front_center_315978406.jpg", 315978406),
        ("00012.png", 12),
        ("v_7_frame00003.jpg", 3),
    ],
)
def test_the_frame_number_follows_the_last_underscore(image: str, number: int):
    assert frame_number(image) == number


def test_what_is_written_is_what_was_read(tmp_path: Path):
    raw = content()
    write_burst(tmp_path / "b.json", read_burst(write(tmp_path / "a.json", raw)))
    written = json.loads((tmp_path / "b.json").read_text())
    (sequence,) = raw["sequences"]
    for key in ("annotated_image_paths", "segmentations"):
        sequence[key] = sequence[key][::-1]
    assert written == raw


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 40))))
def test_masks_are_pycocotools_masks(mask: np.ndarray):
    height, width = mask.shape
    expected: Any = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert encode_mask(mask) == expected["counts"].decode()
    assert (decode_mask(encode_mask(mask), height, width) == mask).all()
    assert mask_area_px(encode_mask(mask), height, width) == coco.area(expected)


def test_a_mask_of_long_runs_is_read_exactly():
    mask = np.zeros((1100, 2000), dtype=bool)
    mask[:, 900:] = True
    mask[5, 3] = True
    assert (decode_mask(encode_mask(mask), 1100, 2000) == mask).all()


def change(*keys: Any, value: Any) -> dict[str, Any]:
    raw = content()
    *way, last = keys
    part: Any = raw
    for key in way:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return raw


SEQUENCE = ("sequences", 0)
MASK = (*SEQUENCE, "segmentations", 0, "2")
HERE = r"sequence 'v_1', frame 'frame0010.jpg', track 2, "


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([1, 2], r"no 'split'"),
        (change("categories", 0, "name", value=None), r"category 0, no 'name'"),
        (change(*SEQUENCE, "seq_name", value=None), r"sequence 0, no 'seq_name'"),
        (change(*SEQUENCE, "height", value=None), r"sequence 'v_1', no 'height'"),
        (change(*SEQUENCE, "height", value="12"), r"sequence 'v_1', 'height' is a str"),
        (change(*SEQUENCE, "height", value=0), r"'v_1', width and height are 20 and 0"),
        (change(*SEQUENCE, "track_category_ids", "2", value=8), r"track 2 is of category 8, not"),
        (
            change(*SEQUENCE, "track_category_ids", "2", value=None),
            r"frame 'frame0002.jpg', track 2, which is not in track_category_ids",
        ),
        (change(*SEQUENCE, "track_category_ids", "x", value=7), r"a track that is not a number"),
        (change(*SEQUENCE, "segmentations", value=[{}]), r"2 annotated images, but .* of 1"),
        (change(*SEQUENCE, "segmentations", 0, value=[]), r"frame0010.jpg', a list where masks by"),
        (
            change(*SEQUENCE, "annotated_image_paths", 0, value="a.jpg"),
            r"no frame number in .*'a.j",
        ),
        (
            change(*SEQUENCE, "annotated_image_paths", 0, value="frame02.jpg"),
            r"'frame02.jpg' and 'frame0002.jpg' have the same frame number",
        ),
        (change(*MASK, "rle", value=None), HERE + "no 'rle'"),
        (change(*MASK, "rle", value=""), HERE + "the RLE is not COCO's"),
        (change(*MASK, "rle", value=rle(1, 1)[:-1]), HERE + "the RLE"),
        (
            change(*MASK, "rle", value=encode_mask(np.ones((5, 5), dtype=bool))),
            HERE + "the RLE covers 25 pixels, the frame of 20x12 has 240",
        ),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_with_the_place(
    tmp_path: Path, raw: Any, message: str
):
    path = write(tmp_path / "a.json", raw)
    with pytest.raises(EvaluationError, match=message) as error:
        read_burst(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_json_and_no_file_are_refused(tmp_path: Path):
    (tmp_path / "a.json").write_text("{")
    for name in ("a.json", "gone.json"):
        with pytest.raises(EvaluationError, match=rf"{name}: no readable JSON"):
            read_burst(tmp_path / name)
