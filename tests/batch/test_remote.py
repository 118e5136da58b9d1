"""Results that go to a URL: uploaded when complete, skipped when there, nothing of a half run."""

import json
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from propagate.batch import remote as remote_output
from propagate.batch.manifest import BatchVideo
from propagate.batch.remote import RemoteOutput, is_url, scratch_of
from propagate.batch.schedule import run_batch
from propagate.batch.tasks import BatchSettings
from propagate.config import Config
from propagate.errors import OutputError
from propagate.pipeline import Propagator
from propagate.run_options import RunOptions
from tests.batch_runs import HereEngine, files_of

SETTINGS = BatchSettings(
    model="color",
    device="cpu",
    short_side_px=64,
    run=RunOptions(formats=("png", "rle")),
)


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory, monkeypatch) -> Path:
    """The folder for temporary files, of this test alone."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def video(drawn) -> BatchVideo:
    return BatchVideo(drawn.mp4, "clip", drawn.mask)


class Here(HereEngine):
    """Nobody can want to end a task here: it ends before."""

    def kill(self, worker):
        raise AssertionError("a task here ends before anybody can want that")


@contextmanager
def here(settings, out, jobs):
    yield Here(settings, out, jobs)


def run(video, url, **options):
    (status,) = run_batch([video], url, SETTINGS, engine=here, retry=0, **options).videos
    return status


def test_a_url_is_told_from_a_folder():
    assert is_url("s3://bucket/folder")
    assert not is_url("out/s3")
    assert not is_url(Path("s3://bucket"))
    assert scratch_of("out") == Path("out")
    assert scratch_of("s3://bucket/a/") == scratch_of("s3://bucket/a") != scratch_of("s3://bucket")


def test_the_files_at_a_url_are_those_of_a_run_into_a_folder(video, drawn, tmp_path, scratch):
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    mask = np.array(Image.open(drawn.mask))
    propagator.run(str(drawn.mp4), {0: mask}, tmp_path / "folder", formats=("png", "rle"))
    status = run(video, f"file://{tmp_path}/url")
    assert (status.state, status.frames) == ("done", 12)
    assert files_of(tmp_path / "url/clip") == files_of(tmp_path / "folder/clip")
    (line,) = (tmp_path / "url/summary.jsonl").read_text().splitlines()
    assert json.loads(line)["status"] == "done"
    assert sorted(path.name for path in (tmp_path / "url").iterdir()) == ["clip", "summary.jsonl"]
    left = [path.name for path in scratch.rglob("*") if path.is_file()]
    assert sorted(left) == [".batch.json", "summary.jsonl"], "for propagate status"


def test_a_video_that_is_there_with_the_same_settings_is_skipped(video, tmp_path, scratch):
    url = f"file://{tmp_path}/url"
    run(video, url)
    before = files_of(tmp_path / "url/clip")
    written = (tmp_path / "url/clip/result.json").stat().st_mtime_ns
    again = run(video, url)
    assert (again.state, again.frames) == ("skipped", 12)
    assert (tmp_path / "url/clip/result.json").stat().st_mtime_ns == written
    other = BatchVideo(video.video, "clip", video.mask, options={"max_frames": 5})
    refused = run(other, url)
    assert refused.state == "failed"
    assert f"{url}/clip: a finished run is in this folder" in str(refused.reason)
    assert files_of(tmp_path / "url/clip") == before
    replaced = run(other, url, overwrite=True)
    assert replaced.state == "done"
    masks = sorted(path.name for path in (tmp_path / "url/clip/masks").iterdir())
    assert masks == [f"{index:05}.png" for index in range(5)], "none of the longer run is left"


def test_the_report_goes_last_and_half_a_run_is_done_again(video, tmp_path, monkeypatch):
    """The upload breaks off after so many files; nothing counts as finished until the last."""
    url = f"file://{tmp_path}/url"
    monkeypatch.setattr(remote_output, "UPLOADED_AT_ONCE", 5)
    store = type(fsspec.filesystem("file"))
    put, parts = store.put, []

    def breaking(self, sources, targets, **options):
        parts.append([Path(source).name for source in sources])
        if len(parts) == 2:
            raise ConnectionResetError("the network is gone")
        return put(self, sources, targets, **options)

    monkeypatch.setattr(store, "put", breaking)
    status = run(video, url)
    assert status.state == "failed"
    assert "cannot be reached or written (ConnectionResetError: the network is gone)" in str(
        status.reason
    )
    assert len(list((tmp_path / "url/clip").rglob("*.*"))) == 5
    assert not (tmp_path / "url/clip/result.json").exists()
    again = run(video, url)
    assert (again.state, again.frames) == ("done", 12)
    assert parts[-1] == ["result.json"]
    assert len(files_of(tmp_path / "url/clip")) == 15


def test_half_a_report_is_none(video, tmp_path):
    """Where files do not appear at once."""
    url = f"file://{tmp_path}/url"
    run(video, url)
    report = tmp_path / "url/clip/result.json"
    whole = files_of(tmp_path / "url/clip")
    report.write_bytes(report.read_bytes()[:-10])
    assert run(video, url).state == "done"
    assert files_of(tmp_path / "url/clip") == whole


def test_the_frames_before_a_failure_go_up_too(drawn, tmp_path):
    """A video that breaks off: what there is, marked as incomplete, as in a folder."""
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(drawn.mp4.read_bytes()[:-1500])
    video = BatchVideo(cut, "cut", drawn.mask)
    status = run(video, f"file://{tmp_path}/url")
    assert status.state == "failed"
    names = files_of(tmp_path / "url/cut")
    assert "incomplete.json" in names
    assert "result.json" not in names
    assert any(name.startswith("masks/") for name in names)
    assert not any(name.startswith(".") for name in names)


def test_any_store_of_fsspec_will_do(video):
    """One without folders and renames."""
    store = fsspec.filesystem("memory")
    try:
        assert run(video, "memory://bucket/run").state == "done"
        assert len(store.find("/bucket/run/clip/masks")) == 12
        assert json.loads(store.cat("/bucket/run/clip/result.json"))["complete"] is True
        assert run(video, "memory://bucket/run").state == "skipped"
        assert store.exists("/bucket/run/summary.jsonl")
    finally:
        store.rm("/bucket", recursive=True)


def test_a_url_that_leads_nowhere_is_one_line_before_any_work(video, tmp_path):
    with pytest.raises(
        OutputError, match=r"cannot be written to .*nowhere.*give a folder, or"
    ) as error:
        run_batch([video], "nowhere://bucket", SETTINGS, engine=here)
    assert "\n" not in str(error.value)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/x/summary.jsonl: cannot be"):
        RemoteOutput(f"file://{tmp_path}/file/x").write("summary.jsonl", b"")
