"""An archive of images gives the frames of the folder that was zipped."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from propagate.errors import VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.video import open_video
from tests.paths import SHARED

FRAMES = SHARED / "data" / "inputs" / "f"


def picture(folder, name, index):
    folder.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(image).save(folder / name)


def packed(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path


@pytest.fixture
def folder(tmp_path):
    for index in (1, 2, 10, 3, 4, 5, 6, 7, 8, 9):
        picture(tmp_path / "frames", f"img_{index}.png", index)
    return tmp_path / "frames"


def frames_of(source, **options):
    with open_video(source, **options) as opened:
        return list(opened), opened.info


def assert_alike(archive, folder, **options):
    zipped, info = frames_of(archive, **options)
    plain, expected = frames_of(folder, **options)
    assert len(zipped) == len(plain) > 0
    for one, other in zip(zipped, plain, strict=True):
        assert np.array_equal(one.image, other.image)
        assert (one.index, one.time, one.name) == (other.index, other.time, other.name)
    assert (info.frame_count, info.decoder, info.fps) == (expected.frame_count, "images", None)


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inside", ["", "some folder/"])
def test_an_archive_is_read_as_its_folder(tmp_path, folder, method, inside):
    files = {f"{inside}{file.name}": file for file in sorted(folder.iterdir())}
    any_file = next(folder.iterdir())
    files |= {f"__MACOSX/{inside}._img_1.png": any_file, f"{inside}.hidden.png": any_file}
    files[f"{inside}notes.txt"] = any_file
    archive = packed(tmp_path / "clip.zip", files, method)
    assert_alike(archive, folder)
    assert_alike(archive, folder, frame_range=FrameRange(start=2, stride=3))
    assert_alike(archive, folder, isolate=True)
    assert frames_of(archive)[1].name == "clip"


@pytest.mark.skipif(not FRAMES.is_dir(), reason="../shared/data/inputs is not here")
@pytest.mark.parametrize("name", ["frames.zip", "frames_deflated.zip"])
def test_zipped_frames_of_both_kinds_are_read(name):
    frames, _ = frames_of(FRAMES / name)
    with zipfile.ZipFile(FRAMES / name) as archive:
        assert [f"{frame.name}.jpg" for frame in frames] == sorted(archive.namelist())


def refused(source, **options):
    with pytest.raises(VideoError) as caught:
        frames_of(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_read_is_one_line(tmp_path, folder):
    files = {file.name: file for file in folder.iterdir()}
    whole = packed(tmp_path / "whole.zip", files).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "cannot be unpacked" in refused(cut)
    spoilt = tmp_path / "spoilt.zip"
    spoilt.write_bytes(whole[:200] + bytes(100) + whole[300:])
    assert "cannot be unpacked" in refused(spoilt)
    locked = bytearray(whole)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := locked.find(mark, start + 1)) >= 0:
            locked[start + at] |= 1  # the flag "encrypted"
    (tmp_path / "locked.zip").write_bytes(locked)
    assert "is encrypted" in refused(tmp_path / "locked.zip")
    several = {f"{i}/{name}": file for i, (name, file) in enumerate(files.items())}
    assert "several folders" in refused(packed(tmp_path / "several.zip", several))
    assert "no images" in refused(packed(tmp_path / "empty.zip", {}))
    del files["img_4.png"]
    assert "frame 4 is missing" in refused(packed(tmp_path / "gap.zip", files))


def test_an_image_that_grows_without_limit_is_refused(tmp_path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(2**22))
    assert bomb.stat().st_size < 2**14
    assert "takes more than" in refused(bomb, max_pixels=10_000)
