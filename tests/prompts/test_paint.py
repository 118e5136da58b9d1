"""Painted pixels against literal loops over the pixels."""

import math
from itertools import pairwise

import numpy as np
import pytest

from propagate.errors import MaskError
from propagate.prompts.paint import fill_polygon, paint_prompts, pixels_of
from propagate.prompts.records import Box, Point, Polygon, Stroke


def inside(points, x, y):
    """Whether a point is inside a polygon: its ray to the right crosses an odd number of edges."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x:
            crossings += 1
    return crossings % 2 == 1


def filled_by_loop(points, height, width):
    return np.array(
        [[inside(points, c + 0.5, r + 0.5) for c in range(width)] for r in range(height)]
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_is_filled_as_a_loop_over_its_pixels_fills_it(seed):
    random = np.random.default_rng(seed)
    corners = random.uniform([0, 0], [31, 23], (random.integers(3, 9), 2))
    if seed % 2:
        corners = (2 * corners).round() / 2  # corners and edges on the centres of pixels
    points = [tuple(corner) for corner in corners.tolist()]
    assert np.array_equal(fill_polygon(points, 23, 31), filled_by_loop(points, 23, 31))


def test_two_polygons_with_one_edge_share_no_pixel_and_leave_none():
    left = fill_polygon([(0, 0), (4.5, 0), (2.5, 6), (0, 6)], 6, 8)
    right = fill_polygon([(4.5, 0), (8, 0), (8, 6), (2.5, 6)], 6, 8)
    assert np.array_equal(left, ~right)


def distance(x, y, a, b):
    """Distance of a point from a segment, by many points of it."""
    steps = np.linspace(0, 1, 4001)
    return np.hypot(a[0] + steps * (b[0] - a[0]) - x, a[1] + steps * (b[1] - a[1]) - y).min()


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.6])
def test_a_stroke_paints_the_pixels_near_its_path(radius):
    path = ((2.2, 3.1), (9.7, 5.4), (9.7, 13.0))
    found = pixels_of(Stroke(1, path, radius), 16, 14)
    reach = max(radius, math.sqrt(0.5))
    for row in range(16):
        for column in range(14):
            nearest = min(distance(column + 0.5, row + 0.5, a, b) for a, b in pairwise(path))
            if abs(nearest - reach) > 1e-3:
                assert found[row, column] == (nearest < reach), (row, column)


def test_a_stroke_of_one_point_is_a_disc():
    found = pixels_of(Stroke(1, ((5.5, 4.5),), 2), 9, 11)
    y, x = np.mgrid[:9, :11]
    assert np.array_equal(found, (y - 4) ** 2 + (x - 5) ** 2 <= 4)


def test_a_point_is_the_pixel_that_it_lies_in():
    found = pixels_of(Point(1, 3.99, 2.0), 5, 6)
    assert np.argwhere(found).tolist() == [[2, 3]]


def test_a_box_has_the_pixels_that_it_touches():
    found = pixels_of(Box(1, 1.5, 0, 4, 2.1), 5, 6)
    expected = np.zeros((5, 6), bool)
    expected[0:3, 1:4] = True
    assert np.array_equal(found, expected)


def test_the_later_of_two_prompts_counts():
    on, off = Stroke(1, ((1, 3), (9, 3)), 1), Stroke(1, ((5, 0), (5, 6)), 1, on=False)
    (first,) = paint_prompts([on, off], 6, 10)
    assert not (first.on & first.off).any()
    assert np.array_equal(first.off, pixels_of(off, 6, 10))
    (second,) = paint_prompts([off, on], 6, 10)
    assert np.array_equal(second.on, pixels_of(on, 6, 10))
    assert not (second.on & second.off).any()


def test_a_pixel_is_on_one_object_only():
    one, two = paint_prompts([Point(1, 2, 2), Point(1, 4, 4), Point(2, 4.5, 4.5)], 6, 6)
    assert np.argwhere(one.on).tolist() == [[2, 2]]
    assert np.argwhere(two.on).tolist() == [[4, 4]]


def test_paint_outside_the_box_of_its_object_is_refused():
    with pytest.raises(MaskError, match=r"point 1=8,2: lies outside the box of object 1"):
        paint_prompts([Box(1, 0, 0, 5, 5), Point(1, 8, 2)], 6, 10)
    paint_prompts([Box(1, 0, 0, 5, 5), Point(1, 8, 2, on=False)], 6, 10)


def test_a_polygon_between_the_centres_of_pixels_is_refused():
    with pytest.raises(MaskError, match="covers the centre of no pixel"):
        paint_prompts([Polygon(1, ((1.6, 1.6), (2.4, 1.6), (2, 2.4)))], 6, 6)


def test_an_object_that_is_painted_over_is_refused():
    with pytest.raises(MaskError, match="object 1: later prompts cover all that is painted of it"):
        paint_prompts([Point(1, 2, 2), Point(2, 2, 2)], 6, 6)


def test_only_polygons_do_not_grow():
    polygon = Polygon(1, ((0, 0), (4, 0), (4, 4)))
    (alone,) = paint_prompts([polygon, Point(1, 3, 1, on=False)], 6, 6)
    (with_point,) = paint_prompts([polygon, Point(1, 3, 1)], 6, 6)
    assert not alone.grows
    assert with_point.grows
