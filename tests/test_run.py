"""What a run leaves behind: every file, its names, and that it is whole however the run ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import propagate.features.read_ahead
from propagate.config import Config
from propagate.errors import OutputError, VideoError
from propagate.io.masks.references import masks_of_sources
from propagate.io.write.run_folder import RunFolder
from propagate.pipeline import Propagator
from propagate.records import Frame, Result, State
from tests import forked
from tests.batch_runs import here
from tests.paths import ROOT
from tests.silent_server import server_that_stops


@pytest.fixture
def run(propagate, drawn, tmp_path):
    """Runs the command on the drawn clip, or on what is given in its place; it must succeed.

    It works at 64 px, unless an option says otherwise.
    """

    def call(*options, sources=None, mask=None, out=None):
        finished = propagate(
            *("run", *(sources or [drawn.mp4]), "-m", mask or drawn.mask),
            *("-o", out or tmp_path / "out", "--model", "color", "--short-side", 64, *options),
        )
        assert finished.status == 0, finished.stderr
        return finished

    return call


@pytest.fixture(scope="module")
def small():
    """A propagator that works at 64 px, for tests in which only the files matter."""
    return Propagator("color", device="cpu", config=Config(short_side_px=64))


def pngs(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def read(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def report_of(folder):
    return json.loads((folder / "result.json").read_text())


def iou(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


# What is written


@pytest.mark.slow
def test_a_run_writes_a_mask_for_every_frame_that_follows_the_objects(run, drawn, tmp_path):
    finished = run("--short-side", Config().short_side_px)
    folder = tmp_path / "out/clip"
    assert sorted(path.name for path in folder.iterdir()) == ["masks", "references", "result.json"]
    masks = sorted((folder / "masks").iterdir())
    assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(12)]
    np.testing.assert_array_equal(read(masks[0]), drawn.truth[0])
    for path, truth in zip(masks, drawn.truth, strict=True):
        for i in (1, 2):
            assert iou(read(path) == i, truth == i) > 0.7
    assert (
        f"{folder}: masks/ (12 PNG), references/ (1 PNG), result.json; 12 frames, 2 objects, "
        in finished.stdout
    )
    assert finished.stdout.count("\n") == 1
    assert re.fullmatch(
        rf"propagate: {drawn.mp4}: 12 frames of about 12, 0 s left, [0-9.]+ frames/s",
        finished.stderr.splitlines()[-1],
    )


def test_the_last_lines_name_objects_that_are_doubtful_most_of_the_time(
    propagate, write_video, tmp_path
):
    """A square that stays, and one whose colours are those of the ground after the first frame."""
    images, mask = [], np.zeros((48, 64), np.uint8)
    mask[8:24, 8:24], mask[28:40, 44:56] = 1, 2
    for index in range(9):
        image = np.full((48, 64, 3), 90, np.uint8)
        image[mask == 1] = 200, 40, 40
        if index == 0:
            image[mask == 2] = 40, 60, 200
        images.append(image)
    video, first = write_video(tmp_path / "clip.mp4", images), tmp_path / "first.png"
    Image.fromarray(mask).save(first)
    command = ("run", video, "-m", first, "-o", tmp_path / "out", "--model", "color", "-d", "cpu")
    finished = propagate(*command)
    folder = tmp_path / "out/clip"
    states = [f["objects"]["2"]["state"] for f in report_of(folder)["per_frame"]]
    assert sum(state != "tracked" for state in states) > 4
    told = finished.stderr.splitlines()[-1]
    assert re.fullmatch(r"propagate: object 2 is doubtful on [5-8] of 9 frames \(.+\): .+", told)
    assert re.search(r": if frame 0000\d shows it, give a mask there \(--reference, --upd", told)
    assert told.endswith(f", or look at the page of `propagate report {folder}`")
    assert "object 1 is" not in finished.stderr
    assert propagate(*command).stderr.splitlines()[-1] == told  # also where nothing had to be done


def test_the_report_holds_settings_and_a_score_and_state_of_every_object_and_frame(run, tmp_path):
    run("--matcher", "dino", "--max-frames", 4)
    report = report_of(tmp_path / "out/clip")
    assert report["complete"] is True
    assert report["model"] == "color"
    assert report["config"] == replace(Config.named("dino"), short_side_px=64).to_json()
    assert (report["dtype"], report["device"]) == ("float32", "cpu")
    assert (report["decoder"], report["max_frames"]) == ("pyav", 4)
    assert report["object_ids"] == [1, 2]
    assert report["frames"] == len(report["per_frame"]) == 4
    assert [frame["name"] for frame in report["per_frame"]] == [f"{i:05d}" for i in range(4)]
    assert [frame["time_s"] for frame in report["per_frame"]] == [0, 0.04, 0.08, 0.12]
    for frame in report["per_frame"]:
        assert set(frame["objects"]) == {"1", "2"}
        for entry in frame["objects"].values():
            assert 0 <= entry["score"] <= 1
            assert -1 <= entry["margin"] <= 1
            assert entry["state"] in ("tracked", "unsure", "absent")
    assert {"propagate-video", "torch", "av", "decord2"} <= set(report["versions"])
    timing = report["timing"]
    stages = {"decode_s", "features_s", "match_s", "refine_s", "write_s"}
    assert set(timing) == {"seconds", *stages}
    # The stages overlap, so only each by itself is shorter than the run.
    assert max(timing[stage] for stage in stages) <= timing["seconds"] + 0.01


def test_masks_of_a_folder_take_the_names_of_its_images(run, drawn, tmp_path):
    run("--max-frames", 3, sources=[drawn.folder])
    names = ["img_100.png", "img_101.png", "img_102.png"]
    assert list(pngs(tmp_path / "out/frames/masks")) == names


# pycocotools 2.0 was written for the array protocol of NumPy 1.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_overlay_and_run_lengths_say_the_same_as_the_pngs(run, tmp_path):
    finished = run("--format", "png,rle", "--overlay", "--max-frames", 5)
    assert (
        "masks/ (5 PNG), references/ (1 PNG), masks.json, overlay.mp4, result.json"
        in finished.stdout
    )
    folder = tmp_path / "out/clip"
    frames = json.loads((folder / "masks.json").read_text())["frames"]
    assert len(frames) == 5
    for frame in frames:
        ids = read(folder / "masks" / f"{frame['name']}.png")
        assert [entry["id"] for entry in frame["objects"]] == [1, 2]
        for entry in frame["objects"]:
            np.testing.assert_array_equal(coco.decode(entry["segmentation"]), ids == entry["id"])
    with av.open(str(folder / "overlay.mp4")) as container:
        shown = [image.to_ndarray(format="rgb24") for image in container.decode(video=0)]
    assert [image.shape for image in shown] == [(48, 64, 3)] * 5


def test_run_lengths_alone_write_no_pngs(run, tmp_path):
    run("--format", "rle", "--max-frames", 2)
    names = sorted(path.name for path in (tmp_path / "out/clip").iterdir())
    assert names == ["masks.json", "references", "result.json"]


# References


@pytest.mark.slow
def test_a_folder_of_numbered_masks_gives_each_to_its_frame(run, drawn, tmp_path):
    folder = tmp_path / "references"
    folder.mkdir()
    Image.fromarray(np.where(drawn.truth[0] == 1, 1, 0).astype(np.uint8)).save(folder / "0.png")
    Image.fromarray(np.where(drawn.truth[3] == 2, 2, 0).astype(np.uint8)).save(folder / "00003.png")
    run("--max-frames", 5, "--backwards", "none", mask=folder)
    written = sorted((tmp_path / "out").rglob("masks/*.png"))
    seen = [np.unique(read(path)).tolist() for path in written]
    assert seen == [[0, 1], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]


def test_several_sources_go_on_after_a_bad_one(propagate, drawn, tmp_path):
    masks = tmp_path / "masks"
    (masks / "frames").mkdir(parents=True)
    shutil.copy(drawn.mask, masks / "clip.png")
    shutil.copy(drawn.mask, masks / "bad.png")
    shutil.copy(drawn.mask, masks / "frames/00000.png")
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    finished = propagate(
        *("run", drawn.mp4, bad, f"{drawn.folder}/", "-m", masks, "-o", tmp_path / "out"),
        *("--model", "color", "--short-side", 64, "--max-frames", 2),
    )
    assert finished.status == 1
    lines = [line for line in finished.stderr.splitlines() if "error" in line]
    assert len(lines) == 2
    assert f"propagate: error: {bad}: cannot be opened as a video" in lines[0]
    assert lines[1] == "propagate: error: 1 of 3 sources failed, see above"
    assert [line.split(":")[0] for line in finished.stdout.splitlines()] == [
        str(tmp_path / "out/clip"),
        str(tmp_path / "out/frames"),
    ]
    assert len(list((tmp_path / "out").rglob("masks/*.png"))) == 4
    assert not (tmp_path / "out/bad").exists()


def test_several_sources_given_again_are_done_where_they_were_left(propagate, drawn, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("clip", "frames"):
        shutil.copy(drawn.mask, masks / f"{name}.png")

    def run(*sources):
        given = ("-m", masks, "-o", tmp_path / "out", "--model", "color", "--short-side", 64)
        return propagate("run", *sources, *given, "--max-frames", 3)

    assert run(drawn.mp4, tmp_path / "not/frames").status == 1
    before = (tmp_path / "out/clip/result.json").stat().st_mtime_ns
    again = run(drawn.mp4, f"{drawn.folder}/")
    assert again.status == 0
    lines = again.stdout.splitlines()
    assert lines[0] == f"{tmp_path / 'out/clip'}: finished before; left as it is"
    assert lines[1].startswith(f"{tmp_path / 'out/frames'}: masks/ (3 PNG)")
    assert (tmp_path / "out/clip/result.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("sources", "masks", "message"),
    [
        (["a/clip.mp4", "b/clip.mp4"], ".", "two sources are named 'clip' and would write into"),
        (["a.mp4", "b.mp4"], "first.png", "one mask for 2 sources; give a folder that holds"),
        (["a.mp4", "first.mp4"], ".", "no mask for 'a'; add <name>.png or a folder <name>/"),
    ],
)
def test_several_sources_need_a_mask_and_a_name_each(
    propagate, drawn, tmp_path, monkeypatch, sources, masks, message
):
    shutil.copy(drawn.mask, tmp_path / "first.png")
    monkeypatch.chdir(tmp_path)
    finished = propagate("run", *sources, "-m", masks, "-o", "out", "--model", "color")
    assert finished.status == 1
    assert message in finished.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_source_is_named_as_its_results_are(drawn, tmp_path, monkeypatch):
    """With its dots, unlike a file's stem: clip.v2/ and clip.mp4 are no clash."""
    masks = tmp_path / "masks"
    masks.mkdir()
    (tmp_path / "clip.v2").mkdir()
    for name in ("clip.v2", "clip"):
        shutil.copy(drawn.mask, masks / f"{name}.png")
    monkeypatch.chdir(tmp_path / "clip.v2")
    found = masks_of_sources(masks, [".", str(tmp_path / "clip.mp4")])
    assert [of_source[0].source for of_source in found] == [
        str(masks / "clip.v2.png"),
        str(masks / "clip.png"),
    ]


# The same masks


@pytest.mark.slow
def test_decord_and_pyav_give_the_same_masks(run, drawn, write_video, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", drawn.images, "yuv444p")
    for decoder in ("decord", "pyav"):
        run("--decoder", decoder, "--max-frames", 5, sources=[clip], out=tmp_path / decoder)
        assert report_of(tmp_path / decoder / "clip")["decoder"] == decoder
    masks = pngs(tmp_path / "decord/clip/masks")
    assert len(masks) == 5
    assert masks == pngs(tmp_path / "pyav/clip/masks")


@pytest.mark.slow
def test_the_batch_size_changes_no_mask(run, tmp_path):
    for size in (1, 5):
        run("--batch-size", size, out=tmp_path / str(size))
    masks = pngs(tmp_path / "1/clip/masks")
    assert len(masks) == 12
    assert masks == pngs(tmp_path / "5/clip/masks")


# Again


@pytest.mark.slow
def test_overwrite_replaces_a_finished_run_and_leaves_other_files(run, tmp_path):
    run("--overlay", "--format", "png,rle")
    note = tmp_path / "out/clip/note.txt"
    note.write_text("somebody's own")
    run("--overwrite", "--max-frames", 2)
    folder = tmp_path / "out/clip"
    assert list(pngs(folder / "masks")) == ["00000.png", "00001.png"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "masks",
        "note.txt",
        "references",
        "result.json",
    ]
    assert report_of(folder)["frames"] == 2


@pytest.mark.parametrize("again", [[], ["--overwrite"]])
def test_what_a_person_labelled_in_the_folder_lets_a_run_go_ahead_and_stays(run, tmp_path, again):
    folder = tmp_path / "out/clip"
    (folder / "references").mkdir(parents=True)
    own = {"references/00003.png": b"a mask", "project.json": b"{}"}
    for name, data in own.items():
        (folder / name).write_bytes(data)
    run(*again)
    if again:
        run(*again)
    assert len(pngs(folder / "masks")) == 12
    assert {name: (folder / name).read_bytes() for name in own} == own
    assert sorted(path.name for path in folder.iterdir()) == [
        *("masks", "project.json", "references", "result.json")
    ]


class Stop(BaseException):
    pass


@pytest.mark.slow
def test_an_unfinished_run_is_replaced_and_ends_like_an_uninterrupted_one(small, drawn, tmp_path):
    ids = drawn.truth[0]

    def stop(done, total):
        if done == 7:
            raise Stop("enough")

    whole = small.run(drawn.mp4, {0: ids}, tmp_path / "whole").folder
    with pytest.raises(Stop):
        small.run(
            *(drawn.mp4, {0: ids}, tmp_path / "again"),
            **{"overlay": True, "formats": ("png", "rle"), "progress": stop},
        )
    again = tmp_path / "again/clip"
    assert len(pngs(again / "masks")) == 7
    assert json.loads((again / "incomplete.json").read_text())["error"] == "enough"
    assert {path.name for path in again.iterdir()} >= {"overlay.mp4", "masks.json"}
    # The second run asks for PNGs alone: nothing of the first stays beside them.
    small.run(drawn.mp4, {0: ids}, tmp_path / "again")
    assert sorted(path.name for path in again.iterdir()) == ["masks", "references", "result.json"]
    assert pngs(again / "masks") == pngs(whole / "masks")


def test_a_run_that_fails_stops_reading_at_once(small, drawn, tmp_path, monkeypatch):
    # Room for one frame: the reader waits in the middle of the clip when the run fails.
    monkeypatch.setattr(propagate.features.read_ahead, "PREFETCH_BYTES", 1)

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop) as caught:
        small.run(drawn.mp4, {0: drawn.truth[0]}, tmp_path, progress=stop)
    assert caught.tb is not None  # it keeps the run's variables, its reader among them, alive
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]


def test_a_finished_run_is_never_taken_for_an_unfinished_one(tmp_path):
    """Killed between the report and the removal of its marker, it is finished all the same."""
    folder = tmp_path / "clip"
    folder.mkdir()
    with RunFolder(folder, {"model": "color"}):
        marker = (folder / ".run.json").read_bytes()
    (folder / ".run.json").write_bytes(marker)
    with pytest.raises(OutputError, match="a finished run is in this folder"):
        RunFolder(folder, {"model": "color"})


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    script = (
        "import os, sys; from propagate.io.write.run_folder import RunFolder;"
        "RunFolder(sys.argv[1], {'model': 'color'}); os.kill(os.getpid(), 9)"
    )
    folder = tmp_path / "clip"
    killed = subprocess.run([sys.executable, "-c", script, folder], cwd=ROOT, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    leftovers = [folder / "masks/.00003.png.0a1b.part", folder / ".masks.json.2c3d.part"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    with RunFolder(folder, {"model": "color"}):
        assert not any(leftover.exists() for leftover in leftovers)


def test_a_failure_before_the_first_frame_leaves_no_folder_but_keeps_files_in_it(tmp_path):
    def fail(path, settings):
        with pytest.raises(VideoError), RunFolder(path, settings):
            raise VideoError("nothing came")

    fail(tmp_path / "new", {})
    assert not (tmp_path / "new").exists()
    with RunFolder(tmp_path / "old", {}):
        pass
    (tmp_path / "old/result.json").rename(tmp_path / "old/kept.txt")
    with pytest.raises(VideoError), RunFolder(tmp_path / "old", {}, overwrite=True):
        raise VideoError("nothing came")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["kept.txt"]


def test_an_error_of_several_lines_is_reported_on_one(drawn, tmp_path):
    frame = Frame(drawn.images[0], 0, 0, "00000")  # type: ignore[arg-type]
    result = Result(0, 0.0, drawn.truth[0], {1: 0.5}, {1: "unsure"}, {1: 0.1})
    folder = RunFolder(tmp_path / "clip", {})
    folder.write(frame, result)
    with pytest.raises(VideoError), folder:
        raise VideoError("one\ntwo")
    assert json.loads((tmp_path / "clip/incomplete.json").read_text())["error"] == "one two"


def test_an_interrupt_within_a_frame_leaves_no_mask_that_is_not_counted(drawn, tmp_path):
    class Interrupting:
        name, index, time_s = "00001", 1, 0.04

        @property
        def image(self):
            assert (tmp_path / "clip/masks/00001.png").exists()
            raise KeyboardInterrupt

    frame = Frame(drawn.images[0], 0, 0, "00000")  # type: ignore[arg-type]
    one = np.where(drawn.truth[0] == 1, drawn.truth[0], 0)
    first = Result(0, 0.0, one, {1: 0.5}, {1: "unsure"}, {1: 0.1})
    # Its second object is new, so its colour is chosen by the image.
    states: dict[int, State] = {1: "unsure", 2: "unsure"}
    second = Result(1, 0.04, drawn.truth[1], {1: 0.5, 2: 0.5}, states, {1: 0.1, 2: 0.1})
    folder = RunFolder(tmp_path / "clip", {})
    folder.write(frame, first)
    with pytest.raises(KeyboardInterrupt), folder:
        folder.write(Interrupting(), second)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "clip/masks").iterdir()] == ["00000.png"]
    assert json.loads((tmp_path / "clip/incomplete.json").read_text())["frames"] == 1


# Signals


@pytest.fixture
def long_clip(write_video, drawn, tmp_path):
    return write_video(tmp_path / "long.mp4", drawn.images * 3)


def command(drawn, clip, out):
    return [
        *(sys.executable, "-m", "propagate", "run", str(clip), "-m", str(drawn.mask)),
        *("-o", str(out), "--model", "color", "--short-side", "64"),
    ]


def signalled(drawn, clip, out, number):
    """Start a run, signal it after three masks; return its status, stdout and stderr."""
    masks = out / Path(clip).stem / "masks"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with forked.start(command(drawn, clip, out), env=environment) as process:
        try:
            deadline = time.monotonic() + 120
            while len(list(masks.glob("*.png"))) < 3:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "no mask after two minutes"
                time.sleep(0.01)
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, stdout, stderr


def assert_all_whole(folder):
    masks = sorted((folder / "masks").glob("*.png"))
    assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(len(masks))]
    assert 3 <= len(masks) < 36
    for path in masks:
        assert read(path).shape == (48, 64)
    assert not (folder / "result.json").exists()
    return len(masks)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_whole_files_and_says_so(drawn, long_clip, tmp_path, number):
    status, stdout, stderr = signalled(drawn, long_clip, tmp_path / "out", number)
    assert status == 130
    assert stdout == ""
    assert stderr.splitlines()[1:] == [
        "propagate: interrupted; run the same command again to continue"
    ]
    folder = tmp_path / "out/long"
    count = assert_all_whole(folder)
    report = json.loads((folder / "incomplete.json").read_text())
    assert (report["complete"], report["frames"]) == (False, count)
    assert report["error"] == f"stopped by {number.name}"
    assert not list(folder.rglob("*.part"))


@pytest.mark.slow
def test_a_stream_that_is_interrupted_is_not_said_to_go_on(write_video, drawn, tmp_path):
    stream = write_video(tmp_path / "live.ts", drawn.images * 6)
    with server_that_stops(stream.read_bytes()) as url:
        status, _, stderr = signalled(drawn, url, tmp_path / "out", signal.SIGINT)
    assert status == 130
    assert stderr.splitlines()[1:] == [
        "propagate: interrupted; a camera or stream cannot be continued: what was written stays; "
        "choose another folder with -o for the next run"
    ]
    assert (tmp_path / "out/live/incomplete.json").exists()


@pytest.mark.slow
def test_what_happens_in_a_run_is_logged_as_in_a_batch(propagate, drawn, tmp_path, monkeypatch):
    """The oracle: a batch of the same two sources, of which one is no video."""
    monkeypatch.setattr("propagate.batch.local.LocalEngine", lambda s, out, _: here(s, out, 1))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    (tmp_path / "masks").mkdir()
    for name in ("clip", "bad"):
        shutil.copy(drawn.mask, tmp_path / f"masks/{name}.png")
    (tmp_path / "list.csv").write_text(
        "video,mask\n" + "".join(f"{v},{drawn.mask}\n" for v in (drawn.mp4, bad))
    )
    common = ("--model", "color", "--short-side", 64, "--device", "cpu", "--log-json")
    ran = propagate(
        *("run", drawn.mp4, bad, "-m", tmp_path / "masks", "-o", tmp_path / "run"),
        *(*common, tmp_path / "run.jsonl"),
    )
    batched = propagate(
        *("batch", tmp_path / "list.csv", "-o", tmp_path / "batch", "--retry", 0),
        *(*common, tmp_path / "batch.jsonl"),
    )
    assert (ran.status, batched.status) == (1, 1)
    ours, theirs = (
        {(e["video"], e["event"]): e for e in map(json.loads, path.read_text().splitlines())}
        for path in (tmp_path / "run.jsonl", tmp_path / "batch.jsonl")
    )
    assert ours.keys() == theirs.keys()
    assert ("clip", "advanced") in ours
    varying = ("time", "host", "pid", "seconds", "done", "fps")
    for key, event in ours.items():
        assert list(event) == list(theirs[key])
        for name in event.keys() - set(varying):
            assert event[name] == theirs[key][name], (key, name)
    assert ours["clip", "finished"]["frames"] == len(drawn.images)
    assert ours["bad", "failed"]["reason"] in ran.stderr


def test_a_log_that_cannot_be_written_is_told_before_anything_is_done(propagate, drawn, tmp_path):
    log = tmp_path / "nowhere/log.jsonl"
    command = ("run", drawn.mp4, "-m", drawn.mask, "-o", tmp_path / "out", "--model", "color")
    finished = propagate(*command, "--log-json", log)
    assert finished.status == 1
    assert finished.stderr.startswith(f"propagate: error: {log}: cannot be written (No such file")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files_and_ends_like_another_when_run_again(
    run, drawn, long_clip, tmp_path
):
    status, _, _ = signalled(drawn, long_clip, tmp_path / "out", signal.SIGKILL)
    assert status == -signal.SIGKILL
    folder = tmp_path / "out/long"
    assert_all_whole(folder)
    run(sources=[long_clip], out=tmp_path / "out")
    run(sources=[long_clip], out=tmp_path / "whole")
    assert len(pngs(folder / "masks")) == 36
    assert pngs(folder / "masks") == pngs(tmp_path / "whole/long/masks")
    assert sorted(path.name for path in folder.iterdir()) == ["masks", "references", "result.json"]


@pytest.mark.parametrize(
    ("option", "limit", "stays"),
    [
        ("--overlay", 20_000, ["incomplete.json", "masks", "references"]),
        ("--overlay", 6000, ["incomplete.json", "masks", "references"]),
        ("--format=rle", 20_000, ["incomplete.json", "references"]),
    ],
)
@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_leaves_the_reason(drawn, tmp_path, option, limit, stays):
    """The limit of a file's size stands for the disk: small files fit, the combined ones do not."""
    rng = np.random.default_rng(2)
    frames = tmp_path / "noise"
    frames.mkdir()
    for index in range(30):
        noise = rng.integers(0, 256, (96, 128, 3), np.uint8)
        Image.fromarray(noise).save(frames / f"{index:05d}.png")
    mask = np.zeros((96, 128), np.uint8)
    mask[::2, 3:90] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from propagate.cli.main import main\n"
        "main()\n"
    )
    command = ["run", str(frames), "-m", str(tmp_path / "mask.png"), "-o", str(tmp_path / "out")]
    done = forked.run(
        [sys.executable, "-c", script, *command, "--model=color", "--short-side=64", option]
    )
    assert done.returncode == 1
    assert "cannot be written (file too large)" in done.stderr.splitlines()[-1]
    there = {path.name for path in (tmp_path / "out" / "noise").iterdir()}
    assert there - {".run.json", ".state", ".frames.jsonl"} == set(stays)
    report = json.loads((tmp_path / "out" / "noise" / "incomplete.json").read_text())
    assert report["complete"] is False
    assert "file too large" in report["error"]
