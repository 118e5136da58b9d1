"""Paths of images stand for their folder, however a person or a shell wrote them."""

import os

import pytest

from propagate.errors import VideoError
from propagate.io.decode.image_paths import as_folders
from propagate.io.decode.video import name_of, open_video


@pytest.fixture
def folder(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(12):
        (frames / f"{index:05d}.jpg").touch()
    (frames / ".hidden.jpg").touch()
    (frames / "notes.txt").touch()
    return frames


@pytest.mark.parametrize("pattern", ["%05d.jpg", "%d.jpg", "*.jpg", "000??.jpg"])
def test_a_pattern_is_its_folder(folder, pattern):
    assert as_folders([f"{folder}/{pattern}"]) == [str(folder)]


def test_what_a_shell_makes_of_a_glob_is_its_folder(folder, tmp_path, monkeypatch):
    images = sorted(str(file) for file in folder.glob("[0-9]*.jpg"))
    assert as_folders(images) == [str(folder)]
    assert as_folders([*images, "clip.mp4"]) == [str(folder), "clip.mp4"]
    monkeypatch.chdir(folder)
    assert as_folders([os.path.basename(image) for image in images]) == ["."]


def test_all_else_stays_as_it_is(folder, tmp_path):
    odd = tmp_path / "50%d*.jpg"
    odd.touch()
    sources = [str(odd), "a.mp4", "rtsp://host/*.jpg", "2", str(folder)]
    assert as_folders(sources) == sources


def test_some_images_of_a_folder_are_refused(folder):
    images = sorted(str(file) for file in folder.glob("[0-9]*.jpg"))
    with pytest.raises(VideoError, match=r"3 images of it given, and 00003\.jpg is not"):
        as_folders(images[:3])
    (folder / "mask.png").touch()
    with pytest.raises(VideoError, match=r"12 images of it given, and mask\.png is not"):
        as_folders([f"{folder}/%05d.jpg"])


def test_a_pattern_that_nothing_fits_is_one_line(folder, tmp_path):
    with pytest.raises(VideoError, match=r"no image in .*frames fits it; give the folder"):
        as_folders([f"{folder}/img_%d.jpg"])
    with pytest.raises(VideoError, match="there is no folder"):
        as_folders([f"{tmp_path}/nowhere/%d.jpg"])


def test_a_linked_folder_keeps_the_name_of_the_link(drawn, tmp_path, monkeypatch):
    link = tmp_path / "walk"
    link.symlink_to(drawn.folder)
    for source in (link, f"{link}/", str(link)):
        with open_video(source) as frames:
            assert frames.info.name == name_of(source) == "walk"
    monkeypatch.chdir(drawn.folder)
    assert name_of(".") == drawn.folder.name


def test_an_unknown_protocol_is_said_so():
    with pytest.raises(VideoError, match=r"Protocol not found.*give an address such as") as caught:
        open_video("X://somewhere")
    assert "pip" not in str(caught.value)
