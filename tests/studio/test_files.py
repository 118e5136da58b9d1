"""Browsing lists what may be opened, in natural order, under ids."""

import numpy as np
import pytest
from PIL import Image

from propagate.errors import PropagateError
from propagate.studio.answers import Refused
from propagate.studio.files import Browser


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    for name in ("clip10", "clip2", "mixed", ".hidden"):
        (root / name).mkdir(parents=True)
    for name in ("b10.mp4", "b2.MKV", "notes.txt", ".c.mp4", "frames.zip"):
        (root / name).write_bytes(b"12345")
    picture = Image.fromarray(np.zeros((4, 4), np.uint8))
    for index in range(3):
        picture.save(root / "clip2" / f"{index}.png")
        picture.save(root / "mixed" / f"{index}.png")
    (root / "mixed" / "more.mp4").write_bytes(b"")
    (root / "circle").symlink_to(root / "circle")
    (root / "broken.mp4").symlink_to(root / "nowhere.mp4")
    (root / "same.mp4").symlink_to(root / "b10.mp4")
    return root


def test_folders_and_videos_are_listed_with_their_kind_and_size(root):
    found = Browser([root]).folder(None)
    assert (found["name"], found["parent"]) == ("root", None)
    assert [entry["name"] for entry in found["folders"]] == ["clip10", "mixed"]
    listed = [(entry["name"], entry["kind"], entry["bytes"]) for entry in found["videos"]]
    images = sum(file.stat().st_size for file in (root / "clip2").iterdir())
    assert listed == [
        ("b2.MKV", "video", 5),
        ("b10.mp4", "video", 5),
        ("clip2", "images", images),
        ("frames.zip", "images", 5),
        ("mixed", "images", images),
        ("same.mp4", "video", 5),
    ]


def test_an_id_leads_down_and_the_parent_up_again(root):
    browser = Browser([root])
    top = browser.folder(None)
    [mixed] = [entry for entry in top["folders"] if entry["name"] == "mixed"]
    inside = browser.folder(mixed["id"])
    assert [entry["name"] for entry in inside["videos"]] == ["more.mp4"]
    assert inside["parent"] == top["id"]
    assert browser.folder(inside["parent"]) == top
    assert browser.path_of(inside["videos"][0]["id"]) == root / "mixed/more.mp4"


def test_several_roots_are_listed_as_folders(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    browser = Browser([root, other, root])
    top = browser.folder(None)
    assert [entry["name"] for entry in top["folders"]] == ["root", "other"]
    assert browser.folder(top["folders"][1]["id"])["parent"] is None


def test_what_is_gone_or_outside_is_refused(root, tmp_path):
    browser = Browser([root])
    gone = browser.id_of(root / "b10.mp4")
    (root / "b10.mp4").unlink()
    for file_id in (gone, browser.id_of(root / "circle"), "0" * 24):
        with pytest.raises(Refused) as caught:
            browser.path_of(file_id)
        assert caught.value.status == 404
    with pytest.raises(Refused) as caught:
        browser.path_of(browser.id_of(root / ".."))
    assert caught.value.status == 403
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(PropagateError, match="no such folder"):
        Browser([tmp_path / "none"])


def test_the_same_file_has_another_id_at_each_start(root):
    assert Browser([root]).id_of(root / "b2.MKV") != Browser([root]).id_of(root / "b2.MKV")
