"""Files of several pictures that FFmpeg does not read are videos: every picture is a frame."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.one_frame import read_frame
from propagate.io.decode.video import open_video


def pictures(count=4, size=(40, 24)):
    rng = np.random.default_rng(1)
    width, height = size
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def save(path, arrays, **options):
    first, *others = [Image.fromarray(array) for array in arrays]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}])
def test_every_page_of_a_tiff_is_a_frame(tmp_path, options):
    arrays = pictures()
    path = save(tmp_path / "pages.tiff", arrays, **options)
    with open_video(path) as opened:
        assert (opened.info.name, opened.info.frame_count) == ("pages", 4)
        frames = list(opened)
    assert [frame.name for frame in frames] == ["00000", "00001", "00002", "00003"]
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(4)]
    for frame, array in zip(frames, arrays, strict=True):
        assert np.array_equal(frame.image, array)


def test_the_frames_of_an_animated_webp_have_the_durations_that_it_states(tmp_path):
    arrays = pictures()
    path = save(
        tmp_path / "moving.webp", arrays, lossless=True, exact=True, duration=[100, 40, 0, 250]
    )
    for isolate in (False, True):
        with open_video(path, isolate=isolate) as opened:
            frames = list(opened)
        assert [frame.time for frame in frames] == [
            0,
            Fraction("0.1"),
            Fraction("0.14"),
            Fraction("0.18"),
        ]
        assert opened.info.fps == Fraction(4, 1) / Fraction("0.43")
        for frame, array in zip(frames, arrays, strict=True):
            assert np.array_equal(frame.image, array)


def test_a_range_of_pages_is_read(tmp_path):
    arrays = pictures(6)
    path = save(tmp_path / "pages.tif", arrays)
    frames = list(open_video(path, frame_range=FrameRange(start=1, stride=2)))
    assert [frame.index for frame in frames] == [1, 3, 5]
    assert np.array_equal(frames[1].image, arrays[3])
    assert np.array_equal(read_frame(path, 4).image, arrays[4])


def test_deep_grey_pages_are_stretched_alike(tmp_path):
    values = [np.full((8, 9), 7000, np.uint16), np.full((8, 9), 7400, np.uint16)]
    values[0][0] = 8000
    path = save(tmp_path / "thermal.tif", values)
    with open_video(path) as opened:
        frames = list(opened)
        assert "7000 to 8000" in opened.info.notes[0]
    assert frames[1].image[3, 3].tolist() == [102] * 3  # 255 * 400 / 1000


def test_a_page_that_holds_another_in_small_is_no_frame(tmp_path):
    big, small = (Image.fromarray(array) for array in (*pictures(1), *pictures(1, (20, 12))))
    path = tmp_path / "pyramid.tif"
    small.encoderinfo = {"tiffinfo": {254: 1}}
    big.save(path, save_all=True, append_images=[small])
    assert [frame.image.shape for frame in open_video(path)] == [(24, 40, 3)]


def test_pages_of_other_sizes_end_the_reading(tmp_path):
    path = save(tmp_path / "mixed.tif", [*pictures(2), *pictures(1, (20, 12))])
    frames = []
    with pytest.raises(VideoError, match="is 20x12, the frames before it are 40x24"):
        frames.extend(open_video(path))


@pytest.mark.parametrize("name", ["moving.webp", "pages.tif", "moving.png"])
def test_several_pictures_in_one_file_are_no_frame_of_a_folder(tmp_path, name):
    save(tmp_path / name, pictures())
    with pytest.raises(VideoError, match=rf"{name}: holds 4 pictures, and a frame is one"):
        open_video(tmp_path)


@pytest.mark.parametrize("name", ["moving.webp", "pages.tif"])
def test_a_file_that_is_cut_off_is_one_line(tmp_path, name):
    path = save(tmp_path / name, pictures(8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError) as caught:
        list(open_video(path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_pages_before_the_damage_are_read(tmp_path):
    arrays = pictures(8)
    path = save(tmp_path / "pages.tif", arrays)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = []
    with pytest.raises(VideoError, match="picture 4 cannot be read"):
        frames.extend(open_video(path))
    assert len(frames) == 4
    assert all(np.array_equal(f.image, a) for f, a in zip(frames, arrays[:4], strict=True))


def test_a_single_page_is_read_as_ever(tmp_path):
    (array,) = pictures(1)
    Image.fromarray(array).save(tmp_path / "one.tif")
    with open_video(tmp_path / "one.tif") as opened:
        assert opened.info.decoder == "pyav"
        assert [np.array_equal(frame.image, array) for frame in opened] == [True]
