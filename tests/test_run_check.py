"""What is refused before a model is loaded."""

import json

import numpy as np
import pytest
from PIL import Image

from propagate.config import Config
from propagate.errors import MaskError, OutputError, VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.options import SourceOptions
from propagate.run_check import check_before_loading
from propagate.run_options import RunOptions


def check(source, references, out, **options):
    check_before_loading(
        source, references, out, RunOptions(**options), model="color", config=Config()
    )


def test_a_run_that_can_be_done_passes(drawn, tmp_path):
    for source in (drawn.mp4, drawn.folder):
        check(source, {0: drawn.truth[0], 11: drawn.truth[11]}, tmp_path)
        wanted = SourceOptions(frame_range=FrameRange(start=3))
        check(source, {0: drawn.truth[0]}, tmp_path, source_options=wanted)
    check("rtsp://host/stream", {0: drawn.truth[0]}, tmp_path)  # is not opened


def test_what_cannot_be_done_is_refused(drawn, tmp_path):
    mask = drawn.truth[0]
    with pytest.raises(VideoError, match="no such file"):
        check(tmp_path / "no.mp4", {0: mask}, tmp_path)
    with pytest.raises(MaskError, match="the mask is 32x24"):
        check(drawn.mp4, {0: np.ascontiguousarray(mask[::2, ::2])}, tmp_path)
    with pytest.raises(MaskError, match="past the end: there are 12 frames"):
        check(drawn.folder, {12: mask}, tmp_path)
    with pytest.raises(MaskError, match="past the end: there are 12 frames"):
        check(drawn.mp4, {0: mask, 12: mask}, tmp_path)
    with pytest.raises(MaskError, match="reading stops after 3"):
        check(drawn.mp4, {5: mask}, tmp_path, max_frames=3)


def test_a_finished_run_of_other_settings_is_refused(propagate, drawn, tmp_path):
    command = ("run", drawn.mp4, "-m", drawn.mask, "--model", "color", "-o", tmp_path)
    assert propagate(*command, "--max-frames", 2).status == 0
    with pytest.raises(OutputError, match=r"max_frames was 2, is None"):
        check(str(drawn.mp4), {0: drawn.truth[0]}, tmp_path)
    check(str(drawn.mp4), {0: drawn.truth[0]}, tmp_path, overwrite=True)
    report = json.loads((tmp_path / "clip/result.json").read_text())
    assert report["max_frames"] == 2


def test_a_finished_run_of_a_part_is_not_one_of_the_whole(propagate, drawn, tmp_path):
    command = ("run", drawn.mp4, "-m", drawn.mask, "--model", "color", "-o", tmp_path)
    command = (*command, "--short-side", 64)
    part = ("--start", 2, "--on-damage", "skip")
    assert propagate(*command, *part).status == 0
    assert "left as it is" in propagate(*command, *part).stdout
    for other in ((), ("--start", 2), ("--on-damage", "skip")):
        refused = propagate(*command, *other)
        assert refused.status == 1
        assert "a finished run is in this folder with other settings" in refused.stderr


@pytest.mark.parametrize("what", ["source", "size", "finished"])
def test_the_command_does_not_load_the_model_first(propagate, drawn, tmp_path, what):
    """A model folder that is incomplete would be the error otherwise."""
    empty = tmp_path / "model"
    empty.mkdir()
    mask, source = drawn.mask, drawn.mp4
    if what == "source":
        source = tmp_path / "no.mp4"
    elif what == "size":
        mask = tmp_path / "small.png"
        Image.fromarray(drawn.truth[0][::2, ::2]).save(mask)
    else:
        color = ("run", source, "-m", mask, "--model", "color", "-o", tmp_path)
        assert propagate(*color, "--max-frames", 2).status == 0
    finished = propagate("run", source, "-m", mask, "--model", empty, "-o", tmp_path)
    assert finished.status == 1
    expected = {"source": "no such file", "size": "the mask is", "finished": "a finished run"}
    assert expected[what] in finished.stderr
    assert finished.stderr.count("\n") == 1
