"""Masks of the frames that their names say."""

from PIL import Image

from propagate.io.masks.png import write_mask
from propagate.io.masks.references import read_references
from tests.small_masks import refusal, squares


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
