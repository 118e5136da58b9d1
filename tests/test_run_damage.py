"""Runs over damaged files: masks keep their names, and the report lists what was lost."""

import json

import pytest

from propagate.config import Config
from propagate.errors import MaskError, VideoError
from propagate.io.decode.options import SourceOptions
from propagate.io.masks.files import read_mask
from propagate.pipeline import Propagator
from propagate.run_options import RunOptions

SKIP = SourceOptions(on_damage="skip")


@pytest.fixture
def damaged(drawn, tmp_path):
    data = bytearray(drawn.mp4.read_bytes())
    start = data.index(b"mdat") + 4
    at = start + (len(data) - start) * 55 // 100
    data[at : at + 300] = bytes(300)
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def small():
    return Propagator("color", device="cpu", config=Config(short_side_px=64))


@pytest.mark.slow
def test_a_run_skips_lost_frames_and_lists_them(propagate, drawn, damaged, tmp_path):
    done = propagate(
        *("run", damaged, "-m", drawn.mask, "-o", tmp_path / "out", "--model", "color"),
        *("--on-damage", "skip"),
    )
    assert done.status == 0, done.stderr
    report = json.loads((tmp_path / "out/clip/result.json").read_text())
    lost = {
        index
        for item in report["damage"]
        if item["kind"] == "lost"
        for index in range(item["first"], item["last"] + 1)
    }
    assert lost
    assert report["on_damage"] == "skip"
    names = sorted(path.stem for path in (tmp_path / "out/clip/masks").iterdir())
    assert names == [f"{i:05d}" for i in range(len(drawn.images)) if i not in lost]
    for frame in report["per_frame"]:
        assert frame["time_s"] == pytest.approx(int(frame["name"]) / 25)
    count = f"{len(lost)} frame{'s' if len(lost) > 1 else ''} lost ("
    assert any(count in line for line in done.stderr.splitlines())


@pytest.mark.slow
def test_a_reference_after_the_damage_is_met_on_its_frame(small, drawn, damaged, tmp_path):
    last = len(drawn.images) - 1
    masks = {0: read_mask(drawn.mask), last: drawn.truth[last]}
    options = RunOptions(source_options=SKIP)
    results = list(small.propagate(damaged, masks, source_options=SKIP))
    assert results[-1].index == last
    assert (results[-1].mask == drawn.truth[last]).all()
    summary = small.run(damaged, masks, tmp_path / "out", options)
    assert any("lost (" in note for note in summary.notes)
    again = small.run(damaged, masks, tmp_path / "out", options, keep_finished=True)
    assert again.notes == summary.notes


def test_a_reference_on_a_lost_frame_is_refused(small, drawn, damaged):
    indices = [r.index for r in small.propagate(damaged, {0: drawn.truth[0]}, source_options=SKIP)]
    gone = next(i for i in range(len(drawn.images)) if i not in indices)
    with pytest.raises(MaskError, match=f"frame {gone} has a reference, but is not read"):
        list(small.propagate(damaged, {gone: drawn.truth[gone]}, source_options=SKIP))


def test_an_unfinished_run_goes_on_after_the_damage(small, drawn, damaged, tmp_path):
    options = RunOptions(source_options=SKIP, save_every_s=0)
    small.run(damaged, {0: drawn.truth[0]}, tmp_path / "at_once", options)

    def stop(done, total):
        if done == 8:
            raise VideoError("interrupted")

    with pytest.raises(VideoError):
        small.run(damaged, {0: drawn.truth[0]}, tmp_path / "twice", options, progress=stop)
    summary = small.run(damaged, {0: drawn.truth[0]}, tmp_path / "twice", options)
    assert summary.resumed_at
    for path in (tmp_path / "at_once/clip/masks").iterdir():
        assert path.read_bytes() == (tmp_path / "twice/clip/masks" / path.name).read_bytes()
    assert any("lost (" in note for note in summary.notes)
