"""The graph of cells against literal loops, and which cells are seeds."""

import numpy as np
import torch
import torch.nn.functional as F

from propagate.prompts.grid import make_grid
from propagate.prompts.paint import Paint
from propagate.prompts.seeds import covered, seeds_of


def drawn_grid(reach=2):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 6, 7, generator=generator)
    features[4] = 3.0  # a channel that says nothing
    lab = np.random.default_rng(0).uniform(0, 100, (24, 28, 3)).astype(np.float32)
    return features, lab, make_grid(features, lab, reach)


def test_cells_are_standardized_and_of_length_one():
    features, _, grid = drawn_grid()
    flat = features[:4].flatten(1).double()
    scaled = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True, correction=0)
    expected = F.normalize(scaled.T, dim=1).numpy()
    np.testing.assert_allclose(grid.cells[:, :4], expected, atol=1e-5)
    assert (grid.cells[:, 4] == 0).all()


def test_colors_are_means_of_the_pixels_of_a_cell():
    _, lab, grid = drawn_grid()
    expected = lab.reshape(6, 4, 7, 4, 3).mean((1, 3)).reshape(-1, 3)
    np.testing.assert_allclose(grid.colors, expected, rtol=1e-4)


def test_each_pair_of_neighbours_is_there_once():
    _, _, grid = drawn_grid()
    found = {
        frozenset((int(a), int(b)))
        for a, b in zip(grid.neighbours.first, grid.neighbours.second, strict=True)
    }
    expected = {
        frozenset((7 * y + x, 7 * (y + dy) + x + dx))
        for y in range(6)
        for x in range(7)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy or dx) and 0 <= y + dy < 6 and 0 <= x + dx < 7
    }
    assert found == expected
    assert len(grid.neighbours.first) == len(expected)


def test_pairs_know_how_far_and_how_alike_they_are():
    _, _, grid = drawn_grid(reach=3)
    near = [
        float(np.square(grid.colors[a] - grid.colors[b]).sum())
        for a, b in zip(grid.neighbours.first, grid.neighbours.second, strict=True)
    ]
    for pairs in (grid.neighbours, grid.across):
        for k in range(len(pairs.first)):
            a, b = int(pairs.first[k]), int(pairs.second[k])
            apart = np.hypot(a // 7 - b // 7, a % 7 - b % 7)
            np.testing.assert_allclose(pairs.length[k], apart)
            np.testing.assert_allclose(pairs.cosines[k], grid.cells[a] @ grid.cells[b], atol=1e-6)
            distance = np.square(grid.colors[a] - grid.colors[b]).sum() / np.mean(near)
            np.testing.assert_allclose(pairs.colors[k], distance, rtol=1e-4)
    assert set(np.round(grid.across.length, 3)) == {3.0, 2.828}


def paint(on=(), off=(), box=None):
    pixels = np.zeros((3, 8, 8), bool)
    for y, x in on:
        pixels[0, y, x] = True
    for y, x in off:
        pixels[1, y, x] = True
    boxes = None
    if box:
        boxes = pixels[2]
        boxes[box] = True
    return Paint(1, pixels[0], pixels[1], boxes, True)


def test_a_cell_is_a_seed_of_what_covers_more_of_it():
    others = np.zeros((8, 8), bool)
    others[7, 7] = True
    given = paint(on=[(0, 0), (4, 0)], off=[(0, 1), (4, 1), (5, 1), (0, 7)])
    seeds = seeds_of(given, others, (2, 2)).reshape(2, 2)
    assert seeds.tolist() == [[1, 0], [0, 0]]


def test_cells_that_a_box_leaves_out_are_background():
    given = paint(box=(slice(0, 8), slice(0, 5)))
    seeds = seeds_of(given, np.zeros((8, 8), bool), (4, 4)).reshape(4, 4)
    assert (seeds[:, :3] == -1).all()
    assert (seeds[:, 3] == 0).all()


def test_covered_is_the_share_of_a_cell():
    pixels = np.random.default_rng(2).random((12, 20)) < 0.3
    expected = pixels.reshape(3, 4, 5, 4).mean((1, 3))
    np.testing.assert_allclose(covered(pixels, (3, 5)), expected)
