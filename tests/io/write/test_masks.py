import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from pycocotools import mask as coco

from propagate.errors import MaskError, OutputError
from propagate.io.masks.ids import check_size, mask_from_array
from propagate.io.masks.masks_json import MasksJsonWriter, read_masks_json
from propagate.io.masks.png import palette, read_mask, write_mask
from propagate.io.masks.references import read_references
from propagate.io.masks.rle import encode_rle
from propagate.io.write.files import remove_partial_files, write_atomically
from tests.paths import SHARED
from tests.small_disk import mounted

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is absent")


def disc(value: int = 255, size: tuple[int, int] = (160, 120)) -> Image.Image:
    image = Image.new("L", size)
    ImageDraw.Draw(image).ellipse((40, 20, 110, 90), fill=value)
    return image


def squares(values: list[int], side: int = 6) -> np.ndarray:
    """Ids in a row of squares with a gap between them."""
    row = np.repeat(np.repeat([[*values]], side, axis=0), side, axis=1).astype(np.uint8)
    return np.pad(row, 2)


# What a mask may be


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_ids_of_a_grey_and_of_a_palette_image_are_its_values(tmp_path, mode):
    ids = squares([1, 5, 38])
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    if mode == "LA":
        image.putalpha(7)
    image.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert np.array_equal(mask.ids, ids)
    assert mask.object_ids == (1, 5, 38)
    assert not mask.binary
    assert mask.source == str(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["L", "1"])
def test_black_and_white_is_one_object(tmp_path, mode):
    disc().convert(mode).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.binary
    assert mask.object_ids == (1,)
    assert np.array_equal(mask.ids, np.asarray(disc()) // 255)


def test_255_beside_other_ids_is_void():
    mask = mask_from_array(squares([1, 2, 255]))
    assert mask.object_ids == (1, 2)
    assert 255 in mask.ids
    assert not mask.binary


def test_ids_0_and_1_are_not_black_and_white():
    mask = mask_from_array(squares([1]))
    assert mask.object_ids == (1,)
    assert not mask.binary


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_arrays_of_any_integer_type_are_taken_and_copied(dtype):
    array = squares([3, 254]).astype(dtype)
    mask = mask_from_array(array)
    array[:] = 0
    assert mask.object_ids == (3, 254)
    assert mask.ids.dtype == np.uint8


def test_a_boolean_array_is_one_object():
    array = squares([1]).astype(bool)
    mask = mask_from_array(array)
    assert mask.binary
    assert np.array_equal(mask.ids, array)


def test_a_full_set_of_254_ids_is_a_mask():
    grid = np.arange(1, 255).reshape(2, 127).repeat(5, axis=0).repeat(5, axis=1)
    assert mask_from_array(np.pad(grid, 1)).object_ids == tuple(range(1, 255))


@pytest.mark.parametrize("side", [4, 8, 20])
@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("seed", [None, 0])
def test_touching_objects_are_not_soft(side, void, seed):
    ids = np.arange(1, 61)
    if seed is not None:
        ids = np.random.default_rng(seed).permutation(ids)
    grid = ids.reshape(6, 10).repeat(side, axis=0).repeat(side, axis=1).astype(np.uint8)
    framed = np.pad(np.pad(grid, 5, constant_values=255 if void else 0), 5)
    assert mask_from_array(framed).object_ids == tuple(range(1, 61))


def test_thin_objects_on_the_rim_of_another_are_not_soft():
    ids = squares([3], side=30)
    ids[10:30, 2:4] = 1
    ids[10:30, 30:32] = 2
    assert mask_from_array(ids).object_ids == (1, 2, 3)


@needs_shared
def test_no_published_annotation_is_refused():
    files = sorted((SHARED / "data" / "dev").glob("*/Annotations/480p/*/*.png"))
    firsts = {file.parent: file for file in reversed(files)}.values()
    assert len(firsts) > 30
    for file in firsts:
        with Image.open(file) as image:
            expected = np.array(image)
        assert np.array_equal(read_mask(file).ids, expected), file


# What a mask may not be


def refusal(call, *parts: str) -> str:
    with pytest.raises(MaskError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def test_a_missing_mask_is_refused(tmp_path):
    refusal(lambda: read_mask(tmp_path / "no.png"), str(tmp_path / "no.png"), "no such")


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "mask.png").write_text("hello")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "no readable image")


def test_a_truncated_mask_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 9, (90, 90), dtype=np.uint8)
    write_mask(tmp_path / "mask.png", noise)
    whole = (tmp_path / "mask.png").read_bytes()
    for size in range(0, len(whole) - 12, 97):  # Twelve bytes of end marker hold no pixel.
        (tmp_path / "mask.png").write_bytes(whole[:size])
        refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_refused(tmp_path, mode):
    disc().convert(mode).save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", mode, "index")


def test_16_bits_are_refused(tmp_path):
    Image.fromarray(squares([1, 2]).astype(np.uint16)).save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "16 bits", "8-bit")


def test_floats_in_a_file_are_refused(tmp_path):
    Image.fromarray(squares([1]).astype(np.float32)).save(tmp_path / "mask.tif")
    refusal(lambda: read_mask(tmp_path / "mask.tif"), "mask.tif", "16 bits or more")


def test_a_jpeg_is_refused(tmp_path):
    disc().save(tmp_path / "mask.jpg")
    refusal(lambda: read_mask(tmp_path / "mask.jpg"), "mask.jpg", "JPEG")


SOFT = {
    "blurred a little": lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "blurred a lot": lambda image: image.filter(ImageFilter.GaussianBlur(12)),
    "halved": lambda image: image.reduce(2),
    "shrunk": lambda image: image.resize((107, 80), Image.Resampling.LANCZOS),
    "enlarged": lambda image: image.resize((400, 300), Image.Resampling.BILINEAR),
    "enlarged, never white": lambda image: image.resize((400, 300)).point(lambda v: v * 0.9),
    "quantised": lambda image: image.resize((400, 300)).point(lambda v: v // 16 * 17),
}


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("how", SOFT)
def test_a_soft_mask_is_refused(tmp_path, how, mode):
    SOFT[how](disc()).convert(mode).save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "soft", "threshold")


def test_a_mask_that_went_through_jpeg_is_refused(tmp_path):
    disc().save(tmp_path / "mask.jpg", quality=90)
    with Image.open(tmp_path / "mask.jpg") as image:
        image.save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "soft")


@needs_shared
def test_the_antialiased_masks_of_the_oracle_are_refused():
    files = sorted((SHARED / "oracle/eval/cases/c14_antialiased/pred").glob("*/*.png"))
    assert files
    for file in files:
        refusal(lambda file=file: read_mask(file), str(file), "soft")


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_without_an_object_is_refused(value):
    array = np.full((9, 9), value, dtype=np.uint8)
    refusal(lambda: mask_from_array(array, source="clip.png"), "clip.png", "no object")


def test_more_than_254_objects_are_refused():
    array = np.arange(300).reshape(15, 20)
    refusal(lambda: mask_from_array(array, source="labels"), "labels", "299", "254")


def test_a_negative_id_is_refused():
    refusal(lambda: mask_from_array(np.array([[-1, 1]]), source="labels"), "labels", "-1")


def test_floats_and_wrong_shapes_are_a_programmers_mistake():
    with pytest.raises(TypeError, match="float64"):
        mask_from_array(np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"\(4, 4, 1\)"):
        mask_from_array(np.ones((4, 4, 1), dtype=np.uint8))


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    mask = mask_from_array(np.ones((480, 640), dtype=np.uint8), source="first.png")
    check_size(mask, 480, 640)
    refusal(lambda: check_size(mask, 480, 854), "first.png", "640x480", "854x480")
    refusal(lambda: check_size(mask, 640, 480), "640x480", "480x640")


# References


def test_one_image_labels_the_frame_it_is_given_for(tmp_path):
    write_mask(tmp_path / "first.png", squares([1]))
    assert list(read_references(tmp_path / "first.png")) == [0]
    assert list(read_references(tmp_path / "first.png", frame=7)) == [7]


def test_a_folder_labels_the_frames_its_names_say(tmp_path):
    for name, value in {"00010.png": 1, "frame2_0003.PNG": 2, "0.png": 3}.items():
        Image.fromarray(squares([value])).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("42")
    (tmp_path / ".00004.png.abc.part").write_text("")
    references = read_references(tmp_path)
    ids = {frame: mask.object_ids for frame, mask in references.items()}
    assert list(ids.items()) == [(0, (3,)), (3, (2,)), (10, (1,))]


def test_a_folder_without_masks_is_refused(tmp_path):
    refusal(lambda: read_references(tmp_path), str(tmp_path), "no mask")


def test_a_name_without_a_number_is_refused(tmp_path):
    write_mask(tmp_path / "first.png", squares([1]))
    refusal(lambda: read_references(tmp_path), "first.png", "no frame number")


def test_two_masks_of_one_frame_are_refused(tmp_path):
    write_mask(tmp_path / "1.png", squares([1]))
    write_mask(tmp_path / "00001.png", squares([1]))
    refusal(lambda: read_references(tmp_path), "00001.png", "1.png", "frame 1")


# Palette PNGs


def test_the_palette_is_that_of_pascal_voc():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert palette().shape == (256, 3)
    assert [tuple(colour) for colour in palette()[:6].tolist()] == expected
    assert palette()[8].tolist() == [64, 0, 0]
    assert palette()[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette(), axis=0)) == 256


@needs_shared
def test_the_palette_is_that_of_a_davis_annotation():
    file = SHARED / "data/dev/davis/Annotations/480p/bear/00000.png"
    with Image.open(file) as image:
        theirs = np.array(image.getpalette("RGB")).reshape(-1, 3)
    assert np.array_equal(palette()[: len(theirs)], theirs)


def test_a_written_mask_reads_back_with_every_id_and_the_whole_palette(tmp_path):
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32).repeat(5, axis=0)
    write_mask(tmp_path / "00000.png", ids)
    with Image.open(tmp_path / "00000.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), ids)
        assert bytes(image.getpalette("RGB") or []) == palette().tobytes()
        assert np.array_equal(np.array(image.convert("RGB")), palette()[ids])


def test_the_same_mask_is_written_as_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        write_mask(tmp_path / name, squares([1, 2, 3]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_only_uint8_ids_are_written(tmp_path):
    with pytest.raises(ValueError, match="int64"):
        write_mask(tmp_path / "a.png", np.ones((4, 4), dtype=np.int64))


# COCO RLE


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


# Whole or not at all


def test_an_old_file_is_replaced_and_nothing_else_stays(tmp_path):
    write_atomically(tmp_path / "result.json", b"old")
    write_atomically(tmp_path / "result.json", b"new")
    assert (tmp_path / "result.json").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match="make the folder first") as caught:
        write_mask(tmp_path / "no" / "00000.png", squares([1]))
    assert str(tmp_path / "no" / "00000.png") in str(caught.value)


def test_a_folder_in_the_place_of_the_file_is_one_clear_line(tmp_path):
    (tmp_path / "00000.png").mkdir()
    with pytest.raises(OutputError, match="a folder has this name"):
        write_mask(tmp_path / "00000.png", squares([1]))
    assert os.listdir(tmp_path) == ["00000.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="that you may write to"):
        write_mask(tmp_path / "00000.png", squares([1]))


def test_a_mask_that_does_not_fit_leaves_the_old_one(tmp_path, file_size_limit):
    write_mask(tmp_path / "00000.png", squares([1]))
    before = (tmp_path / "00000.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    with pytest.raises(OutputError, match="file too large"), file_size_limit(5_000):
        write_mask(tmp_path / "00000.png", noise)
    assert (tmp_path / "00000.png").read_bytes() == before
    assert os.listdir(tmp_path) == ["00000.png"]


def test_an_rle_file_that_does_not_fit_leaves_nothing(tmp_path, file_size_limit):
    def write_all() -> None:
        with MasksJsonWriter(tmp_path / "masks.json", 39, 17) as writer:
            for index in range(100):
                writer.write(frames_of_ids()[0], index=index, name="x", time_s=0.0)

    with pytest.raises(OutputError, match=r"masks\.json: .*file too large"), file_size_limit(5_000):
        write_all()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_clear_line(tmp_path):
    def write_many() -> None:
        for index in range(200):
            write_mask(tmp_path / f"{index:05d}.png", squares([1, 2]))

    with mounted(tmp_path, "size=64k"):
        with pytest.raises(OutputError, match=r"no space left on device.*free some space"):
            write_many()
        names = sorted(os.listdir(tmp_path))
        assert names == [f"{index:05d}.png" for index in range(len(names))]
        for name in names:
            assert read_mask(tmp_path / name).object_ids == (1, 2)


WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from propagate.io.masks.png import write_mask
ids = np.random.default_rng(0).integers(1, 9, (400, 400), dtype=np.uint8)
for index in itertools.count():
    write_mask(Path(sys.argv[1]) / f"{index % 50:05d}.png", ids)
"""


def test_a_kill_leaves_whole_masks_and_a_later_run_clears_the_rest(tmp_path):
    for round_ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)])
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("*.png")):
                assert time.monotonic() < deadline
                assert writer.poll() is None
                time.sleep(0.01)
            time.sleep(0.05 + 0.017 * round_)
        finally:
            writer.kill()
            writer.wait()
        names = sorted(tmp_path.glob("*.png"))
        assert names
        for name in names:
            with Image.open(name) as image:
                assert np.array(image).shape == (400, 400)  # Reads every pixel.
        remove_partial_files(tmp_path)
        assert sorted(tmp_path.iterdir()) == names


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    for name in (".00001.png.0a1b2c3d.part", "00001.png", ".hidden", "notes.part"):
        (tmp_path / name).write_text("")
    assert remove_partial_files(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [".hidden", "00001.png", "notes.part"]
    assert remove_partial_files(tmp_path / "no such folder") == 0
