"""A run that is interrupted goes on from its last saved state, and ends as if it had not been."""

import json
import os
import random
import shutil
import sys
import time
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from propagate.config import Config
from propagate.errors import OutputError, VideoError
from propagate.io.decode.options import SourceOptions
from propagate.io.write import lock
from propagate.io.write.earlier_run import find_finished
from propagate.io.write.layout import STATE
from propagate.io.write.run_folder import RunFolder
from propagate.pipeline import Propagator
from propagate.records import Frame, Result, State
from propagate.saved_state import Saves
from tests import forked


@pytest.fixture(scope="module")
def small():
    return Propagator("color", device="cpu", config=Config(short_side_px=64))


class Stop(BaseException):
    pass


def stop_at(*frames):
    """A progress that ends the run after these frames; the frames it was told of."""
    told = []

    def progress(done, total):
        told.append(done)
        if done in frames and (len(told) < 2 or told[-2] == done - 1):
            raise Stop(f"at {done}")

    return progress, told


def run(propagator, clip, references, out, **options):
    return propagator.run(clip, references, out, save_every_s=0, **options)


def interrupted(propagator, clip, references, out, at, **options):
    progress, _ = stop_at(at)
    with pytest.raises(Stop):
        run(propagator, clip, references, out, progress=progress, **options)


def contents(folder):
    """Every file with its bytes; of the report all but the timing."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    report = json.loads(found.pop("result.json"))
    assert report.pop("timing")["seconds"] > 0
    return found, report


def assert_same(folder, other):
    (files, report), (other_files, other_report) = contents(folder), contents(other)
    assert sorted(files) == sorted(other_files)
    assert [name for name in files if files[name] != other_files[name]] == []
    assert report == other_report


def timing(folder):
    return json.loads((folder / "result.json").read_text())["timing"]


# The same files


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"formats": ("rle",)},
        {"formats": ("png", "rle"), "overlay": True},
        {"formats": ("rle",), "overlay": True, "max_frames": 10},
        {"batch_size": 5},
        {"source_options": SourceOptions(decoder="pyav")},
    ],
    ids=str,
)
@pytest.mark.slow
def test_an_interrupted_run_ends_byte_for_byte_as_another(small, drawn, tmp_path, options):
    references = {0: drawn.truth[0]}
    whole = run(small, drawn.mp4, references, tmp_path / "whole", **options)
    for frame in (3, 4, 9):
        interrupted(small, drawn.mp4, references, tmp_path / "again", frame, **options)
    again = run(small, drawn.mp4, references, tmp_path / "again", **options)
    assert again.resumed_at == (3, 4, 9)
    assert timing(again.folder)["resumed_at"] == [3, 4, 9]
    assert "resumed_at" not in timing(whole.folder)
    assert_same(again.folder, whole.folder)


def test_frames_done_are_not_computed_again(small, drawn, tmp_path):
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    masks = sorted((tmp_path / "clip/masks").iterdir())
    before = [mask.stat().st_mtime_ns for mask in masks]
    assert len(before) == 7
    progress, told = stop_at()
    run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, progress=progress)
    assert [mask.stat().st_mtime_ns for mask in masks] == before
    assert told == list(range(1, 13))


def test_the_time_of_a_run_that_went_on_is_that_of_all_its_frames(small, drawn, tmp_path):
    def slowly(done, total):
        time.sleep(0.05)
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, progress=slowly)
    assert run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path).seconds > 0.25


@pytest.mark.slow
def test_a_run_that_was_interrupted_after_its_last_frame_only_writes_the_report(
    small, drawn, tmp_path
):
    whole = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path / "whole", overlay=True)
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 12, overlay=True)
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, overlay=True)
    assert again.resumed_at == (12,)
    assert_same(again.folder, whole.folder)


@pytest.mark.parametrize("at", [2, 4, 6, 9, 11])
@pytest.mark.slow
def test_a_run_both_ways_goes_on_outside_the_frames_gone_back_over(small, drawn, tmp_path, at):
    """No state is saved inside of frames 0 to 4 and 5 to 8."""
    references = {0: drawn.truth[0] % 2, 4: drawn.truth[4], 8: drawn.truth[8]}
    options = {"overlay": True, "formats": ("png", "rle")}
    whole = run(small, drawn.mp4, references, tmp_path / "whole", **options)
    interrupted(small, drawn.mp4, references, tmp_path, at, **options)
    again = run(small, drawn.mp4, references, tmp_path, **options)
    assert again.resumed_at == {2: (), 4: (), 6: (5,), 9: (9,), 11: (11,)}[at]
    assert_same(again.folder, whole.folder)


def test_an_object_first_named_later_is_told_apart_after_an_interruption_too(
    small, drawn, tmp_path
):
    """Objects join on frame 3 and frame 8, one way."""
    references = {3: np.where(drawn.truth[3] == 1, 1, 0), 8: np.where(drawn.truth[8] == 2, 2, 0)}
    options = {"backwards": "none"}
    whole = run(small, drawn.mp4, references, tmp_path / "whole", **options)
    for at in (2, 5, 9):
        interrupted(small, drawn.mp4, references, tmp_path, at, **options)
    again = run(small, drawn.mp4, references, tmp_path, **options)
    assert again.object_ids == whole.object_ids == (1, 2)
    assert_same(again.folder, whole.folder)


class Inverted:
    """A refiner of no weights: what it does to a mask shows in the file."""

    def __init__(self):
        self.settings = {"name": "inverted"}

    def refine(self, image, mask):
        return np.where(mask == 1, 2, np.where(mask == 2, 1, 0)).astype(np.uint8)


@pytest.mark.slow
def test_refined_masks_go_on_too(small, drawn, tmp_path):
    options = {"refine": Inverted(), "overlay": True, "formats": ("png", "rle")}
    whole = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path / "whole", **options)
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 5, **options)
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, **options)
    assert again.resumed_at == (5,)
    assert "refined/00011.png" in contents(again.folder)[0]
    assert_same(again.folder, whole.folder)


def wait_until(condition, seconds=120.0):
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


KILLED = """
import sys
from propagate.config import Config
from propagate.io.masks.files import read_mask
from propagate.pipeline import Propagator

clip, mask, out = sys.argv[1:]
propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
propagator.run(
    clip, {0: read_mask(mask)}, out, formats=("png", "rle"), overlay=True, save_every_s=0
)
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_loses_nothing(small, drawn, write_video, tmp_path):
    clip = write_video(tmp_path / "long.mp4", drawn.images * 3)
    options = {"overlay": True, "formats": ("png", "rle")}
    whole = run(small, clip, {0: drawn.truth[0]}, tmp_path / "whole", **options)
    rng = random.Random(7)
    line = [sys.executable, "-c", KILLED, str(clip), str(drawn.mask), str(tmp_path / "again")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    again = tmp_path / "again/long"
    for _ in range(3):
        done = len(list(again.glob("masks/*.png")))
        with forked.start(line, env=environment) as process:
            wait_until(lambda done=done: len(list(again.glob("masks/*.png"))) > done + 5)
            time.sleep(rng.uniform(0, 0.1))
            assert process.poll() is None
            process.kill()
    if not (again / "result.json").exists():
        run(small, clip, {0: drawn.truth[0]}, tmp_path / "again", **options)
    assert timing(again)["resumed_at"]
    assert_same(again, whole.folder)


# What cannot be gone on with


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore:Exception ignored")
@pytest.mark.slow
def test_a_run_interrupted_at_any_line_of_its_files_can_be_given_again(
    drawn, tmp_path, monkeypatch
):
    """An interruption comes wherever it likes: each step of claiming, writing, ending is tried."""
    names = "run_folder earlier_run run_state files lock layout report combined png masks_json"
    files = {f"{name}.py" for name in names.split()}
    frames = [Frame(image, i, Fraction(i, 25)) for i, image in enumerate(drawn.images[:2])]
    formats, made_by = ("png", "rle"), {"version": "1"}

    def run_clip(out):
        """What a run does with its folder, without its model."""
        if find_finished(out, {"a": 1}, formats) is not None:
            return
        with RunFolder(out, {"a": 1}, formats=formats, made_by=made_by) as folder:
            for frame in frames[: folder.done]:
                folder.rewrite(frame)
            for frame in frames[folder.done :]:
                ids = drawn.truth[frame.index]
                scores = {1: 1.0, 2: 0.5}
                states: dict[int, State] = {1: "tracked", 2: "unsure"}
                folder.write(frame, Result(frame.index, frame.time_s, ids, scores, states, scores))
                folder.save(b"session", frame, 0.5, {"match": 0.5})
            folder.report(timing={"seconds": 1.0})

    def run_traced(out, at_line):
        """Run, and call for each line of those files."""

        def trace(frame, event, _):
            if frame.f_code.co_filename.rpartition("/")[2] not in files:
                return None
            if event == "line":
                at_line((frame.f_code.co_filename, frame.f_lineno))
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run_clip(out)
        finally:
            sys.settrace(before)

    run_clip(tmp_path / "first")  # which imports what the others find imported
    lines = []
    run_traced(tmp_path / "whole", lines.append)
    first_times = sorted({line: n for n, line in reversed([*enumerate(lines)])}.values())
    stopped = []
    for number in first_times:
        left = iter(range(number, -1, -1))

        def stop_there(line, left=left):
            if next(left) == 0:
                stopped.append(line)
                raise Stop(line)

        out = tmp_path / str(number)
        with suppress(Stop):
            run_traced(out, stop_there)
        # The process ended there: it holds nothing any more.
        monkeypatch.setattr(lock, "_held_here", set())
        run_clip(out)
        assert_same(out, tmp_path / "whole")
    # Lists of files come in any order, so that the last lines may be missed.
    assert len(stopped) > len(first_times) - 5 > 200


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1], "the saved state is damaged"),
        (lambda data: data[:-9] + b"\0" + data[-8:], "the saved state is damaged"),
        (lambda data: b"", "the saved state is damaged"),
        (lambda data: data.replace(b'"torch": "', b'"torch": "0'), "was made with torch 0"),
        (lambda data: data.replace(b'"format": 2', b'"format": 9'), "another version of propagate"),
    ],
)
@pytest.mark.slow
def test_a_saved_state_that_does_not_fit_is_a_warning_and_a_new_start(
    small, drawn, tmp_path, caplog, damage, reason
):
    whole = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path / "whole")
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    state = tmp_path / "clip" / STATE
    state.write_bytes(damage(state.read_bytes()))
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path)
    assert reason in caplog.text
    assert "starting over" in caplog.text
    assert again.resumed_at == ()
    assert_same(again.folder, whole.folder)


@pytest.mark.slow
def test_a_mask_that_somebody_removed_is_a_warning_and_a_new_start(small, drawn, tmp_path, caplog):
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    (tmp_path / "clip/masks/00002.png").unlink()
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path)
    assert "masks/00002.png is missing; starting over" in caplog.text
    assert len(list((again.folder / "masks").iterdir())) == 12


@pytest.mark.slow
def test_other_files_asked_for_are_a_new_start(small, drawn, tmp_path, caplog):
    whole = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path / "whole", formats=("rle",))
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, formats=("rle",))
    assert "was made with formats png, this is rle; starting over" in caplog.text
    assert_same(again.folder, whole.folder)


@pytest.mark.slow
def test_overwriting_begins_anew(small, drawn, tmp_path):
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    assert run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, overwrite=True).resumed_at == ()


@pytest.mark.slow
def test_a_run_of_other_settings_is_refused_and_left_as_it_is(small, drawn, tmp_path):
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    with pytest.raises(OutputError, match="an unfinished run of other settings"):
        run(small, drawn.mp4, {0: drawn.truth[1]}, tmp_path)
    assert run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path).resumed_at == (7,)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", [True, False])
def test_another_video_of_the_same_name_is_refused(small, drawn, write_video, tmp_path, overlay):
    clip = tmp_path / "clip.mp4"
    shutil.copy(drawn.mp4, clip)
    interrupted(small, clip, {0: drawn.truth[0]}, tmp_path, 7, overlay=overlay)
    write_video(clip, [255 - image for image in drawn.images])
    with pytest.raises(OutputError, match="frame 6 of the source has changed"):
        run(small, clip, {0: drawn.truth[0]}, tmp_path, overlay=overlay)
    write_video(clip, drawn.images[:4])
    with pytest.raises(VideoError, match="frame 4 was there when this source was followed before"):
        run(small, clip, {0: drawn.truth[0]}, tmp_path, overlay=overlay)
    shutil.copy(drawn.mp4, clip)
    assert run(small, clip, {0: drawn.truth[0]}, tmp_path, overlay=overlay).resumed_at[-1] == 7


@pytest.mark.slow
def test_a_source_that_broke_off_is_gone_on_with_when_it_is_whole(small, drawn, tmp_path):
    """Its frames are kept until then."""
    frames = tmp_path / "frames"
    shutil.copytree(drawn.folder, frames)
    whole = run(small, frames, {0: drawn.truth[0]}, tmp_path / "whole", overlay=True)
    good = (frames / "img_108.png").read_bytes()
    (frames / "img_108.png").write_bytes(good[:50])
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(VideoError):
            run(small, frames, {0: drawn.truth[0]}, out, overlay=True)
        assert len(list((out / "frames/masks").iterdir())) == 8
        assert json.loads((out / "frames/incomplete.json").read_text())["frames"] == 8
        assert (out / "frames/overlay.mp4").exists()
    (frames / "img_108.png").write_bytes(good)
    again = run(small, frames, {0: drawn.truth[0]}, out, overlay=True)
    assert again.resumed_at == (8,)
    assert_same(again.folder, whole.folder)


@pytest.mark.slow
def test_an_interruption_while_going_on_keeps_all_frames(small, drawn, tmp_path):
    options = {"overlay": True, "formats": ("png", "rle")}
    whole = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path / "whole", **options)
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 8, **options)
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 3, **options)
    folder = tmp_path / "clip"
    report = json.loads((folder / "incomplete.json").read_text())
    assert report["frames"] == len(report["per_frame"]) == 8
    assert len(list((folder / "masks").iterdir())) == 8
    assert not list(folder.glob(".*.part"))
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, **options)
    assert_same(again.folder, whole.folder)


# Finished before


def test_a_finished_run_is_kept_where_that_is_asked_for(small, drawn, tmp_path):
    first = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path)
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, keep_finished=True)
    assert again.was_finished
    assert (again.frames, again.object_ids) == (first.frames, first.object_ids)
    for other in ({"overlay": True}, {"formats": ("rle",)}, {"max_frames": 3}):
        with pytest.raises(OutputError, match="a finished run is in this folder"):
            run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, keep_finished=True, **other)


def test_what_a_kill_left_beside_a_finished_run_is_cleared_up(tmp_path):
    with RunFolder(tmp_path / "clip", {"model": "color"}) as folder:
        pass
    left = [folder.path / name for name in (".run.json", ".state", ".frames.jsonl", ".lock")]
    for file in left:
        file.write_bytes(b"")
        os.utime(file, (0, 0))
    assert find_finished(folder.path, {"model": "tiny"}) is None
    assert all(file.exists() for file in left)
    assert find_finished(folder.path, {"model": "color"}) is not None
    assert not any(file.exists() for file in left)


# What saving costs


@pytest.mark.slow
def test_saves_take_a_bounded_share_of_the_time():
    saves = Saves(every_s=0.001, share=0.1)
    time.sleep(0.002)
    begun, saving, count = time.monotonic(), 0.0, 0
    while time.monotonic() - begun < 1.0:
        if saves.is_due():
            with saves:
                time.sleep(0.01)
            saving += 0.01
            count += 1
        time.sleep(0.001)
    assert count >= 3
    assert saving / (time.monotonic() - begun) < 0.13


def test_a_state_is_due_after_every_frame_or_after_so_many_seconds():
    assert Saves(every_s=0, share=0.01).is_due()
    assert not Saves(every_s=5, share=0.01).is_due()


@pytest.mark.slow
def test_the_memory_of_a_report_does_not_grow_with_the_video(tmp_path):
    """Frames are kept in a file; 3,000 of them with 8 objects would be 5 MB of values."""
    import tracemalloc

    ids = np.zeros((8, 8), np.uint8)
    scores = dict.fromkeys(range(1, 9), 0.5)
    states: dict[int, State] = dict.fromkeys(scores, "unsure")
    with RunFolder(tmp_path / "clip", {}, formats=()) as folder:
        tracemalloc.start()
        for index in range(3000):
            frame = Frame(np.zeros((8, 8, 3), np.uint8), index, Fraction(index), f"{index:05d}")
            folder.write(frame, Result(index, 0.0, ids, scores, states, scores))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 500_000
    report = json.loads((folder.path / "result.json").read_text())
    assert len(report["per_frame"]) == report["frames"] == 3000


def test_a_mask_of_a_run_that_cannot_be_read_again_is_one_error(small, drawn, tmp_path):
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7, overlay=True)
    (tmp_path / "clip/masks/00002.png").write_bytes(b"half")
    with pytest.raises(OutputError, match=r"00002\.png: no readable image .*; pass overwrite=True"):
        run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, overlay=True)


@pytest.mark.slow
def test_the_masks_before_the_saved_state_stay_and_later_ones_are_made_again(
    small, drawn, tmp_path
):
    interrupted(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    Image.fromarray(drawn.truth[0]).save(tmp_path / "clip/masks/00009.png")
    again = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, max_frames=None)
    whole = run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path / "whole")
    assert_same(again.folder, whole.folder)
