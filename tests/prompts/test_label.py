"""The label of an object on a grid whose regions are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from propagate.prompts.grid import make_grid
from propagate.prompts.label import affinities, label_object
from propagate.prompts.prompt import PROMPT_SETTINGS
from propagate.prompts.walker import FREE

SHAPE = 24, 30
REGION = np.zeros(SHAPE, bool)
REGION[6:16, 8:20] = True
ALONE = np.zeros(SHAPE, bool)
ALONE[19:23, 24:29] = True  # looks the same, and is not connected


@pytest.fixture(scope="module")
def grid():
    """A region of other features and of the same colours, twice on one ground."""
    generator = torch.Generator().manual_seed(1)
    ground, object_ = torch.randn(2, 16, generator=generator)
    inside = torch.from_numpy(REGION | ALONE)
    features = torch.where(inside, object_[:, None, None], ground[:, None, None])
    features = features + 0.25 * torch.randn(16, *SHAPE, generator=generator)
    lab = np.random.default_rng(1).normal(50, 0.5, (8 * SHAPE[0], 8 * SHAPE[1], 3))
    return make_grid(features, lab.astype(np.float32), PROMPT_SETTINGS.reach_cells)


def seeded(*places):
    seeds = np.full(SHAPE, FREE)
    for y, x, value in places:
        seeds[y, x] = value
    return seeds.ravel()


def iou(label, region):
    found = (label >= 0.5).reshape(SHAPE)
    return (found & region).sum() / (found | region).sum()


def test_a_single_click_finds_the_region_around_it(grid):
    label = label_object(grid, seeded((11, 14, 1)), None, False, PROMPT_SETTINGS)
    assert iou(label, REGION) > 0.85


def test_at_the_label_of_a_half_a_single_click_finds_next_to_nothing(grid):
    plain = replace(PROMPT_SETTINGS, choices=0, color_contrast=0.0, leak=0.05)
    label = label_object(grid, seeded((11, 14, 1)), None, False, plain)
    assert iou(label, REGION) < 0.5
    chosen = label_object(grid, seeded((11, 14, 1)), None, False, replace(plain, choices=36))
    assert iou(chosen, REGION) > 0.9


def test_seeds_keep_their_labels(grid):
    seeds = seeded((11, 14, 1), (11, 12, 0), (2, 2, 1))
    label = label_object(grid, seeds, None, True, PROMPT_SETTINGS)
    known = seeds != FREE
    assert label[known].tolist() == seeds[known].tolist()
    assert ((label >= 0) & (label <= 1)).all()


@pytest.mark.parametrize("rounds", [1, 3])
def test_in_a_box_the_region_is_found_and_nothing_outside(grid, rounds):
    box = np.zeros(SHAPE, bool)
    box[4:18, 6:22] = True
    seeds = np.where(box.ravel(), FREE, 0)
    settings = replace(PROMPT_SETTINGS, box_rounds=rounds)
    label = label_object(grid, seeds, box.ravel(), False, settings)
    assert iou(label, REGION) > 0.85
    assert (label[~box.ravel()] < 0.5).all()


def boxed(*boxes):
    """Cells in boxes of top, bottom, left and right, and seeds: outside there is nothing."""
    cells = np.zeros(SHAPE, bool)
    for top, bottom, left, right in boxes:
        cells[top:bottom, left:right] = True
    return np.where(cells, FREE, 0).ravel(), cells.ravel()


@pytest.mark.parametrize(
    "boxes",
    [
        [(5, 17, 6, 21), (18, 24, 23, 30)],
        [(2, 18, 4, 23), (18, 24, 23, 30)],  # they meet at a corner
    ],
)
def test_in_two_boxes_apart_the_region_of_each_is_found(grid, boxes):
    label = label_object(grid, *boxed(*boxes), False, PROMPT_SETTINGS)
    alone = [label_object(grid, *boxed(box), False, PROMPT_SETTINGS) for box in boxes]
    assert iou(label, REGION | ALONE) > 0.8
    # Cells around one box that the other holds do not count as around, so a few may differ.
    assert ((label >= 0.5) == (np.max(alone, 0) >= 0.5)).mean() > 0.95


def test_boxes_that_overlap_are_one(grid):
    whole = label_object(grid, *boxed((5, 17, 6, 21)), False, PROMPT_SETTINGS)
    halves = label_object(grid, *boxed((5, 17, 6, 15), (5, 17, 12, 21)), False, PROMPT_SETTINGS)
    assert np.array_equal(whole, halves)


def test_links_fall_with_features_and_colours(grid):
    s = PROMPT_SETTINGS
    near = grid.neighbours
    for k in range(0, len(near.first), 97):
        a, b = near.first[k], near.second[k]
        unlike = s.feature_contrast * (1 - float(grid.cells[a] @ grid.cells[b]))
        colors = np.square(grid.colors[near.first] - grid.colors[near.second]).sum(1)
        unlike += s.color_contrast * colors[k] / colors.mean()
        expected = np.exp(-unlike) / near.length[k] + s.smallest_affinity
        np.testing.assert_allclose(affinities(grid, s)[k], expected, rtol=1e-4)
