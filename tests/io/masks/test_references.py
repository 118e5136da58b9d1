"""Masks of the frames that their names say."""

import json

import numpy as np
import pytest
from PIL import Image

from propagate.io.masks.png import write_mask
from propagate.io.masks.reading import MaskReading
from propagate.io.masks.references import add_references, read_references
from tests.paths import SHARED
from tests.small_masks import refusal, squares

INPUTS = SHARED / "data" / "inputs"
needs_inputs = pytest.mark.skipif(not INPUTS.is_dir(), reason=f"{INPUTS.name} is absent")


def folder_of_frames(folder, *names):
    """A folder of small images; its masks go beside it."""
    folder.mkdir()
    for name in names:
        Image.new("RGB", (8, 6)).save(folder / f"{name}.png")
    masks = folder.parent / "masks"
    masks.mkdir()
    return folder, masks


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
    assert references[0].notes == ("left out: notes.txt",)


def test_a_folder_without_masks_is_refused(tmp_path):
    refusal(lambda: read_references(tmp_path), str(tmp_path), "no mask")


def test_a_name_without_a_number_is_refused(tmp_path):
    write_mask(tmp_path / "first.png", squares([1]))
    refusal(lambda: read_references(tmp_path), "first", "no frame number")


def test_two_masks_of_one_frame_are_refused(tmp_path):
    write_mask(tmp_path / "1.png", squares([1]))
    write_mask(tmp_path / "00001.png", squares([1]))
    refusal(lambda: read_references(tmp_path), "00001", "1", "frame 1")


@pytest.mark.parametrize("other", ["00001.jpg", "00001.jpeg", "masks.xml", "mask.psd"])
def test_what_is_no_mask_is_named(tmp_path, other):
    write_mask(tmp_path / "00000.png", squares([1]))
    Image.new("L", (8, 8)).save(tmp_path / other, "JPEG")
    refusal(lambda: read_references(tmp_path), other)


NUMBERED_FROM_ONE = [f"{i:05d}" for i in range(1, 13)]
EVERY_FIFTH = [f"{i:05d}" for i in range(0, 60, 5)]
NOT_PADDED = [f"frame_{i}" for i in range(1, 13)]


@pytest.mark.parametrize(
    ("frames", "masks", "expected"),
    [
        (NUMBERED_FROM_ONE, ["00001", "00007"], [0, 6]),
        (EVERY_FIFTH, ["00000", "00010"], [0, 2]),
        (EVERY_FIFTH, ["00030"], [6]),
        (NOT_PADDED, ["frame_1", "frame_10"], [0, 9]),
        (NOT_PADDED, ["Frame_01", "frame_010"], [0, 9]),  # other case and padding
        (NOT_PADDED, ["mask_00003"], [2]),  # the number in the name of a frame
        ([f"img_{i}" for i in range(100, 112)], ["00000", "00003"], [0, 3]),
        (["dog", "cat"], ["cat"], [0]),  # natural order: cat, dog
    ],
)
def test_a_mask_belongs_to_the_frame_of_its_name(tmp_path, frames, masks, expected):
    source, folder = folder_of_frames(tmp_path / "frames", *frames)
    for name in masks:
        write_mask(folder / f"{name}.png", squares([2]))
    found = read_references(folder, source=source)
    assert list(found) == expected


def test_where_name_and_number_differ_the_run_says_so(tmp_path):
    source, folder = folder_of_frames(tmp_path / "frames", *NUMBERED_FROM_ONE)
    write_mask(folder / "00001.png", squares([2]))
    (mask,) = read_references(folder, source=source).values()
    assert mask.notes == (
        "belongs to the frame of its name, 00001, which is frame 0; frame 1 is 00002",
    )
    ((frame, mask),) = read_references(folder / "00001.png", source=source).items()
    assert (frame, mask.notes) == (0, ())
    write_mask(folder / "00004.png", squares([2]))
    ((frame, mask),) = read_references(folder / "00004.png", source=source).items()
    assert frame == 3
    assert "frame 3, not 0" in mask.notes[0]


def test_all_masks_are_read_by_one_rule(tmp_path):
    source, folder = folder_of_frames(tmp_path / "frames", *EVERY_FIFTH)
    for name in ("00000", "00003"):
        write_mask(folder / f"{name}.png", squares([2]))
    refusal(lambda: read_references(folder, source=source), "00003", "no frame has this name")


def test_a_reference_may_name_an_image(tmp_path):
    source, folder = folder_of_frames(tmp_path / "frames", *EVERY_FIFTH)
    write_mask(folder / "b.png", squares([2]))
    entries = [f"00010={folder / 'b.png'}", f"3={folder / 'b.png'}"]
    (found,) = add_references([{}], entries, source=source)
    assert list(found) == [2, 3]
    assert found[2].notes == ("00010 is the name of frame 2",)


def write_objects(folder, *names, touching=False):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        mask = np.zeros((20, 40), np.uint8)
        mask[4:14, 0 if touching else 10 * i : 10 * i + 8] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    return folder


def test_files_without_numbers_are_the_objects_of_one_frame(tmp_path):
    (mask,) = read_references(write_objects(tmp_path / "m", "cat", "dog")).values()
    assert mask.object_ids == (1, 2)
    assert mask.names == {1: "cat", 2: "dog"}
    assert "1 is cat, 2 is dog" in mask.notes[0]


@pytest.mark.parametrize(
    "names",
    [
        ("thing-0", "thing-1", "thing-2"),
        ("obj1", "obj2"),
        ("1", "2"),
        ("1", "2", "3"),
        ("01", "02"),
    ],
)
def test_masks_that_may_be_objects_or_frames_are_refused_with_both_readings(tmp_path, names):
    folder = write_objects(tmp_path / "m", *names)
    refusal(
        lambda: read_references(folder),
        f"{len(names)} black-and-white",
        "objects of one frame, or masks of the frames",
        'masks_are="objects"',
        'masks_are="frames"',
    )
    (mask,) = read_references(folder, reading=MaskReading(masks_are="objects")).values()
    assert mask.object_ids == tuple(range(1, len(names) + 1))
    found = read_references(folder, reading=MaskReading(masks_are="frames"))
    assert len(found) == len(names)


@pytest.mark.parametrize(
    ("names", "touching", "frames"),
    [
        (("00000", "00001"), False, [0, 1]),
        (("clip_0", "clip_1"), True, [0, 1]),
        (("0", "1"), False, [0, 1]),
        (("1", "2"), True, [1, 2]),
        (("1", "3"), False, [1, 3]),
        (("00001", "00002"), False, [1, 2]),
    ],
)
def test_black_and_white_masks_of_several_frames_stay_so(tmp_path, names, touching, frames):
    found = read_references(write_objects(tmp_path / "m", *names, touching=touching))
    assert list(found) == frames


@pytest.mark.parametrize("frame_name", ["{}", "{:05d}"])
def test_masks_named_by_id_are_refused_where_frames_have_these_names(tmp_path, frame_name):
    clip = tmp_path / "clip"
    clip.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (40, 20)).save(clip / f"{frame_name.format(number)}.png")
    folder = write_objects(tmp_path / "m", "1", "2")
    refusal(lambda: read_references(folder, source=clip), "objects of one frame, or masks of")
    found = read_references(folder, source=clip, reading=MaskReading(masks_are="frames"))
    assert list(found) == [0, 1]


def test_objects_of_one_frame_must_not_overlap(tmp_path):
    folder = write_objects(tmp_path / "m", "cat", "dog", touching=True)
    reading = MaskReading(masks_are="objects")
    refusal(lambda: read_references(folder, reading=reading), "dog.png", "overlaps")


def coco(**changes):
    square = [2, 2, 6, 2, 6, 6, 2, 6]
    return {
        "images": [{"id": 7, "file_name": "clip/00004.jpg", "width": 12, "height": 10}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [
            {"id": 90, "image_id": 7, "category_id": 3, "segmentation": [square]},
            {
                "id": 95,
                "image_id": 7,
                "category_id": 3,
                "segmentation": {"size": [10, 12], "counts": [90, 10, 20]},
            },
        ],
    } | changes


def test_coco_polygons_and_run_lengths_are_objects(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(coco()))
    ((frame, mask),) = read_references(tmp_path / "a.json").items()
    expected = np.zeros((10, 12), np.uint8)
    expected[2:6, 2:6] = 1
    expected[:, 9] = 2  # run lengths go down the columns
    assert frame == 4
    assert np.array_equal(mask.ids, expected)
    assert mask.names == {1: "cup", 2: "cup"}


def test_track_ids_of_coco_tell_objects_of_several_images_apart(tmp_path):
    content = coco()
    content["images"].append({"id": 8, "file_name": "00009.jpg", "width": 12, "height": 10})
    content["annotations"][1]["image_id"] = 8
    for annotation, track in zip(content["annotations"], (5, 5), strict=True):
        annotation["attributes"] = {"track_id": track}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_references(tmp_path / "a.json")
    assert {frame: mask.object_ids for frame, mask in found.items()} == {4: (5,), 9: (5,)}


def test_youtube_vis_is_read(tmp_path):
    runs = {"size": [10, 12], "counts": [90, 10, 20]}
    content = {
        "videos": [
            {"id": 1, "width": 12, "height": 10, "file_names": ["v/00000.jpg", "v/00005.jpg"]}
        ],
        "categories": [{"id": 1, "name": "duck"}],
        "annotations": [
            {"id": 400, "video_id": 1, "category_id": 1, "segmentations": [None, runs]},
            {"id": 300, "video_id": 1, "category_id": 1, "segmentations": [runs, None]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_references(tmp_path / "a.json")
    assert {frame: mask.object_ids for frame, mask in found.items()} == {0: (1,), 5: (2,)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"shapes": [], "imagePath": "a.jpg"}, "LabelMe"),
        ([{"data": {}, "annotations": []}], "Label Studio"),
        ({"a.jpg1": {"regions": []}}, "VGG"),
        ({"x": 1}, "unknown"),
        (coco(annotations=[]), "no annotation"),
        (coco(images=[]), "not among its images"),
        (coco(images=[{"id": 7, "file_name": "0.jpg", "width": 9**9, "height": 9}]), "limit"),
    ],
)
def test_other_json_is_refused_by_name(tmp_path, content, said):
    (tmp_path / "a.json").write_text(json.dumps(content))
    refusal(lambda: read_references(tmp_path / "a.json"), "a.json", said)


@needs_inputs
@pytest.mark.parametrize(
    ("source", "masks", "frames"),
    [
        ("f/from_one/frames", "f/from_one/masks", [0]),
        ("f/from_one/frames", "f/from_one/masks_two", [0, 6]),
        ("f/step5/frames", "f/step5/masks", [0, 2]),
        ("f/step5/frames", "f/step5/masks_far", [0, 6]),
        ("base/clip.mp4", "m/coco.json", [0]),
        ("base/clip.mp4", "m/empty_later", [0, 8]),
    ],
)
def test_folders_as_people_have_them(source, masks, frames):
    assert list(read_references(INPUTS / masks, source=INPUTS / source)) == frames


@needs_inputs
@pytest.mark.parametrize("masks", ["m/labelstudio", "m/mixed_png_jpg"])
def test_folders_that_are_not_clear_are_refused(masks):
    refusal(lambda: read_references(INPUTS / masks, source=INPUTS / "base/clip.mp4"), masks[2:])


def test_a_frame_may_be_named_with_its_suffix(tmp_path):
    clip = tmp_path / "clip"
    clip.mkdir()
    for number in (5, 7):
        Image.new("RGB", (8, 6)).save(clip / f"{number:05d}.jpg")
    mask = tmp_path / "m.png"
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(mask)
    for name in ("00007.jpg", "00007"):
        (found,) = add_references([{}], [f"{name}={mask}"], source=clip)
        assert list(found) == [1]
    refusal(
        lambda: add_references([{}], [f"00009.jpg={mask}"], source=clip),
        "not a reference",
        "the name of an image of the folder",
    )


def test_an_annotation_of_an_image_that_is_not_listed_is_named(tmp_path):
    path = tmp_path / "coco.json"
    content = coco()
    content["annotations"][0]["image_id"] = 99
    path.write_text(json.dumps(content))
    refusal(lambda: read_references(path), "is of the image 99, which is not among its images")


def test_objects_on_the_last_axis_are_told(tmp_path):
    ids = np.zeros((20, 30, 3), bool)
    ids[2:8, 2:8, 0] = ids[10:15, 10:15, 1] = True
    np.save(tmp_path / "m.npy", ids)
    refusal(
        lambda: read_references(tmp_path / "m.npy"), "(20, 30, 3)", "numpy.moveaxis(array, 2, 0)"
    )
    np.save(tmp_path / "m.npy", np.moveaxis(ids, 2, 0)[:2])
    assert read_references(tmp_path / "m.npy")[0].object_ids == (1, 2)
