"""The walker against a dense solve, a simulation of the walk, and scikit-image."""

import numpy as np
import pytest
from skimage.segmentation import random_walker

from propagate.prompts.walker import FREE, solve_walker


def chain_and_cross_links(count, random):
    pairs = [(i, i + 1) for i in range(count - 1)]
    pairs += [tuple(sorted(random.choice(count, 2, replace=False))) for _ in range(count)]
    pairs = sorted(set(pairs))
    first, second = np.array(pairs).T
    return first, second, random.uniform(0.1, 2, len(pairs))


def dense(first, second, links, to_object, to_background, seeds):
    """Every label is the mean of what its cell is linked to: one equation for each cell."""
    count = len(seeds)
    matrix, right = np.zeros((count, count)), np.zeros(count)
    for cell in range(count):
        if seeds[cell] != FREE:
            matrix[cell, cell], right[cell] = 1, seeds[cell]
            continue
        matrix[cell, cell] = to_object[cell] + to_background[cell]
        right[cell] = to_object[cell]
        for a, b, link in zip(first, second, links, strict=True):
            if cell in (a, b):
                matrix[cell, cell] += link
                matrix[cell, b if cell == a else a] -= link
    return np.linalg.solve(matrix, right)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_those_of_a_dense_solve(seed):
    random = np.random.default_rng(seed)
    first, second, links = chain_and_cross_links(30, random)
    ties = random.uniform(0, 0.2, (2, 30)) * (random.random((2, 30)) < 0.5)
    seeds = random.choice([FREE, FREE, FREE, 0, 1], 30)
    seeds[:2] = 0, 1
    found = solve_walker(first, second, links, ties[0], ties[1], seeds)
    expected = dense(first, second, links, ties[0], ties[1], seeds)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_chain_falls_evenly_from_one_seed_to_the_other():
    first = np.arange(4)
    nothing = np.zeros(5)
    seeds = np.array([1, FREE, FREE, FREE, 0])
    found = solve_walker(first, first + 1, np.ones(4), nothing, nothing, seeds)
    np.testing.assert_allclose(found, [1, 0.75, 0.5, 0.25, 0])


def test_a_tie_alone_decides_where_no_link_leads():
    found = solve_walker(
        np.array([0]), np.array([1]), np.array([1e-12]), np.array([3.0, 0]), np.array([1.0, 1]),
        np.array([FREE, FREE]),
    )  # fmt: skip
    np.testing.assert_allclose(found, [0.75, 0], atol=1e-9)


def test_seeds_alone_need_no_walk():
    nothing = np.zeros(2)
    found = solve_walker(
        np.array([0]), np.array([1]), np.ones(1), nothing, nothing, np.array([1, 0])
    )
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_labels_on_a_picture_of_grey_are_those_of_scikit_image(seed):
    random = np.random.default_rng(seed)
    image = np.kron(random.random((4, 5)), np.ones((4, 4))) + random.normal(0, 0.05, (16, 20))
    marks = np.zeros((16, 20), int)
    marks[3, 4], marks[12, 15], marks[2, 18] = 1, 2, 2
    beta, eps = 130, 1e-10
    theirs = random_walker(image, marks, beta=beta, mode="bf", return_full_prob=True)[0]
    # Its formula: exp(-beta g^2) + 1e-10, with beta divided by 10 times the image's deviation.
    cells = np.arange(image.size).reshape(image.shape)
    first = np.concatenate([cells[:, :-1].ravel(), cells[:-1].ravel()])
    second = np.concatenate([cells[:, 1:].ravel(), cells[1:].ravel()])
    steps = np.square(image.ravel()[first] - image.ravel()[second])
    links = np.exp(-beta / (10 * image.std()) * steps) + eps
    seeds = np.full(image.size, FREE)
    seeds[marks.ravel() == 1], seeds[marks.ravel() == 2] = 1, 0
    nothing = np.zeros(image.size)
    ours = solve_walker(first, second, links, nothing, nothing, seeds)
    np.testing.assert_allclose(ours.reshape(image.shape), theirs, atol=1e-6)
