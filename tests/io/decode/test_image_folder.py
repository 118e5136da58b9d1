"""Folders of images: which files are frames, and how deep pictures become 8-bit."""

import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.one_frame import read_frame
from propagate.io.decode.video import frame_names, open_video
from tests.paths import SHARED

INPUTS = SHARED / "data" / "inputs" / "f"
needs_inputs = pytest.mark.skipif(not INPUTS.is_dir(), reason="needs ../shared, which is absent")


def folder_of(path, *names):
    path.mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(path / name)
    return path


@pytest.mark.parametrize(
    ("names", "odd"),
    [
        (["00000.png", "00001.png", "mask.png"], ["mask.png"]),
        (["frame_1.png", "frame_2.png", "frame_2_mask.png"], ["frame_2_mask.png"]),
        (["IMG_1.png", "IMG_2.png", "IMG_2 (1).png", "cover.png"], ["IMG_2 (1).png", "cover.png"]),
    ],
)
def test_odd_names_among_numbered_ones_are_refused(tmp_path, names, odd):
    with pytest.raises(VideoError) as caught:
        open_video(folder_of(tmp_path / "f", *names))
    for name in odd:
        assert name in str(caught.value)
    assert f"{len(odd)} image" in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["cat.png", "dog.png"],
        ["2024-01-01_10-00-00.png", "2024-01-01_10-00-07.png", "2024-01-02_00-00-00.png"],
        ["frame_1.png", "FRAME_2.png", "frame_10.png"],
    ],
)
def test_names_of_one_kind_are_read_in_natural_order(tmp_path, names):
    with open_video(folder_of(tmp_path / "f", *reversed(names))) as frames:
        assert [frame.name + ".png" for frame in frames] == names


@pytest.mark.slow
@pytest.mark.parametrize("isolate", [False, True])
def test_gaps_are_an_error_unless_they_are_allowed(tmp_path, isolate):
    folder = folder_of(tmp_path / "f", "0.png", "1.png", "3.png", "7.png")
    with pytest.raises(VideoError, match=r"frame 2 is missing between 1.png.*allow_gaps=True"):
        open_video(folder, isolate=isolate)
    with open_video(folder, isolate=isolate, allow_gaps=True) as frames:
        assert frames.info.notes == (f"{folder}: numbers are missing: 2 and at 1 more place",)
        assert [(frame.index, frame.name) for frame in frames] == [
            (0, "0"), (1, "1"), (2, "3"), (3, "7"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("u2", 7000, 8000), ("u2", 0, 65535), ("i4", 0, 200000), ("f4", 0.0, 1.0), ("f4", -3.5, 9.0)],
)
def test_deep_grey_is_stretched_by_the_range_of_the_first_frame(tmp_path, dtype, low, high):
    folder = tmp_path / "f"
    folder.mkdir()
    rng = np.random.default_rng(0)
    values = rng.uniform(low, high, (3, 6, 8))
    values[0].flat[:2] = low, high
    values[2] += (high - low) / 2  # brighter than anything in the first frame
    values = values.clip(0, 65535) if dtype == "u2" else values
    values = values.astype(dtype)
    for index, image in enumerate(values):
        Image.fromarray(image).save(folder / f"{index}.tif")
    with open_video(folder) as frames:
        (note,) = frames.info.notes
        assert f"{values[0].min():g} to {values[0].max():g}" in note
        images = [frame.image for frame in frames]
    first, last = float(values[0].min()), float(values[0].max())
    for image, given in zip(images, values, strict=True):
        for y in range(6):
            for x in range(8):
                expected = 255 * (float(given[y, x]) - first) / (last - first)
                assert abs(image[y, x, 0] - min(255, max(0, expected))) <= 0.51
                assert image[y, x, 0] == image[y, x, 1] == image[y, x, 2]
    assert np.array_equal(read_frame(folder, 2).image, images[2])


def test_deep_grey_without_contrast_and_without_numbers_is_black(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    Image.fromarray(np.full((6, 8), np.nan, np.float32)).save(folder / "0.tif")
    Image.fromarray(np.full((6, 8), 7, np.float32)).save(folder / "1.tif")
    with open_video(folder) as frames:
        assert [int(frame.image.max()) for frame in frames] == [0, 0]


def test_only_the_images_of_a_folder_have_names(tmp_path, drawn):
    assert frame_names(folder_of(tmp_path / "f", "b.png", "a.png")) == ["a", "b"]
    assert frame_names(drawn.mp4) is None
    assert frame_names(0) is None
    assert frame_names("rtsp://host/stream") is None


@needs_inputs
def test_folders_as_people_have_them():
    with pytest.raises(VideoError, match=r"mask\.png"):
        open_video(INPUTS / "mask_inside")
    with open_video(INPUTS / "gap", allow_gaps=True) as frames:
        assert sum(1 for _ in frames) == 11
    with open_video(INPUTS / "thermal16") as frames:
        images = [frame.image for frame in frames]
    assert (images[0].min(), images[0].max()) == (0, 255)
    assert min(image.std() for image in images) > 20


@pytest.mark.parametrize("names", [("1", "01", "2"), ("f_1", "f_001"), ("00000", "0")])
def test_two_images_of_one_number_are_refused(tmp_path, names):
    for name in names:
        Image.new("RGB", (8, 6)).save(tmp_path / f"{name}.png")
    with pytest.raises(VideoError, match=r"have one number; keep one of them"):
        open_video(tmp_path)
