"""The colours and names of a run: chosen, written down, given by a person, kept after a stop."""

import json

import av
import numpy as np
import pytest

from propagate.config import Config
from propagate.errors import OutputError
from propagate.io.masks.display_colours import from_hex
from propagate.io.masks.palette import palette
from propagate.pipeline import Propagator
from propagate.records import Mask
from tests.test_saved_state import interrupted, run


@pytest.fixture(scope="module")
def small():
    return Propagator("color", device="cpu", config=Config(short_side_px=64))


def report_of(folder):
    return json.loads((folder / "result.json").read_text())


def last_frame(folder):
    with av.open(str(folder / "overlay.mp4")) as container:
        return list(container.decode(video=0))[-1].to_ndarray(format="rgb24").astype(int)


def give(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )


@pytest.mark.slow
def test_the_report_holds_the_colours_of_the_overlay(small, drawn, tmp_path):
    run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, overlay=True, labels=False)
    objects = report_of(tmp_path / "clip")["objects"]
    assert set(objects) == {"1", "2"}
    seen, truth = last_frame(tmp_path / "clip"), drawn.truth[-1]
    for i in (1, 2):
        inside = np.zeros_like(truth, bool)
        y, x = (int(v.mean()) for v in np.nonzero(truth == i))
        inside[y - 4 : y + 4, x - 4 : x + 4] = True
        half = (
            np.array(from_hex(objects[str(i)]["colour"])) + drawn.images[-1][inside].mean(0)
        ) / 2
        assert np.abs(seen[inside].mean(axis=0) - half).max() < 25
    masks = (tmp_path / "clip/masks/00000.png").read_bytes()
    assert palette()[:3].tobytes() in masks  # mask files keep the colours of DAVIS


@pytest.mark.slow
def test_what_a_person_gives_is_used_and_the_file_stays(small, drawn, tmp_path):
    given = {"objects": {"1": {"name": "box", "colour": "#0a0b0c"}}}
    give(tmp_path / "clip", given)
    run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path, overlay=True)
    objects = report_of(tmp_path / "clip")["objects"]
    assert objects["1"] == given["objects"]["1"]
    assert set(objects["2"]) == {"colour"}
    assert json.loads((tmp_path / "clip/project.json").read_text()) == given


def test_a_broken_file_stops_the_run_before_it_writes(small, drawn, tmp_path):
    give(tmp_path / "clip", "{")
    with pytest.raises(OutputError, match=r"project.json: cannot be used"):
        run(small, drawn.mp4, {0: drawn.truth[0]}, tmp_path)
    assert [path.name for path in (tmp_path / "clip").iterdir()] == ["project.json"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"overlay": True}, {}, {"formats": ("rle",)}])
def test_a_resumed_run_has_the_colours_of_a_whole_one(small, drawn, tmp_path, options):
    """Object 2 comes with frame 6; the run stops after frame 8."""
    first = np.where(drawn.truth[0] == 1, 1, 0).astype(np.uint8)
    masks = {0: first, 6: drawn.truth[6]}
    options = {**options, "backwards": "none"}
    whole = run(small, drawn.mp4, masks, tmp_path / "whole", **options)
    interrupted(small, drawn.mp4, masks, tmp_path, 8, **options)
    again = run(small, drawn.mp4, masks, tmp_path, **options)
    assert again.resumed_at == (8,)
    assert report_of(again.folder)["objects"] == report_of(whole.folder)["objects"]
    if "overlay" in options:
        files = [(s.folder / "overlay.mp4").read_bytes() for s in (again, whole)]
        assert files[0] == files[1]


@pytest.mark.slow
def test_labels_can_be_left_out(small, drawn, tmp_path):
    seen = {}
    for labels in (True, False):
        run(
            small,
            drawn.mp4,
            {0: drawn.truth[0]},
            tmp_path / str(labels),
            **{
                "overlay": True,
                "labels": labels,
                "max_frames": 2,
            },
        )
        seen[labels] = last_frame(tmp_path / str(labels) / "clip")
    changed = (np.abs(seen[True] - seen[False]) > 60).any(axis=2)
    assert 20 < changed.sum() < 0.2 * changed.size  # two small labels, and nothing else


@pytest.mark.slow
def test_names_that_come_with_a_mask_are_written_down(small, drawn, tmp_path):
    mask = Mask(drawn.truth[0], names={2: "box"})
    folder = run(small, drawn.mp4, {0: mask}, tmp_path, max_frames=2).folder
    objects = report_of(folder)["objects"]
    assert objects["2"]["name"] == "box"
    assert "name" not in objects["1"]
