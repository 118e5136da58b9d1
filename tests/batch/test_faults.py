"""What goes wrong around a run: a disk that fills up, a folder that turns read-only, clocks."""

import json
import re
import time
from contextlib import contextmanager

import pytest

from propagate.batch.events import Advanced, Failed
from propagate.batch.manifest import BatchVideo
from propagate.batch.schedule import run_batch
from propagate.batch.status import STATUS, VideoStatus, read_status, write_status
from propagate.batch.tasks import BatchSettings
from propagate.config import Config
from propagate.errors import OutputError
from propagate.io.masks.files import read_mask
from propagate.pipeline import Propagator
from propagate.run_options import RunOptions
from tests.batch_runs import HereEngine, assert_same
from tests.small_disk import small_disk

FORMATS = ("png", "rle")
REASONS = {
    "full": r"cannot be written \(no space left on device\); free some space there",
    "read-only": r"cannot be written \(read-only file system\); choose a folder that is not",
}
faults = pytest.mark.parametrize("fault", REASONS)


@pytest.fixture(scope="module")
def color():
    return Propagator("color", device="cpu", config=Config(short_side_px=64))


@pytest.fixture(scope="module")
def whole(color, drawn, tmp_path_factory):
    """What a run without a fault leaves, of each of the two videos."""
    out = tmp_path_factory.mktemp("whole")
    for name in ("one", "two"):
        color.run(drawn.mp4, {0: drawn.truth[0]}, out, name=name, formats=FORMATS, overlay=True)
    return out


def assert_all_whole(folder, at_least):
    masks = sorted((folder / "masks").glob("*.png"))
    assert len(masks) >= at_least
    for mask in masks:
        assert read_mask(mask).ids.shape == (48, 64)
    assert not (folder / "result.json").exists()


@faults
@pytest.mark.slow
def test_a_run_whose_disk_fails_in_the_middle_goes_on_when_it_is_mended(
    color, drawn, whole, tmp_path, fault
):
    with small_disk(tmp_path / "disk", fault) as disk:

        def run(progress=None):
            return color.run(
                drawn.mp4,
                {0: drawn.truth[0]},
                disk.path / "out",
                name="one",
                formats=FORMATS,
                overlay=True,
                save_every_s=0,
                progress=progress,
            )

        def break_at_five(done, _):
            if done == 5:
                disk.break_down()

        with pytest.raises(OutputError, match=REASONS[fault]) as error:
            run(break_at_five)
        assert "\n" not in str(error.value)
        assert_all_whole(disk.path / "out/one", at_least=5)
        with pytest.raises(OutputError):
            run()
        assert_all_whole(disk.path / "out/one", at_least=5)
        disk.mend()
        assert run().resumed_at == (5,)
        for path in sorted((whole / "one").rglob("*")):
            same = disk.path / "out/one" / path.relative_to(whole / "one")
            if path.is_file() and path.name != "result.json":
                assert same.read_bytes() == path.read_bytes(), path.name
        reports = [
            json.loads((f / "one/result.json").read_text()) for f in (whole, disk.path / "out")
        ]
        assert reports[0] | {"timing": None} == reports[1] | {"timing": None}
        assert sorted(p.name for p in (disk.path / "out/one").iterdir()) == sorted(
            p.name for p in (whole / "one").iterdir()
        )


@faults
@pytest.mark.slow
def test_a_disk_that_fails_for_a_while_costs_a_batch_one_video_which_goes_on_later(
    drawn, whole, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr("propagate.batch.events.REPORT_EVERY_S", 0.0)
    videos = [BatchVideo(drawn.mp4, name, drawn.mask) for name in ("one", "two")]
    settings = BatchSettings(
        model="color",
        device="cpu",
        short_side_px=64,
        run=RunOptions(formats=FORMATS, overlay=True, save_every_s=0),
    )
    with small_disk(tmp_path / "disk", fault) as disk:
        broken = []

        def disturb(task, event):
            if isinstance(event, Advanced) and event.done == 5 and not broken:
                broken.append(task.video.folder)
                disk.break_down()
            elif isinstance(event, Failed):
                assert_all_whole(disk.path / "out/one", at_least=5)
                disk.mend()
            return event

        @contextmanager
        def engine(settings, out, jobs):
            yield HereEngine(settings, out, jobs, disturb)

        summary = run_batch(videos, disk.path / "out", settings, retry=0, engine=engine)
        assert {v.folder: v.state for v in summary.videos} == {"one": "failed", "two": "done"}
        (failed,) = summary.failed
        assert failed.reason is not None
        assert "\n" not in failed.reason
        assert re.search(REASONS[fault], f"{failed.reason}; {failed.hint}")
        events = []
        again = run_batch(
            videos, disk.path / "out", settings, retry=0, engine=engine, on_event=events.append
        )
        assert {v.folder: v.state for v in again.videos} == {"one": "done", "two": "skipped"}
        finished = [event for event in events if event["event"] == "finished"]
        assert [event["resumed_at"] for event in finished if event["video"] == "one"] == [(5,)]
        assert_same(disk.path / "out", whole)


# Clocks


@pytest.mark.parametrize(("ahead_s", "age_s"), [(86_400, 0), (-86_400, 86_400)])
def test_a_status_whose_clock_was_set_is_still_read(propagate, tmp_path, ahead_s, age_s):
    write_status(tmp_path, [VideoStatus("a", "a.mp4", "done", 9, 9, None, 1, None, 9, 1.0)])
    content = json.loads((tmp_path / STATUS).read_text())
    content["time"] = time.time() + ahead_s
    (tmp_path / STATUS).write_text(json.dumps(content))
    assert read_status(tmp_path).age_s == pytest.approx(age_s, abs=300)
    assert propagate("status", tmp_path).status == 0
