"""Masks on disk in every layout: the same masks, the same labels; anything unclear is refused."""

import json
import pickle
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.davis import evaluate_davis
from propagate.eval.labels import Labels, UnusableMaskError
from propagate.eval.mask_trees import open_mask_tree
from propagate.io.masks.masks_json import MasksJsonWriter
from propagate.io.masks.palette import palette
from propagate.io.masks.png import write_mask
from propagate.io.write.run_folder import RunFolder
from propagate.records import Frame, Result
from tests.official_scorers import folders_of, golden, ids_of, official

HEIGHT, WIDTH = 24, 32
INDEX = "<sequence>/<frame>.png"
OBJECTS = "<sequence>/<object id>/<frame>.png"
RUN = "<sequence>/masks/<frame>.png"
RUN_RLE = "<sequence>/masks.json"


def frame(*, shift=0):
    """Two squares of 8x8, ids 1 and 3, the first moving to the right."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[2:10, 2 + shift : 10 + shift] = 1
    ids[14:22, 20:28] = 3
    return ids


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, **options)


MASKS = {name: {f"{t:05d}": frame(shift=t) for t in range(4)} for name in ("ant", "bee")}


# --- the layouts: each writer takes masks by sequence and frame ----------------------------------


def write_index(root, masks):
    for name, frames in masks.items():
        for stem, ids in frames.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            write_mask(root / name / f"{stem}.png", ids)


def write_objects(root, masks):
    for name, frames in masks.items():
        objects = sorted({int(i) for ids in frames.values() for i in np.unique(ids)} - {0})
        for stem, ids in frames.items():
            for i in objects:
                save(root / name / f"{i:03d}" / f"{stem}.png", np.uint8(255) * (ids == i))


def write_runs(root, masks, formats=("png",)):
    for name, frames in masks.items():
        with RunFolder(root / name, {"seed": 0}, formats=formats) as folder:
            for index, (stem, ids) in enumerate(frames.items()):
                image = np.zeros((*ids.shape, 3), np.uint8)
                time = Fraction(index, 25)
                result = Result(index, float(time), ids, scores={}, states={}, margins={})
                folder.write(Frame(image, index, time, stem), result)


def write_run_lengths(root, masks):
    write_runs(root, masks, formats=("rle",))


WRITERS = {INDEX: write_index, OBJECTS: write_objects, RUN: write_runs, RUN_RLE: write_run_lengths}
layouts = pytest.mark.parametrize("layout", WRITERS)


@layouts
def test_every_layout_is_recognised_and_gives_the_masks_back(layout, tmp_path):
    WRITERS[layout](tmp_path, MASKS)
    tree = open_mask_tree(tmp_path)
    assert tree.layout == layout
    assert tree.sequences == ("ant", "bee")
    for name, frames in MASKS.items():
        assert tree.frames(name) == tuple(frames)
        for stem, ids in frames.items():
            labels = tree.read(name, stem)
            assert labels.shape == (HEIGHT, WIDTH)
            assert labels.object_ids == (1, 3)
            assert labels.void is None
            np.testing.assert_array_equal(labels.ids, ids)
            for object_id in (1, 2, 3):
                np.testing.assert_array_equal(labels.mask(object_id), ids == object_id)


@layouts
def test_a_tree_may_be_sent_to_another_process(layout, tmp_path):
    WRITERS[layout](tmp_path, MASKS)
    tree = pickle.loads(pickle.dumps(open_mask_tree(tmp_path)))
    assert tree.read("bee", "00002").object_ids == (1, 3)


@layouts
def test_an_empty_mask_is_a_mask(layout, tmp_path):
    empty = np.zeros((HEIGHT, WIDTH), np.uint8)
    WRITERS[layout](tmp_path, {"ant": {"00000": frame(), "00001": empty}})
    labels = open_mask_tree(tmp_path).read("ant", "00001")
    assert labels.object_ids == ()
    np.testing.assert_array_equal(labels.ids, empty)


@pytest.mark.slow
@layouts
@pytest.mark.parametrize("case", ["c01_basic", "c11_ten_objects", "c15k_sparse_gt"])
def test_the_same_masks_score_the_same_in_every_layout(layout, case, tmp_path):
    root, _ = folders_of(case, tmp_path)
    masks = {
        sequence: {name: ids_of(frame) for name, frame in frames.items()}
        for sequence, frames in golden(case)["prediction"].items()
    }
    WRITERS[layout](tmp_path / "layout", masks)
    scores = evaluate_davis(root, tmp_path / "layout")
    assert scores.per_frame == official(case, "davis2017.semi")["per_frame"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_palette_colours_score_as_the_ids_they_stand_for(mode, tmp_path):
    root, pred = folders_of("c02_missing_object", tmp_path)
    scores = evaluate_davis(root, pred)
    for path in pred.glob("*/*.png"):
        with Image.open(path) as image:
            colours = palette()[np.asarray(image)]
        Image.fromarray(colours).convert(mode).save(path)
    assert evaluate_davis(root, pred).per_frame == scores.per_frame
    assert 0.3 < scores.global_["J-Mean"] < 1


# --- what is in a layout -------------------------------------------------------------------------


def test_files_that_are_no_masks_are_ignored(tmp_path):
    for writer, layout in ((write_index, INDEX), (write_objects, OBJECTS)):
        root = tmp_path / writer.__name__
        writer(root, MASKS)
        folders = [root, root / "ant", *(p for p in (root / "ant").iterdir() if p.is_dir())]
        for folder in folders:
            (folder / "Thumbs.db").write_bytes(b"\0")
            (folder / ".DS_Store").write_bytes(b"\0")
            (folder / "._00000.png").write_bytes(b"\0")
            (folder / "readme.txt").write_text("masks")
        (root / ".cache").mkdir()
        (root / "__MACOSX" / "ant").mkdir(parents=True)
        tree = open_mask_tree(root)
        assert tree.layout == layout
        assert tree.sequences == ("ant", "bee")
        assert tree.frames("ant") == tuple(MASKS["ant"])


def test_objects_in_folders_of_their_own_may_overlap(tmp_path):
    left, right = np.zeros((2, HEIGHT, WIDTH), bool)
    left[4:12, 4:14] = True
    right[4:12, 10:20] = True
    save(tmp_path / "ant" / "001" / "00000.png", left)
    save(tmp_path / "ant" / "002" / "00000.png", right)
    labels = open_mask_tree(tmp_path).read("ant", "00000")
    assert labels.ids is None
    assert labels.void is None
    assert labels.object_ids == (1, 2)
    np.testing.assert_array_equal(labels.mask(1), left)
    np.testing.assert_array_equal(labels.mask(2), right)
    assert not labels.mask(3).any()


def test_object_000_of_sa_v_is_an_object_and_not_the_background(tmp_path):
    save(tmp_path / "sav_000001" / "000" / "00000.png", np.uint8(255) * (frame() == 1))
    labels = open_mask_tree(tmp_path).read("sav_000001", "00000")
    assert labels.object_ids == (0,)
    assert labels.ids is None
    np.testing.assert_array_equal(labels.mask(0), frame() == 1)
    with pytest.raises(ValueError, match="background"):
        Labels.of_ids(frame()).mask(0)


def test_an_object_that_is_not_in_a_frame_has_no_id_there(tmp_path):
    save(tmp_path / "ant" / "001" / "00000.png", frame() == 1)
    save(tmp_path / "ant" / "002" / "00000.png", np.zeros((HEIGHT, WIDTH), bool))
    assert open_mask_tree(tmp_path).read("ant", "00000").object_ids == (1,)


def test_255_is_void_and_no_object(tmp_path):
    ids = frame()
    ids[0, :] = 255
    write_index(tmp_path, {"ant": {"00000": ids}})
    labels = open_mask_tree(tmp_path).read("ant", "00000")
    assert labels.object_ids == (1, 3)
    assert labels.void is not None
    np.testing.assert_array_equal(labels.void, ids == 255)


def test_the_png_files_of_a_run_are_read_rather_than_its_run_lengths(tmp_path):
    write_runs(tmp_path, MASKS, formats=("png", "rle"))
    assert open_mask_tree(tmp_path).layout == RUN


def test_run_lengths_that_were_written_again_are_read_again(tmp_path):
    write_run_lengths(tmp_path, MASKS)
    path = tmp_path / "ant" / "masks.json"
    tree = open_mask_tree(tmp_path)
    assert tree.read("ant", "00000").object_ids == (1, 3)
    with MasksJsonWriter(path, HEIGHT, WIDTH) as writer:
        writer.write(np.uint8(7) * (frame() == 1), index=0, name="00000", time_s=0.0)
    assert tree.read("ant", "00000").object_ids == (7,)


def test_a_message_can_name_a_mask_in_every_layout(tmp_path):
    named = {}
    for layout, writer in WRITERS.items():
        root = tmp_path / writer.__name__
        writer(root, MASKS)
        named[layout] = str(open_mask_tree(root).where("ant", "00002").relative_to(root))
    assert named == {
        INDEX: "ant/00002.png",
        OBJECTS: "ant/*/00002.png",
        RUN: "ant/masks/00002.png",
        RUN_RLE: "ant/masks.json:00002",
    }


# --- kinds of PNG --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "LA", "1", "RGB", "RGBA"])
def test_ids_are_read_from_every_kind_of_png_that_can_hold_them(mode, tmp_path):
    path = tmp_path / "ant" / "00000.png"
    ids = (frame() == 1).astype(np.uint8) if mode == "1" else frame()
    if mode == "P":
        image = Image.fromarray(ids)
        image.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0, 1, 2, 3])  # its colours mean nothing
    elif mode == "LA":
        image = Image.merge("LA", (Image.fromarray(ids), Image.fromarray(ids * 0 + 77)))
    elif mode in ("RGB", "RGBA"):
        image = Image.fromarray(palette()[ids]).convert(mode)
    else:
        image = Image.fromarray(ids.astype({"L": np.uint8, "I;16": np.uint16, "1": bool}[mode]))
    path.parent.mkdir()
    image.save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
    labels = open_mask_tree(tmp_path).read("ant", "00000")
    assert labels.ids is not None
    assert labels.ids.dtype == np.uint8
    np.testing.assert_array_equal(labels.ids, ids)


def test_every_colour_of_the_palette_is_read_as_its_id(tmp_path):
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(tmp_path / "ant" / "00000.png", palette()[ids])
    np.testing.assert_array_equal(open_mask_tree(tmp_path).read("ant", "00000").ids, ids)


@pytest.mark.parametrize("how", ["grey", "with alpha"])
def test_greys_of_a_picture_of_colours_are_ids_as_in_a_grey_one(how, tmp_path):
    path = tmp_path / "ant" / "00000.png"
    image = Image.fromarray(frame()).convert("RGB")
    if how == "with alpha":
        image.putalpha(Image.fromarray(np.uint8(255) * (frame() > 0)))
    save(path, np.asarray(image))
    np.testing.assert_array_equal(open_mask_tree(tmp_path).read("ant", "00000").ids, frame())


def other_colour(path):
    colours = palette()[frame()].copy()
    colours[0, 0] = (128, 0, 1)
    save(path, colours)


def id_300(path):
    save(path, np.where(frame() == 1, np.uint16(300), np.uint16(0)))


def truncated(path):
    save(path, frame())
    path.write_bytes(path.read_bytes()[:60])


def no_bytes(path):
    path.write_bytes(b"")


def jpeg(path):
    save(path, frame(), format="JPEG")


def folder(path):
    path.unlink()
    path.mkdir()


def bomb(side):
    """A PNG of side x side pixels in a few bytes; it is the claim that counts."""

    def write(path):
        def chunk(kind, data):
            crc = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + crc

        head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))

    return write


USELESS = {
    "a colour that no id has": (other_colour, "colours that are not those of DAVIS; .*palette"),
    "an id of 16 bits": (id_300, "holds the value 300, but ids are whole numbers, 1..254"),
    "truncated": (truncated, "no readable image .*; save it as an 8-bit index"),
    "no bytes": (no_bytes, "no readable image"),
    "a JPEG": (jpeg, "a JPEG, which changes the ids it stores; save it"),
    "a folder": (folder, "no readable image"),
    "missing": (Path.unlink, "no such mask; write it, empty if need be"),
    "100 megapixels": (bomb(10_000), "far more pixels than a video has"),
    "10 gigapixels": (bomb(100_000), "far more pixels than a video has"),
}


@pytest.mark.parametrize("kind", USELESS)
@pytest.mark.parametrize("layout", [INDEX, OBJECTS, RUN])
def test_a_useless_mask_is_one_line_that_names_the_file(layout, kind, tmp_path):
    damage, message = USELESS[kind]
    WRITERS[layout](tmp_path, MASKS)
    tree = open_mask_tree(tmp_path)
    path = Path(str(tree.where("bee", "00001")).replace("*", "003"))
    damage(path)
    with pytest.raises(UnusableMaskError, match=f"^{path}: {message}") as caught:
        tree.read("bee", "00001")
    assert caught.value.path == path
    assert "\n" not in str(caught.value)
    assert tree.read("bee", "00002").object_ids == (1, 3)


def test_a_refusal_reaches_another_process_whole():
    error = UnusableMaskError(Path("ant/00000.png"), "id 300", "use ids of 8 bits")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "ant/00000.png: id 300; use ids of 8 bits"
    assert (copy.path, copy.found, copy.hint) == (error.path, error.found, error.hint)
    assert isinstance(error, EvaluationError)


# --- trees that are refused ----------------------------------------------------------------------


def refuses(root, message):
    with pytest.raises(UnusableMaskError, match=message) as caught:
        open_mask_tree(root, what="ground truth")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_absent_or_holds_no_masks_is_refused(tmp_path):
    refuses(tmp_path / "nowhere", "^.*nowhere: no such folder of ground truth; check the path$")
    refuses(
        tmp_path, r"no ground truth in this folder; give a folder of <sequence>/<frame>.png or "
    )
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "notes.txt").write_text("no masks")
    refuses(tmp_path, "no ground truth in this folder")


# Not in folders per object: 001/00000.png may as well be frame 00000 of a sequence called 001.
@pytest.mark.parametrize("layout", [INDEX, RUN, RUN_RLE])
def test_the_folder_of_one_sequence_is_refused_with_the_way_up(layout, tmp_path):
    WRITERS[layout](tmp_path, MASKS)
    refuses(tmp_path / "ant", "ground truth of one sequence, .*; give the folder above it")


@pytest.mark.parametrize("other", [OBJECTS, RUN, RUN_RLE])
def test_two_layouts_in_one_tree_are_refused(other, tmp_path):
    write_index(tmp_path, {"ant": MASKS["ant"]})
    WRITERS[other](tmp_path, {"bee": MASKS["bee"]})
    refuses(tmp_path, r"in two layouts \(<sequence>/<frame>.png of ant, .* of bee\); keep one")


def test_two_layouts_in_one_sequence_are_refused(tmp_path):
    write_index(tmp_path, MASKS)
    write_objects(tmp_path, {"ant": MASKS["ant"]})
    refuses(tmp_path, "in two layouts")


def test_a_sequence_that_is_not_there_is_refused_and_one_without_masks_has_no_frames(tmp_path):
    for layout, writer in WRITERS.items():
        root = tmp_path / writer.__name__
        writer(root, MASKS)
        (root / "cat").mkdir()
        tree = open_mask_tree(root)
        assert tree.layout == layout
        assert tree.frames("cat") == ()
        if layout in (INDEX, OBJECTS):
            with pytest.raises(UnusableMaskError, match=r"dog: cannot be listed \(no such file"):
                tree.frames("dog")


def test_frames_whose_numbers_are_not_padded_are_refused(tmp_path):
    write_index(tmp_path, {"ant": {str(t): frame() for t in (0, 1, 2, 10)}})
    tree = open_mask_tree(tmp_path)
    with pytest.raises(UnusableMaskError, match=r"ant: 10.png comes before 2.png as text, .*; pad"):
        tree.frames("ant")
    for path in (tmp_path / "ant").iterdir():
        path.rename(path.with_stem(path.stem.zfill(2)))
    assert tree.frames("ant") == ("00", "01", "02", "10")


def test_a_limit_hides_the_frames_that_are_not_in_it(tmp_path):
    write_index(tmp_path, {name: {f"{t}": frame() for t in range(4)} for name in ("ant", "bee")})
    limited = replace(open_mask_tree(tmp_path), limits={"ant": frozenset({"1", "3", "7"})})
    assert limited.frames("ant") == ("1", "3")
    assert limited.frames("bee") == ("0", "1", "2", "3")


# --- one folder per object -----------------------------------------------------------------------


def test_an_object_without_a_mask_of_a_frame_is_refused(tmp_path):
    write_objects(tmp_path, MASKS)
    missing = tmp_path / "ant" / "003" / "00002.png"
    missing.unlink()
    tree = open_mask_tree(tmp_path)
    assert tree.frames("ant") == tuple(MASKS["ant"])
    with pytest.raises(UnusableMaskError, match=f"^{missing}: no such mask; write it"):
        tree.read("ant", "00002")


def test_the_mask_of_one_object_has_two_values_at_most(tmp_path):
    write_objects(tmp_path, MASKS)
    save(tmp_path / "ant" / "001" / "00000.png", frame())
    with pytest.raises(
        UnusableMaskError, match=r"001/00000.png: values 1 and 3 in the mask of one"
    ):
        open_mask_tree(tmp_path).read("ant", "00000")


def test_objects_of_two_sizes_in_one_frame_are_refused(tmp_path):
    write_objects(tmp_path, MASKS)
    save(tmp_path / "ant" / "003" / "00000.png", (frame() == 3)[:, :-1])
    with pytest.raises(UnusableMaskError, match=r"003/00000.png: 31x24 pixels, .* 32x24"):
        open_mask_tree(tmp_path).read("ant", "00000")


def test_a_folder_of_masks_that_is_no_object_is_refused(tmp_path):
    write_objects(tmp_path, MASKS)
    save(tmp_path / "ant" / "person" / "00000.png", frame() == 1)
    with pytest.raises(UnusableMaskError, match="ant/person: a folder of masks whose name is no"):
        open_mask_tree(tmp_path).frames("ant")


def test_two_folders_of_one_object_are_refused(tmp_path):
    write_objects(tmp_path, MASKS)
    save(tmp_path / "ant" / "1" / "00000.png", frame() == 1)
    with pytest.raises(UnusableMaskError, match="ant/1: a second folder of object 1, besides 001"):
        open_mask_tree(tmp_path).frames("ant")


# --- runs of this program ------------------------------------------------------------------------


def break_off(path, formats):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with RunFolder(path, {}, formats=formats) as folder:
        result = Result(0, 0.0, frame(), scores={}, states={}, margins={})
        folder.write(Frame(image, 0, Fraction(0), "00000"), result)
        raise KeyboardInterrupt


@pytest.mark.parametrize("formats", [("png",), ("rle",)])
def test_a_run_that_broke_off_is_refused(formats, tmp_path):
    write_runs(tmp_path, {"bee": MASKS["bee"]}, formats=formats)
    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "ant", formats)
    assert (tmp_path / "ant" / "incomplete.json").exists()
    tree = open_mask_tree(tmp_path)
    with pytest.raises(UnusableMaskError, match="ant: an unfinished run; run it again to its end"):
        tree.frames("ant")
    assert tree.frames("bee") == tuple(MASKS["bee"])


def test_a_run_that_was_killed_is_refused(tmp_path):
    write_runs(tmp_path, MASKS)
    # A kill leaves what `RunFolder` writes before all else.
    (tmp_path / "ant" / "result.json").unlink()
    (tmp_path / "ant" / ".run.json").write_text("{}")
    with pytest.raises(UnusableMaskError, match="ant: an unfinished run"):
        open_mask_tree(tmp_path).frames("ant")


def damaged_counts(path):
    content = json.loads(path.read_text())
    content["frames"][1]["objects"][0]["segmentation"]["counts"] = "S36"
    path.write_text(json.dumps(content))


def missing_frame(path):
    content = json.loads(path.read_text())
    del content["frames"][1]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_counts, r"masks.json:00001: the RLE covers \d+ pixels, .* 32x24 has 768; run it"),
        (missing_frame, "masks.json:00001: no such mask"),
        (lambda path: path.write_text("{"), "masks.json: no readable run lengths of this program"),
        (lambda path: path.write_text("[]"), "masks.json: no readable run lengths"),
        (lambda path: path.write_text('{"format": "coco"}'), "masks.json: no readable run lengths"),
        (lambda path: path.write_bytes(b"\xff"), "masks.json: no readable run lengths"),
        (lambda path: path.write_text("[" * 100_000), "masks.json: no readable run lengths"),
        (Path.unlink, "masks.json: no readable run lengths"),
    ],
)
def test_damaged_run_lengths_are_named(damage, message, tmp_path):
    write_run_lengths(tmp_path, MASKS)
    tree = open_mask_tree(tmp_path)
    damage(tmp_path / "ant" / "masks.json")
    with pytest.raises(UnusableMaskError, match=f"ant/{message}"):
        tree.read("ant", "00001")


def test_refined_masks_are_scored_apart_and_the_title_says_so(tmp_path):
    write_index(tmp_path / "truth", MASKS)
    for name, frames in MASKS.items():
        run = tmp_path / "out" / name
        for stem, ids in frames.items():
            save(run / "masks" / f"{stem}.png", np.where(ids == 1, 0, ids))
            save(run / "refined" / f"{stem}.png", ids)
    plain = evaluate_davis(tmp_path / "truth", tmp_path / "out")
    refined = evaluate_davis(tmp_path / "truth", tmp_path / "out", refined=True)
    # Of objects 1 to 3 the first is lost; the second is nowhere, and rightly so.
    assert plain.global_["J-Mean"] == pytest.approx(2 / 3)
    assert refined.global_["J-Mean"] == 1
    assert "REFINED" not in plain.protocol["title"]
    assert refined.protocol["title"].endswith(", REFINED masks")
    assert (plain.protocol["refined"], refined.protocol["refined"]) == (False, True)


def test_runs_without_refined_masks_are_refused_where_those_are_asked_for(tmp_path):
    write_index(tmp_path / "truth", MASKS)
    for name, frames in MASKS.items():
        for stem, ids in frames.items():
            save(tmp_path / "out" / name / "masks" / f"{stem}.png", ids)
    with pytest.raises(EvaluationError, match="ant"):
        evaluate_davis(tmp_path / "truth", tmp_path / "out", refined=True)
