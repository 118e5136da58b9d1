import importlib.util
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from PIL import Image

from propagate.io.masks.files import read_mask
from tests.paths import ROOT

SAMPLES = ROOT / "samples"
CLIP = SAMPLES / "clip"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_clip", SAMPLES / "make_clip.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_truth(folder: Path) -> list[np.ndarray]:
    truth = []
    for path in sorted((folder / "truth").glob("*.png")):
        with Image.open(path) as image:
            truth.append(np.array(image))
    return truth


def read_frames(folder: Path) -> list[np.ndarray]:
    with av.open(str(folder / "clip.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def truth() -> list[np.ndarray]:
    return read_truth(CLIP)


@pytest.mark.slow
def test_the_script_makes_the_clip_again(tmp_path, truth):
    load_script().make_clip(tmp_path)
    remade = read_truth(tmp_path)
    assert len(remade) == len(truth)
    for ids, expected in zip(remade, truth, strict=True):
        assert np.array_equal(ids, expected)
    assert np.array_equal(read_mask(tmp_path / "first.png").ids, truth[0])
    # Other builds of x264 and Pillow may round otherwise, but not by much.
    for frame, expected in zip(read_frames(tmp_path), read_frames(CLIP), strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 2


def test_video_and_truth_have_the_same_frames(truth):
    frames = read_frames(CLIP)
    assert len(frames) == len(truth)
    for frame, ids in zip(frames, truth, strict=True):
        assert frame.shape == (*ids.shape, 3)


def test_the_first_mask_is_the_truth_of_the_first_frame(truth):
    first = read_mask(CLIP / "first.png")
    assert np.array_equal(first.ids, truth[0])
    assert first.object_ids == (1, 2, 3)


def test_the_masks_lie_on_the_cups(truth):
    """Red cups, grey-brown gravel: the truth separates them by colour in every frame."""
    for frame, ids in zip(read_frames(CLIP), truth, strict=True):
        redness = frame[..., 0].astype(float) - frame[..., 2]
        assert redness[ids > 0].mean() > redness[ids == 0].mean() + 20
        for object_id in np.unique(ids[ids > 0]):
            assert redness[ids == object_id].mean() > redness[ids == 0].mean() + 20


def test_one_cup_is_hidden_mostly_and_one_leaves_and_comes_back(truth):
    areas = np.array([np.bincount(ids.ravel(), minlength=4)[1:4] for ids in truth])  # (T, 3)
    assert areas[:, 1].min() < 0.4 * areas[0, 1]
    assert areas[-1, 1] > 0.9 * areas[0, 1]
    gone = np.flatnonzero(areas[:, 2] == 0)
    assert len(gone) > 10
    assert areas[: gone[0], 2].all()
    assert areas[gone[-1] + 1 :, 2].all()


def test_the_cups_look_alike(truth):
    frame, ids = read_frames(CLIP)[0].astype(float), truth[0]
    colours = np.array([frame[ids == object_id].mean(axis=0) for object_id in (1, 2, 3)])
    between = np.abs(colours[:, None] - colours[None]).max()
    to_ground = np.abs(colours - frame[ids == 0].mean(axis=0)).max()
    assert between < to_ground / 2


def test_the_sample_stays_small():
    size = sum(path.stat().st_size for path in CLIP.rglob("*") if path.is_file())
    assert size < 600_000
