"""`propagate prompt`, and prompts given to `propagate run`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.io.masks.palette import palette

COLOR = ("--model", "color", "-d", "cpu")
# The first frame's squares: 16 pixels at (4, 6) and (44, 26); on frame 9 the first is at (22, 6).
BOXES = ("--box", "1=4,6,20,22", "--box", "2=44,26,60,42")


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette() == palette().ravel().tolist()
        return np.asarray(image)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_mask_and_its_overlay_are_written_and_described(propagate, drawn, tmp_path):
    out = tmp_path / "new" / "first.png"
    finished = propagate(
        "prompt", drawn.mp4, "--point", "1=12,14", "--point", "2=52,34", "-o", out, *COLOR
    )
    assert finished.status == 0, finished.stderr
    ids = read(out)
    for i in (1, 2):
        assert iou(ids == i, drawn.truth[0] == i) > 0.8
    one, two = (ids == 1).sum(), (ids == 2).sum()
    line = f"{out}, first-overlay.png: frame 0: object 1 {one} px, object 2 {two} px\n"
    assert finished.stdout == line
    with Image.open(out.with_name("first-overlay.png")) as overlay:
        assert overlay.size == (64, 48)


def test_a_picture_and_a_later_frame_of_a_folder_are_prompted_alike(propagate, drawn, tmp_path):
    options = ("--polygon", "3=22,6:38,6:38,22:22,22", *COLOR)
    picture, frame = tmp_path / "a.png", tmp_path / "b.png"
    assert propagate("prompt", drawn.folder / "img_109.png", *options, "-o", picture).status == 0
    assert propagate("prompt", drawn.folder, *options, "--at", 9, "-o", frame).status == 0
    expected = np.where(drawn.truth[9] == 1, 3, 0)
    assert np.array_equal(read(picture)[6:22, 22:38], expected[6:22, 22:38])
    assert np.array_equal(read(picture), read(frame))


def test_nothing_is_overwritten_unless_asked(propagate, drawn, tmp_path):
    out = tmp_path / "first.png"
    out.write_bytes(b"mine")
    command = ("prompt", drawn.mp4, *BOXES, "-o", out, *COLOR)
    finished = propagate(*command)
    assert finished.status == 1
    assert "first.png: already exists" in finished.stderr
    assert out.read_bytes() == b"mine"
    assert propagate(*command, "--overwrite").status == 0
    assert read(out).any()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("--box", "1=4,6,20"), "--box: '1=4,6,20': not a box, which is 1=x0,y0,x1,y1"),
        (("--point", "12,14"), "--point: '12,14': not a point, which is 1=x,y or 1=x,y,off"),
        (("--stroke", "1=a@2"), "--stroke: '1=a@2': not a stroke, which is 1=x,y:x,y:x,y@RADIUS"),
        (("--polygon", "1=1,2:3,4"), "--polygon: '1=1,2:3,4': has 2 corners"),
        (("--point", "1@2=9,9", "--point", "1=9,9"), "--at: a mask is of one frame, not of 0, 2"),
        ((), "--point: give at least one --box, --point, --stroke or --polygon"),
    ],
)
def test_a_bad_prompt_is_a_usage_error_that_says_the_right_form(
    propagate, drawn, tmp_path, given, line
):
    finished = propagate("prompt", drawn.mp4, *given, "-o", tmp_path / "first.png", *COLOR)
    assert finished.status == 2
    assert f"Invalid value for {line}" in finished.stderr


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("--point", "1=64,9"), "frame 0: point 1=64,9: 64,9 lies outside the frame of 64x48"),
        (("--point", "1=9,9,off"), "frame 0: point 1=9,9,off: nothing says where object 1 is"),
        (("--point", "1@12=9,9"), "has no frame 12, only frames 0 to 11"),
    ],
)
def test_a_prompt_that_does_not_fit_the_frame_is_one_line(propagate, drawn, tmp_path, given, line):
    for command in (
        ("prompt", drawn.mp4, "-o", tmp_path / "first.png"),
        ("run", drawn.mp4, "-o", tmp_path / "out"),
    ):
        finished = propagate(*command, *given, *COLOR)
        assert finished.status == 1
        (said,) = finished.stderr.splitlines()
        assert line in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_run_follows_what_is_marked_as_it_follows_the_mask_made_of_it(propagate, drawn, tmp_path):
    first = tmp_path / "first.png"
    assert propagate("prompt", drawn.mp4, *BOXES, "-o", first, *COLOR).status == 0
    assert propagate("run", drawn.mp4, "-m", first, "-o", tmp_path / "a", *COLOR).status == 0
    command = ("run", drawn.mp4, *BOXES, "-o", tmp_path / "b", *COLOR)
    finished = propagate(*command)
    assert finished.status == 0, finished.stderr
    assert "prompts: frame 0: object 1" in finished.stderr
    for index in range(12):
        name = f"clip/masks/{index:05d}.png"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = propagate(*command)
    assert "finished before" in again.stdout


@pytest.mark.slow
def test_marks_on_several_frames_stand_beside_a_mask(propagate, drawn, tmp_path):
    one = tmp_path / "one.png"
    Image.fromarray(np.where(drawn.truth[0] == 1, 1, 0).astype(np.uint8)).save(one)
    finished = propagate(
        *("run", drawn.mp4, "-m", one, "--polygon", "2=44,26:60,26:60,42:44,42"),
        *("--polygon", "3@6=0,40:10,40:10,48:0,48", "-o", tmp_path, *COLOR),
    )
    assert finished.status == 0, finished.stderr
    assert np.array_equal(read(tmp_path / "clip/masks/00000.png") == 2, drawn.truth[0] == 2)
    assert np.array_equal(read(tmp_path / "clip/masks/00000.png") == 1, drawn.truth[0] == 1)
    report = json.loads((tmp_path / "clip/result.json").read_text())
    assert report["object_ids"] == [1, 2, 3]
    sixth = read(tmp_path / "clip/masks/00006.png")
    assert (sixth[40:, :10] == 3).all()


def test_an_object_of_the_mask_is_not_marked_again(propagate, drawn, tmp_path):
    finished = propagate(
        "run", drawn.mp4, "-m", drawn.mask, "--point", "2=52,34", "-o", tmp_path / "out", *COLOR
    )
    assert finished.status == 1
    assert "frame 0: object 2 is marked and is in " in finished.stderr


@pytest.mark.parametrize("sources", [("a.mp4", "b.mp4"), ("0",)], ids=["several", "a camera"])
def test_marks_need_one_source_that_can_be_read_twice(propagate, tmp_path, sources):
    finished = propagate("run", *sources, "--point", "1=4,4", "-o", tmp_path / "out", *COLOR)
    assert finished.status == 2
    assert "Invalid value for --point" in finished.stderr


def test_a_class_may_be_named_for_a_marked_object(propagate, drawn, tmp_path):
    finished = propagate(
        "run", drawn.mp4, *BOXES, "--name", "7=dog", "-o", tmp_path / "out", *COLOR
    )
    assert finished.status == 2
    assert "no mask has an object 7; there are [1, 2]" in finished.stderr
