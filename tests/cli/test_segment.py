"""`propagate segment`: the files it writes, the PerSeg score, and what it refuses."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.boundary_iou import boundary_distance_px, boundary_region
from propagate.eval.perseg import evaluate_perseg
from propagate.io.masks.palette import palette

COLOR = ("--model", "color", "-d", "cpu")


@pytest.fixture
def scene(drawn, tmp_path):
    """The drawn clip's first frame and mask, a folder of two later frames, and where to write."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(drawn.images[6]).save(photos / "six.png")
    Image.fromarray(drawn.images[9]).save(photos / "nine.jpg", quality=95)
    reference = tmp_path / "reference.png"
    Image.fromarray(drawn.images[0]).save(reference)
    return SimpleNamespace(
        reference=reference, mask=drawn.mask, photos=photos, out=tmp_path / "out", root=tmp_path
    )


@pytest.mark.slow
def test_masks_overlays_and_the_report_are_written(propagate, drawn, scene) -> None:
    larger = scene.root / "larger.png"
    Image.fromarray(drawn.images[6]).resize((96, 72)).save(larger)
    finished = propagate(
        *("segment", scene.reference, scene.photos, larger, "-m", scene.mask),
        *("-o", scene.out, "--overlay", *COLOR),
    )
    assert finished.status == 0, finished.stderr
    assert finished.stdout == f"{scene.out}: 3 masks, result.json\n"
    names = sorted(path.relative_to(scene.out).as_posix() for path in scene.out.rglob("*.*"))
    assert names == [
        *("larger.png", "nine.png", "overlay/larger.jpg", "overlay/nine.jpg"),
        *("overlay/six.jpg", "result.json", "six.png"),
    ]
    for name, index in (("six", 6), ("nine", 9)):
        with Image.open(scene.out / f"{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette() == palette().ravel().tolist()
            ids = np.asarray(mask)
        for i in (1, 2):
            both = (ids == i) & (drawn.truth[index] == i)
            assert both.sum() / ((ids == i) | (drawn.truth[index] == i)).sum() > 0.7
        with Image.open(scene.out / "overlay" / f"{name}.jpg") as overlay:
            assert overlay.size == (64, 48)
    with Image.open(scene.out / "larger.png") as mask:
        assert mask.size == (96, 72)
    report = json.loads((scene.out / "result.json").read_bytes())
    assert report["complete"]
    assert (report["model"], report["method"], report["mask"]) == (
        "color",
        "default",
        str(scene.mask),
    )
    assert report["versions"]["torch"]
    with Image.open(scene.out / "six.png") as mask:
        assert report["pictures"]["six"]["objects"]["1"]["pixels"] == (np.asarray(mask) == 1).sum()
    assert 0.5 < report["pictures"]["six"]["objects"]["1"]["score"] <= 1


@pytest.mark.parametrize("method", ["paper", "official"])
def test_the_methods_of_paper_and_released_code_run(propagate, scene, method) -> None:
    finished = propagate(
        *("segment", scene.reference, scene.photos, "-m", scene.mask, "-o", scene.out),
        *("--method", method, *COLOR),
    )
    assert finished.status == 0, finished.stderr
    assert json.loads((scene.out / "result.json").read_bytes())["method"] == method


@pytest.mark.slow
def test_nothing_is_overwritten_unless_that_is_wanted(propagate, scene) -> None:
    command = ("segment", scene.reference, scene.photos, "-m", scene.mask, "-o", scene.out, *COLOR)
    assert propagate(*command).status == 0
    again = propagate(*command)
    assert again.status == 1
    (line,) = again.stderr.splitlines()
    assert f"propagate: error: {scene.out}/result.json: already exists; pass " in line
    (scene.out / "result.json").unlink()
    assert f"{scene.out}/nine.png: already exists" in propagate(*command).stderr
    assert propagate(*command, "--overwrite").status == 0
    assert (scene.out / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "places", [("a", "b"), ("a/x", "a/y"), (".", "deep/er"), ("a", "a/b"), ("a.b", "a")]
)
def test_pictures_of_one_name_keep_the_folders_below_their_common_parent(
    propagate, drawn, scene, places
) -> None:
    folders = [scene.root / "all" / place for place in places]
    for frame, folder in zip((6, 9), folders, strict=True):
        folder.mkdir(parents=True)
        Image.fromarray(drawn.images[frame]).save(folder / "same.png")
    alone = {}
    for number, folder in enumerate(folders):
        out = scene.root / f"alone{number}"
        given = ("segment", scene.reference, folder / "same.png", "-m", scene.mask, "-o", out)
        assert propagate(*given, *COLOR).status == 0
        alone[folder] = (out / "same.png").read_bytes()
    given = ("segment", scene.reference, *folders, "-m", scene.mask, "-o", scene.out, "--overlay")
    finished = propagate(*given, *COLOR)
    assert finished.status == 0, finished.stderr
    common = Path(os.path.commonpath(folders))
    for folder in folders:
        below = folder.relative_to(common)
        assert (scene.out / below / "same.png").read_bytes() == alone[folder]
        assert (scene.out / "overlay" / below / "same.jpg").exists()
    report = json.loads((scene.out / "result.json").read_text())
    names = {(folder.relative_to(common) / "same").as_posix() for folder in folders}
    assert report["pictures"].keys() == names
    assert "already exists" in propagate(*given, *COLOR).stderr


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_does_not_stop_the_others(propagate, scene) -> None:
    (scene.photos / "broken.png").write_bytes(b"no picture")
    finished = propagate(
        *("segment", scene.reference, scene.photos, "-m", scene.mask, "-o", scene.out, *COLOR)
    )
    assert finished.status == 1
    assert "broken.png: cannot be read as an image" in finished.stderr
    assert finished.stderr.count("error:") == 1
    assert "could not be read\n" not in finished.stderr
    assert "Traceback" not in finished.stderr
    assert (scene.out / "six.png").exists()
    report = json.loads((scene.out / "result.json").read_bytes())
    assert not report["complete"]
    assert "broken.png" in report["errors"][0]
    (scene.photos / "torn.png").write_bytes(b"no picture")
    finished = propagate(
        *("segment", scene.reference, scene.photos, "-m", scene.mask, "-o", scene.out, *COLOR),
        "--overwrite",
    )
    assert finished.stderr.count("error:") == 2
    assert "2 of 4 pictures could not be read\n" in finished.stderr


def small_mask(scene) -> list:
    Image.fromarray(np.ones((8, 8), np.uint8)).save(scene.root / "small.png")
    return [scene.reference, scene.photos, "-m", scene.root / "small.png"]


def empty_mask(scene) -> list:
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(scene.root / "empty.png")
    return [scene.reference, scene.photos, "-m", scene.root / "empty.png"]


def no_picture_in_the_folder(scene) -> list:
    (scene.root / "bare").mkdir()
    return [scene.reference, scene.root / "bare", "-m", scene.mask]


def two_of_one_name(scene) -> list:
    shutil.copy(scene.photos / "six.png", scene.photos / "six.bmp")
    return [scene.reference, scene.photos, "-m", scene.mask]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (small_mask, 1, "small.png: the mask is 8x8, the frame 64x48; resize the mask to 64x48"),
        (empty_mask, 1, "empty.png: no object in this mask; label at least one pixel 1..254"),
        (no_picture_in_the_folder, 1, "bare: a folder without pictures; put some in it (bmp,"),
        (two_of_one_name, 1, "six.png: both masks would be six.png; rename one, or segment them"),
        (lambda s: [s.reference, s.root / "no.jpg", "-m", s.mask], 1, "no such picture: check the"),
        (lambda s: [s.root / "no.jpg", s.photos, "-m", s.mask], 1, "no.jpg"),
        (lambda s: [s.reference, s.photos, "--name", "dog"], 1, "leave --recipe and --name out"),
        (lambda s: [s.reference, "-m", s.mask], 2, "give a reference and at least one target"),
        (lambda s: [s.reference, s.photos], 2, "give a mask, or a class name with --name"),
        (lambda s: [s.reference, s.photos, "--perseg", s.root], 2, "takes its pictures and masks"),
        (lambda s: ["--perseg", s.root], 1, "Images: no folder of an object here; give the PerSeg"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    propagate, scene, arguments, status, message
) -> None:
    finished = propagate("segment", *arguments(scene), "-o", scene.out, *COLOR)
    assert finished.status == status
    # A usage error stands in a box, broken into lines.
    said = " ".join(finished.stderr.replace("│", " ").split())
    assert message in said
    assert "Traceback" not in said
    if status == 1:
        assert finished.stderr.count("\n") == 1
    assert not scene.out.exists()


@pytest.fixture
def perseg(drawn, tmp_path):
    """Two objects of PerSeg: the red and the blue square, three pictures each."""
    root = tmp_path / "perseg"
    for name, object_id in (("red", 1), ("blue", 2)):
        images, annotations = root / "Images" / name, root / "Annotations" / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for number, index in enumerate((0, 4, 8)):
            Image.fromarray(drawn.images[index]).save(images / f"{number:02}.png")
            truth = np.zeros((48, 64, 3), np.uint8)
            truth[drawn.truth[index] == object_id] = (0, 0, 128)  # any colour but black
            Image.fromarray(truth).save(annotations / f"{number:02}.png")
    return root


@pytest.mark.slow
def test_perseg_is_segmented_object_by_object_and_scored(propagate, perseg, tmp_path) -> None:
    out = tmp_path / "out"
    finished = propagate("segment", "--perseg", perseg, "-o", out, *COLOR)
    assert finished.status == 0, finished.stderr
    assert {path.name for path in (out / "red").iterdir()} == {"01.png", "02.png", "result.json"}
    scores = json.loads((out / "scores.json").read_bytes())
    assert (scores["protocol"]["objects"], scores["protocol"]["pictures"]) == (2, 4)
    assert scores["global"]["mIoU"] > 0.7
    mean = [f"{100 * scores['global'][name]:.1f}" for name in ("mIoU", "bIoU")]
    assert ["mean", *mean] in [line.split() for line in finished.stdout.splitlines()]
    assert "PerSeg, 2 objects, 4 pictures" in finished.stdout


def test_perseg_scores_are_sums_over_pictures_and_means_over_objects(perseg, tmp_path) -> None:
    rng = np.random.default_rng(0)
    expected = {}
    for name in ("red", "blue"):
        (tmp_path / "pred" / name).mkdir(parents=True)
        counts = np.zeros(4)
        for stem in ("01", "02"):
            with Image.open(perseg / "Annotations" / name / f"{stem}.png") as image:
                truth = np.asarray(image).max(axis=2) > 0
            found = truth ^ (rng.random(truth.shape) < 0.02)
            Image.fromarray(found.astype(np.uint8)).save(tmp_path / "pred" / name / f"{stem}.png")
            depth = boundary_distance_px(*truth.shape)
            a, b = boundary_region(found, depth), boundary_region(truth, depth)
            counts += (found & truth).sum(), (found | truth).sum(), (a & b).sum(), (a | b).sum()
        expected[name] = {"IoU": counts[0] / counts[1], "bIoU": counts[2] / counts[3]}
    scores = evaluate_perseg(perseg, tmp_path / "pred")
    assert scores.per_object == {name: pytest.approx(row) for name, row in expected.items()}
    for mean, of in (("mIoU", "IoU"), ("bIoU", "bIoU")):
        assert scores.global_[mean] == pytest.approx(
            (expected["red"][of] + expected["blue"][of]) / 2
        )
        assert expected["red"][of] != expected["blue"][of] < 1


def test_perseg_names_what_is_missing(perseg, tmp_path) -> None:
    with pytest.raises(EvaluationError, match=r"blue/01.png: no such mask; segment all pictures"):
        evaluate_perseg(perseg, tmp_path / "none")
    (tmp_path / "pred" / "blue").mkdir(parents=True)
    Image.fromarray(np.ones((4, 5), np.uint8)).save(tmp_path / "pred" / "blue" / "01.png")
    with pytest.raises(EvaluationError, match=r"blue/01.png: 5x4 pixels, the truth 64x48"):
        evaluate_perseg(perseg, tmp_path / "pred")
    (perseg / "Annotations" / "red" / "02.png").unlink()
    with pytest.raises(EvaluationError, match=r"red/02.png: no such annotation, though its pic"):
        evaluate_perseg(perseg, tmp_path / "pred")
    (perseg / "Images" / "blue" / "00.png").unlink()
    with pytest.raises(EvaluationError, match=r"blue: 2 pictures, and each object needs its re"):
        evaluate_perseg(perseg, tmp_path / "pred")


def test_what_no_picture_shows_is_counted(propagate, scene) -> None:
    Image.new("RGB", (64, 48)).save(scene.photos / "black.png")
    finished = propagate(
        *("segment", scene.reference, scene.photos, "-m", scene.mask, "-o", scene.out, *COLOR),
        *("--present-from", "0"),
    )
    assert finished.status == 0, finished.stderr
    report = json.loads((scene.out / "result.json").read_text())
    empty = 0
    for name, picture in report["pictures"].items():
        ids = np.asarray(Image.open(scene.out / f"{name}.png"))
        for object_id, found in picture["objects"].items():
            assert found["pixels"] == (ids == int(object_id)).sum()
            assert found["present"] == bool(found["pixels"])
        empty += not ids.any()
    assert empty == 1
    assert finished.stdout == f"{scene.out}: 3 masks (1 shows no object), result.json\n"


def test_a_target_is_one_picture(propagate, drawn, scene) -> None:
    first, *others = [Image.fromarray(image) for image in drawn.images[:3]]
    first.save(scene.root / "moving.webp", save_all=True, append_images=others)
    (scene.root / "broken.png").write_text("x")
    finished = propagate(
        *("segment", scene.reference, drawn.mp4, scene.root / "moving.webp"),
        *(scene.root / "broken.png", "-m", scene.mask, "-o", scene.out, *COLOR),
    )
    assert finished.status == 1
    assert "clip.mp4: holds several pictures, as a video does" in finished.stderr
    assert "moving.webp: holds several pictures" in finished.stderr
    assert "broken.png: cannot be read as an image" in finished.stderr
    assert "frames were read" not in finished.stderr
