"""The outline brought to the pixels."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb2lab

from propagate.prompts.colours import Colours, read_colours
from propagate.prompts.prompt import PROMPT_SETTINGS
from propagate.prompts.settings import PromptSettings
from propagate.prompts.sharpen import sharpen


def test_sharpening_moves_the_outline_to_the_edge_of_the_colours():
    lab = np.zeros((40, 40, 3), np.float32)
    lab[:, 21:, 0] = 60
    colours = Colours(np.zeros((40, 40, 3), np.uint8), lab)
    labels = np.zeros((5, 5))
    labels[:, :3], labels[:, 3:] = 1, 0  # cells of eight pixels: the outline is at 24, not at 21
    found = sharpen(labels, colours, PROMPT_SETTINGS) >= 0.5
    assert (found == (np.arange(40) < 21)).all()
    unmoved = sharpen(labels, colours, PromptSettings(sharpen_px=0)) >= 0.5
    assert (unmoved == (np.arange(40) < 24)).all()


def drawn(seed, height, width):
    """A frame of noise, and labels with one region in the middle of the frame."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
    labels = random.uniform(0.1, 0.45, (height // 6, width // 6))
    labels[2:4, 1:4] = random.uniform(0.55, 0.9, (2, 3))
    return image, labels


def loops(full, lab, s):
    """The relaxation, pixel by pixel, swept until nothing moves."""
    height, width = full.shape
    region = full >= 0.5
    edges = [
        (y, x)
        for y in range(height)
        for x in range(width)
        if (y and region[y, x] != region[y - 1, x]) or (x and region[y, x] != region[y, x - 1])
    ]
    near = {
        (y, x)
        for y in range(height)
        for x in range(width)
        if min((y - v) ** 2 + (x - u) ** 2 for v, u in edges) <= s.sharpen_px**2
    }
    step = {}
    for y, x in near:
        for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)):
            if 0 <= v < height and 0 <= u < width:
                step[y, x, v, u] = float(np.square(lab[y, x].astype(float) - lab[v, u]).sum())
    back = [step[y, x, y, x - 1] for y, x in near if x] + [
        step[y, x, y - 1, x] for y, x in near if y
    ]
    scale = sum(back) / len(back)
    now = np.where(region, 1.0, 0.0)
    for y, x in near:
        now[y, x] = full[y, x]
    for _ in range(400):
        for y, x in sorted(near):
            ties, total = s.sharpen_pull * full[y, x], s.sharpen_pull
            for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)):
                if (y, x, v, u) in step:
                    link = np.exp(-s.sharpen_contrast * step[y, x, v, u] / scale) + 1e-4
                    ties, total = ties + link * now[v, u], total + link
            now[y, x] = ties / total
    return now, near


@pytest.mark.parametrize("size", [(30, 36), (24, 42)])
def test_the_outline_is_that_of_a_plain_relaxation(size):
    s = replace(PROMPT_SETTINGS, sharpen_px=2, sharpen_steps=400)
    image, labels = drawn(1, *size)
    unmoved = sharpen(labels, read_colours(image, PROMPT_SETTINGS), replace(s, sharpen_px=0))
    expected, near = loops(unmoved, rgb2lab(image), s)
    found = sharpen(labels, read_colours(image, PROMPT_SETTINGS), s)
    assert len(near) > 50
    for y, x in near:
        assert found[y, x] == pytest.approx(expected[y, x], abs=1e-3)


def test_a_frame_whose_colours_are_sampled_is_sharpened_alike():
    image, labels = drawn(2, 60, 72)
    whole = read_colours(image, PROMPT_SETTINGS)
    sampled = Colours(image, whole.lab[::3, ::3])
    found = sharpen(labels, sampled, PROMPT_SETTINGS)
    assert np.allclose(found, sharpen(labels, whole, PROMPT_SETTINGS), atol=1e-4)
    assert not np.allclose(found, sharpen(labels, whole, PromptSettings(sharpen_px=0)), atol=0.1)


@pytest.mark.parametrize(
    ("size", "lab"),
    [((480, 854), (480, 854)), ((2160, 4096), (2160, 4096)), ((5000, 7000), (1667, 2334))],
)
def test_colours_of_all_pixels_up_to_4k_and_of_some_above(monkeypatch, size, lab):
    monkeypatch.setattr("propagate.prompts.colours.rgb2lab", lambda rgb: rgb)
    image = np.broadcast_to(np.uint8(7), (*size, 3))
    assert read_colours(image, PROMPT_SETTINGS).lab.shape == (*lab, 3)
