"""Tags on small pictures: each near its object, and on none."""

import numpy as np
import pytest

from propagate.io.masks.display_colours import DisplayColours
from propagate.report.tags import draw_tags, place
from propagate.report.thumbnails import draw_small

COLOURS = {1: (200, 40, 40), 2: (40, 200, 40), 3: (40, 40, 200)}
LABELS = {1: "1", 2: "2", 3: "3 dog"}


def squares(*places, size=(90, 160)):
    """Objects 1, 2, ... at rows, columns and sides."""
    ids = np.zeros(size, np.uint8)
    for i, (y, x, side) in enumerate(places, 1):
        ids[y : y + side, x : x + side] = i
    return ids


@pytest.mark.parametrize(
    "places",
    [
        [(30, 20, 40), (40, 90, 6)],
        [(30, 20, 40), (45, 62, 8)],  # close together
        [(0, 0, 30), (0, 150, 8), (82, 70, 8)],  # at the border
        [(40, 70, 8), (40, 80, 8), (50, 75, 8)],  # a crowd
    ],
)
def test_a_tag_is_beside_its_object_and_hides_none(places):
    ids = squares(*places)
    image = np.full((*ids.shape, 3), 90, np.uint8)
    draw_tags(image, ids, LABELS, COLOURS)
    assert (image[ids > 0] == 90).all()
    for i, (y, x, side) in enumerate(places, 1):
        tag = np.argwhere((image == COLOURS[i]).all(2))
        gaps = np.maximum(0, np.maximum([y, x] - tag, tag - [y + side, x + side]))
        assert np.hypot(*gaps.T).min() < 26  # twice the height of a tag
    # No tag hides another: the edge of each is whole.
    alone = []
    for i in range(1, len(places) + 1):
        one = np.full_like(image, 90)
        draw_tags(one, np.where(ids == i, ids, 0), LABELS, COLOURS)
        alone.append((one != 90).any(2).sum())
    assert (image != 90).any(2).sum() == sum(alone)


def test_an_object_that_fills_the_picture_bears_its_tag():
    ids = np.ones((60, 80), np.uint8)
    ids[:10, :10] = 2
    image = np.full((60, 80, 3), 90, np.uint8)
    draw_tags(image, ids, LABELS, COLOURS)
    assert (image == COLOURS[1]).all(2).any()
    assert (image[:10, :10] == 90).all()


def test_the_place_is_the_best_of_all():
    rng = np.random.default_rng(0)
    own = np.zeros((24, 30), bool)
    own[9:15, 11:16] = True
    cost = rng.uniform(0, 0.1, own.shape)
    top, left = place(own, cost, (5, 8))

    def value(t, x):
        down = max(0, 9 - (t + 5), t - 15)
        across = max(0, 11 - (x + 8), x - 16)
        hidden = cost[t : t + 5, x : x + 8].sum()
        return hidden + (down**2 + across**2) ** 0.5 / 5 + 0.1 * abs(x + 4 - 13) / 30

    least = min(value(t, x) for t in range(0, 20, 2) for x in range(0, 23, 2))
    assert value(top, left) == pytest.approx(least)


def test_a_picture_smaller_than_a_tag_is_drawn():
    ids = np.array([[1, 2, 0]], np.uint8)
    drawn = draw_small(np.full((1, 3, 3), 90, np.uint8), ids, DisplayColours(), LABELS)
    assert drawn is not None
    assert drawn.shape == (1, 3, 3)
