"""Many videos left alone: workers that die or hang, bad videos, batches that are killed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from propagate.batch.events import Finished, Lost
from propagate.batch.manifest import BatchVideo
from propagate.batch.schedule import run_batch
from propagate.batch.status import STATUS, VideoStatus, read_status, write_status
from propagate.batch.tasks import BatchSettings
from propagate.config import Config
from propagate.errors import OutputError
from propagate.io.decode.options import SourceOptions
from propagate.io.write.lock import take_lock
from propagate.pipeline import Propagator
from propagate.run_options import RunOptions
from tests import forked
from tests.batch_runs import HereEngine, assert_same, here

SETTINGS = BatchSettings(
    model="color",
    device="cpu",
    short_side_px=64,
    run=RunOptions(formats=("png", "rle"), save_every_s=0),
)
# Where the masks do not matter.
BRIEF = replace(SETTINGS, run=replace(SETTINGS.run, max_frames=2))


@pytest.fixture(scope="module")
def clips(drawn, write_video, tmp_path_factory) -> Path:
    """A folder of three clips of 24, 36 and 48 frames, and their first mask for each."""
    root = tmp_path_factory.mktemp("clips")
    for part in ("videos", "masks"):
        (root / part).mkdir()
    for name, times in (("two", 2), ("three", 3), ("four", 4)):
        write_video(root / f"videos/{name}.mp4", drawn.images * times)
        Image.fromarray(drawn.truth[0]).save(root / f"masks/{name}.png")
    return root


@pytest.fixture(scope="module")
def whole(clips, drawn, tmp_path_factory) -> Path:
    """What `Propagator.run` makes of each clip."""
    out = tmp_path_factory.mktemp("whole")
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    for video in videos_of(clips):
        propagator.run(str(video.video), {0: drawn.truth[0]}, out, formats=("png", "rle"))
    return out


def videos_of(root: Path) -> list[BatchVideo]:
    return [
        BatchVideo(file, file.stem, root / f"masks/{file.stem}.png")
        for file in sorted((root / "videos").iterdir())
    ]


# The schedule, with an engine that runs every task at once, here


@pytest.mark.slow
def test_any_engine_leaves_the_files_of_single_runs(clips, whole, tmp_path):
    summary = run_batch(videos_of(clips), tmp_path, SETTINGS, engine=here)
    assert [video.state for video in summary.videos] == ["done"] * 3
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_the_longest_video_is_begun_first(clips, tmp_path):
    events = []
    run_batch(videos_of(clips), tmp_path, BRIEF, engine=here, on_event=events.append)
    begun = [event["video"] for event in events if event["event"] == "started"]
    assert begun == ["four", "three", "two"]


@pytest.mark.slow
def test_a_missing_file_costs_its_own_line_alone(propagate, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("propagate.batch.local.LocalEngine", lambda s, out, _: here(s, out, 1))
    for name in ("a", "c"):
        (tmp_path / f"{name}.mp4").symlink_to(drawn.mp4)
    (tmp_path / "m.png").symlink_to(drawn.mask)
    table = tmp_path / "t.csv"
    table.write_text("video;mask;max_frames\na.mp4;m.png;2\nb.mp4;m.png;2\nc.mp4;none.png;2\n")
    given = ("batch", table, "-o", tmp_path / "out", "--model", "color", "--no-isolate")
    finished = propagate(*given, "--log-json", tmp_path / "log")
    assert finished.status == 1
    assert f"t.csv, line 3: video: {tmp_path / 'b.mp4'}: no such file" in finished.stderr
    assert f"t.csv, line 4: mask: {tmp_path / 'none.png'}: no such file" in finished.stderr
    assert (tmp_path / "out/a/result.json").exists()
    summary = (tmp_path / "out/summary.jsonl").read_text()
    lines = [json.loads(line) for line in summary.splitlines()]
    assert [line["status"] for line in lines] == ["done", "failed", "failed"]
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [e["worker"] for e in events if e["event"] == "failed"] == [-1, -1]
    # The file has come, and the batch goes on.
    (tmp_path / "b.mp4").symlink_to(drawn.mp4)
    assert "1 done, 1 skipped, 1 failed" in propagate(*given).stdout


@pytest.mark.slow
def test_a_bad_video_is_tried_again_after_the_others_and_stops_none(clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 100_000)
    videos = [BatchVideo(bad, "bad", clips / "masks/two.png"), *videos_of(clips)]
    events = []
    summary = run_batch(
        videos, tmp_path / "out", BRIEF, engine=here, retry=2, on_event=events.append
    )
    assert [video.state for video in summary.videos] == ["failed", "done", "done", "done"]
    (failed,) = summary.failed
    assert failed.attempts == 3
    assert f"{bad}: cannot be opened as a video" in str(failed.reason)
    failures = [event for event in events if event["event"] == "failed"]
    assert [event["again"] for event in failures] == [True, True, False]
    assert events[-1] == failures[-1]
    lines = [json.loads(line) for line in (tmp_path / "out/summary.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["failed", "done", "done", "done"]
    assert lines[0]["reason"] == f"{failed.reason}; {failed.hint}"
    assert (lines[1]["folder"], lines[1]["frames"], lines[1]["reason"]) == ("four", 2, None)
    assert not (tmp_path / "out/bad").exists()


def test_a_failure_of_the_program_is_one_of_the_video_too(clips, tmp_path):
    settings = replace(SETTINGS, recipe="nothing")
    events = []
    summary = run_batch(
        videos_of(clips)[:1], tmp_path, settings, engine=here, retry=0, on_event=events.append
    )
    assert str(summary.failed[0].reason).startswith("ValueError: no recipe is named 'nothing'")
    assert "registry.py" in events[-1]["trace"]


def test_a_mask_that_does_not_fit_is_not_tried_again(clips, tmp_path):
    mask = tmp_path / "small.png"
    Image.new("L", (20, 20), 1).save(mask)
    video = BatchVideo(clips / "videos/two.mp4", "two", mask)
    summary = run_batch([video], tmp_path / "out", SETTINGS, engine=here, retry=3)
    (failed,) = summary.failed
    assert failed.attempts == 1
    assert "the mask is 20x20, the frame 64x48" in str(failed.reason)


def test_options_of_a_video_count_before_those_of_the_batch(clips, tmp_path):
    two, three = (
        BatchVideo(clips / f"videos/{name}.mp4", name, clips / f"masks/{name}.png", options=options)
        for name, options in {
            "two": {"max_frames": 3, "matcher": "dino", "overlay": True},
            "three": {},
        }.items()
    )
    settings = replace(SETTINGS, run=replace(SETTINGS.run, formats=("png",), max_frames=5))
    run_batch([two, three], tmp_path, settings, engine=here)
    reports = {n: json.loads((tmp_path / n / "result.json").read_text()) for n in ("two", "three")}
    assert (reports["two"]["frames"], reports["three"]["frames"]) == (3, 5)
    assert reports["two"]["config"]["matcher"] == Config.named("dino").to_json()["matcher"]
    assert (tmp_path / "two/overlay.mp4").exists()
    assert not (tmp_path / "three/overlay.mp4").exists()


def test_masks_of_several_frames_are_taken_from_a_folder_and_from_a_list(clips, drawn, tmp_path):
    (tmp_path / "m").mkdir()
    Image.fromarray(drawn.truth[0]).save(tmp_path / "m/0.png")
    Image.fromarray(drawn.truth[5]).save(tmp_path / "five.png")
    video = BatchVideo(clips / "videos/two.mp4", "two", tmp_path / "m", {5: tmp_path / "five.png"})
    run_batch([video], tmp_path / "out", SETTINGS, engine=here)
    report = json.loads((tmp_path / "out/two/result.json").read_text())
    assert list(report["references_sha256"]) == ["0", "5"]


@pytest.mark.slow
def test_what_is_finished_is_skipped_unless_its_settings_changed(clips, tmp_path):
    videos = videos_of(clips)
    run_batch(videos[:1], tmp_path, BRIEF, engine=here)
    again = run_batch(videos, tmp_path, BRIEF, engine=here)
    assert [video.state for video in again.videos] == ["skipped", "done", "done"]
    assert again.videos[0].frames == 2
    other = replace(BRIEF, short_side_px=80)
    refused = run_batch(videos[:1], tmp_path, other, engine=here, retry=0)
    assert "a finished run is in this folder" in str(refused.failed[0].reason)
    assert refused.failed[0].hint.startswith("pass {overwrite=True}")
    replaced = run_batch(videos[:1], tmp_path, other, engine=here, overwrite=True)
    assert [video.state for video in replaced.videos] == ["done"]


@pytest.mark.slow
def test_a_video_that_is_begun_anew_is_not_begun_anew_each_time_it_is_tried(clips, tmp_path):
    """Its first attempt with `overwrite` clears the folder; the second goes on."""
    videos = videos_of(clips)[:1]
    run_batch(videos, tmp_path, BRIEF, engine=here)
    overwrites = []

    @contextmanager
    def breaking(settings, out, jobs):
        def disturb(task, event):
            if isinstance(event, Finished):
                overwrites.append(task.overwrite)
                if len(overwrites) == 1:
                    return Lost(event.worker, "gone")
            return event

        yield HereEngine(settings, out, jobs, disturb)

    summary = run_batch(videos, tmp_path, BRIEF, engine=breaking, overwrite=True)
    assert overwrites == [True, False]
    assert summary.videos[0].state == "skipped"


@pytest.mark.slow
def test_the_process_of_a_batch_imports_no_torch():
    """Its workers do; importing it here as well took seconds of each start."""
    script = (
        "import sys; from propagate.batch import schedule; from propagate.cli import main, batch;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


def test_numbers_that_make_no_sense_are_refused(clips, tmp_path):
    for wrong in ({"jobs": 0}, {"retry": -1}, {"stall_s": 0}):
        with pytest.raises(ValueError, match="jobs 1 or more"):
            run_batch(videos_of(clips), tmp_path, **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="share a folder"):
        run_batch(videos_of(clips)[:1] * 2, tmp_path)


# Workers


@pytest.mark.slow
def test_workers_that_die_or_hang_are_replaced_and_their_videos_go_on(clips, whole, tmp_path):
    """In one batch of two workers: the second is hit when the loss of the first is known."""
    numbers = (signal.SIGKILL, signal.SIGSTOP)
    pids, hits, losses, finished = {}, [], [], {}

    def tell(event):
        if event["event"] == "started":
            pids[event["worker"]] = event["pid"]
        elif event["event"] == "lost":
            losses.append(event)
        elif event["event"] == "finished":
            finished[event["video"]] = event
        may_hit = len(pids) == 2 and len(losses) == len(hits) < len(numbers)
        if event["event"] == "advanced" and event["done"] and may_hit:
            hits.append(event["video"])
            os.kill(pids[event["worker"]], numbers[len(hits) - 1])

    settings = replace(
        SETTINGS, run=replace(SETTINGS.run, source_options=SourceOptions(isolate=True))
    )
    # A worker that hangs is noticed by its silence: longer than the slowest frame here takes.
    summary = run_batch(videos_of(clips), tmp_path, settings, jobs=2, stall_s=8, on_event=tell)
    assert [video.state for video in summary.videos] == ["done"] * 3
    assert [loss["video"] for loss in losses] == hits
    assert "killed by SIGKILL" in losses[0]["reason"]
    assert "no progress for 8 s" in losses[1]["reason"]
    assert sum(video.attempts for video in summary.videos) == 3 + len(hits)
    for video in set(hits):
        assert finished[video]["resumed_at"]
    assert_same(tmp_path, whole)


# A batch that is ended


def command(clips, out, *options):
    return [
        *(sys.executable, "-m", "propagate", "batch", str(clips), "-o", str(out)),
        *("--model", "color", "--short-side", "64", "--format", "png,rle"),
        *("--save-every", "0", "--device", "cpu", "--no-isolate", *map(str, options)),
    ]


def started(clips, out, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return forked.start(command(clips, out, *options), env=environment)


def wait_for_masks(process, out, count):
    deadline = time.monotonic() + 300
    while len(list(out.glob("*/masks/*.png"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_batch_that_is_killed_and_interrupted_loses_nothing_and_goes_on(clips, whole, tmp_path):
    rng = random.Random(3)
    with started(clips, tmp_path, "--jobs", 2) as process:
        wait_for_masks(process, tmp_path, rng.randrange(1, 10))
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = len(list(tmp_path.glob("*/masks/*.png")))
    with started(clips, tmp_path, "--jobs", 2) as process:
        wait_for_masks(process, tmp_path, done + 6)
        found = read_status(tmp_path)
        assert found.owner is not None
        assert found.owner.pid == process.pid
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "propagate: interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.glob("**/.lock"))
    assert not list(tmp_path.glob("**/*.part"))
    assert list(tmp_path.glob("*/incomplete.json"))
    assert not (tmp_path / "summary.jsonl").exists()
    assert read_status(tmp_path).owner is None
    with started(clips, tmp_path) as process:
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "continued at" in stderr
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_second_batch_on_a_folder_is_refused(clips, tmp_path):
    with take_lock(tmp_path), pytest.raises(OutputError, match="in use by process"):
        run_batch(videos_of(clips), tmp_path, SETTINGS, engine=here)
    assert not (tmp_path / ".batch.json").exists()


@pytest.mark.slow
def test_the_command_ends_with_status_1_if_a_video_failed(propagate, clips, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    manifest = tmp_path / "manifest.csv"
    two = clips / "videos/two.mp4"
    mask = clips / "masks/two.png"
    manifest.write_text(f"video,mask,max_frames\n{two},{mask},3\nbad.mp4,{mask},\n")
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    finished = propagate(
        *("batch", manifest, "-o", out, "--model", "color", "--device", "cpu"),
        *("--retry", 0, "--log-json", log),
    )
    assert finished.status == 1
    assert "two" in finished.stdout
    assert f"{out}: 1 done, 0 skipped, 1 failed; " in finished.stdout
    assert "propagate: error: 1 of 2 videos failed, see above" in finished.stderr
    assert "bad: failed: " in finished.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] != "advanced"] == [
        *("started", "finished"),
        *("started", "failed"),
    ]
    assert all({"time", "video", "worker"} <= event.keys() for event in events)
    shown = propagate("status", out)
    assert shown.status == 0
    assert "1 done, 1 failed" in shown.stdout
    assert "; over" in shown.stdout


# What is said of it


def test_the_status_of_a_batch_in_progress_is_read_from_its_folder(propagate, tmp_path):
    videos = [
        VideoStatus("a", "a.mp4", "done", 90, 90, None, 1, None, 90, 9.0),
        VideoStatus("b", "b.mp4", "running", 30, 120, 2.5, 2, "its worker was killed"),
        VideoStatus("c", "c.mp4"),
        VideoStatus("d", "d.mp4", "failed", 0, None, None, 2, "no video"),
    ]
    with take_lock(tmp_path):
        write_status(tmp_path, videos)
        assert read_status(tmp_path).videos == tuple(videos)
        running = propagate("status", tmp_path).stdout
    assert "1 done, 1 running, 1 waiting, 1 failed; 2.5 frames/s" in running
    assert f"run by process {os.getpid()} on" in running
    rows = [line.split() for line in running.splitlines()]
    assert ["a", "done", "90/90", "10.0", "1"] in rows
    assert ["b", "running", "30/120", "2.5", "2", "its", "worker", "was", "killed"] in rows
    ended = propagate("status", tmp_path).stdout
    assert "interrupted, run it again" in ended
    assert ["b", "interrupted", "30/120"] in [line.split()[:3] for line in ended.splitlines()]


def test_of_many_videos_those_are_shown_that_failed_or_are_worked_on(propagate, tmp_path):
    states = {"bad": "failed", "now": "running", "later": "waiting"}
    videos = [VideoStatus(name, f"{name}.mp4", state) for name, state in states.items()]
    videos += [VideoStatus(f"v{i}", f"v{i}.mp4", "done") for i in range(60)]
    write_status(tmp_path, videos)
    shown = propagate("status", tmp_path).stdout.splitlines()
    assert [line.split()[:2] for line in shown[1:-1]] == [["bad", "failed"], ["now", "interrupted"]]
    assert "60 done, 1 running, 1 waiting, 1 failed; as of " in shown[-1]


@pytest.mark.parametrize(
    ("age_s", "told"),
    [(0, " s ago"), (610, " min ago"), (86_410, " h ago")],
)
def test_the_age_of_a_status_is_told_in_a_unit_that_can_be_read(propagate, tmp_path, age_s, told):
    write_status(tmp_path, [VideoStatus("a", "a.mp4", "done", 9, 9, None, 1, None, 9, 1.0)])
    content = json.loads((tmp_path / STATUS).read_text())
    (tmp_path / STATUS).write_text(json.dumps(content | {"time": time.time() - age_s}))
    shown = propagate("status", tmp_path).stdout
    assert re.search(f"1 done; as of [0-9]*{told}; over", shown)


def test_a_folder_without_a_batch_has_no_status(propagate, tmp_path):
    finished = propagate("status", tmp_path)
    assert finished.status == 1
    assert "no batch writes here" in finished.stderr
    file = tmp_path / "file"
    file.touch()
    not_a_batch = "a file, not the folder of a batch"
    for path, what in ((file, not_a_batch), (tmp_path / "x", "no such folder")):
        refused = propagate("status", path)
        assert refused.status == 1
        assert refused.stderr.startswith(f"propagate: error: {path}: {what}")
        assert refused.stderr.count("\n") == 1
    (tmp_path / ".batch.json").write_text('{"format": 9}')
    assert "of another version" in propagate("status", tmp_path).stderr
    (tmp_path / ".batch.json").write_text("{")
    assert "cannot be read" in propagate("status", tmp_path).stderr


@pytest.mark.slow
def test_a_worker_tells_of_life_where_no_frame_comes_out(clips, drawn, tmp_path):
    """Frames that are gone back over come out late, when all of them have been seen."""
    from propagate.batch import events as run_events

    Image.fromarray(drawn.truth[11]).save(tmp_path / "m.png")
    video = BatchVideo(clips / "videos/two.mp4", "two", None, {11: tmp_path / "m.png"})
    events = []
    kept, run_events.REPORT_EVERY_S = run_events.REPORT_EVERY_S, 0.0
    try:
        run_batch([video], tmp_path / "out", SETTINGS, engine=here, on_event=events.append)
    finally:
        run_events.REPORT_EVERY_S = kept
    done = [event["done"] for event in events if event["event"] == "advanced"]
    assert done.count(0) > 12
    assert done[-1] == 24
