"""Prompts check themselves; what does not fit is one line that names the prompt."""

import math

import pytest

from propagate.errors import MaskError
from propagate.prompts.records import Box, Point, Polygon, Stroke, check_prompts


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(0, 1, 2, 3, 4), "box 0=1,2,3,4: an object id is one of 1..254, not 0"),
        (lambda: Point(255, 1, 2), "point 255=1,2: an object id is one of 1..254, not 255"),
        (lambda: Point(True, 1, 2), "an object id is one of 1..254, not True"),
        (lambda: Point(1, math.nan, 2), "point 1=nan,2: coordinates are finite numbers"),
        (lambda: Box(1, 0, 0, math.inf, 2), "box 1=0,0,inf,2: coordinates are finite numbers"),
        (lambda: Box(3, 5, 2, 5, 4), "box 3=5,2,5,4: is empty"),
        (lambda: Box(3, 9, 2, 5, 4), "box 3=9,2,5,4: is empty"),
        (lambda: Stroke(1, ()), "stroke 1=: has no point"),
        (
            lambda: Stroke(1, ((1, 2),), radius=0),
            "stroke 1=1,2: a radius above 0, 10000 at most, not 0",
        ),
        (lambda: Polygon(1, ((1, 2), (3, 4))), "polygon 1=1,2:3,4: has 2 corners"),
        (lambda: Polygon(1, (1, 2, 3)), "points: pairs of x and y"),  # type: ignore[arg-type]
    ],
)
def test_a_prompt_that_cannot_be_is_refused(make, message):
    with pytest.raises(MaskError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [
        Box(1, 0, 0, 11, 8),
        Box(1, -0.5, 0, 4, 4),
        Point(1, 10, 3),
        Point(1, 3, 8),
        Stroke(1, ((1, 1), (10.5, 3))),
        Polygon(1, ((1, 1), (3, 9), (5, 1))),
    ],
)
def test_a_prompt_outside_the_frame_is_refused(prompt):
    with pytest.raises(MaskError, match="lies outside the frame of 10x8"):
        check_prompts([prompt], 8, 10)


def test_prompts_may_touch_the_edges_of_the_frame():
    everything = [
        Box(1, 0, 0, 10, 8),
        Point(1, 9.99, 7.99),
        Stroke(1, ((0, 0), (10, 8))),
        Polygon(1, ((0, 0), (10, 0), (10, 8))),
    ]
    check_prompts(everything, 8, 10)


def test_an_object_needs_a_place_where_it_is():
    with pytest.raises(MaskError, match="nothing says where object 2 is, only where not"):
        check_prompts([Point(1, 1, 1), Point(2, 3, 3, on=False)], 8, 10)


def test_no_prompt_at_all_is_refused():
    with pytest.raises(MaskError, match="no prompt is given"):
        check_prompts([], 8, 10)
