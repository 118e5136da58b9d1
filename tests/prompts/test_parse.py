"""Prompts as text."""

import pytest

from propagate.prompts.parse import parse_prompt
from propagate.prompts.records import Box, Point, Polygon, Stroke


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("box", "1=10,20,30.5,40", (7, Box(1, 10, 20, 30.5, 40))),
        ("box", "2@60=10,20,30,40", (60, Box(2, 10, 20, 30, 40))),
        ("point", "1=10,20", (7, Point(1, 10, 20))),
        ("point", "1=10,20,off", (7, Point(1, 10, 20, on=False))),
        ("point", " 3@0 = 10, 20 ", None),
        ("point", "3@0= 10, 20 ", (0, Point(3, 10, 20))),
        ("stroke", "1=1,2:3,4:5,6@2.5", (7, Stroke(1, ((1, 2), (3, 4), (5, 6)), 2.5))),
        ("stroke", "1=1,2:3,4@2,off", (7, Stroke(1, ((1, 2), (3, 4)), 2, on=False))),
        ("stroke", "1=1,2:3,4", (7, Stroke(1, ((1, 2), (3, 4))))),
        ("polygon", "9@3=1,2:3,4:5,1", (3, Polygon(9, ((1, 2), (3, 4), (5, 1))))),
    ],
)
def test_a_prompt_is_read(kind, text, expected):
    if expected is None:
        with pytest.raises(ValueError, match="not a point, which is 1=x,y or 1=x,y,off"):
            parse_prompt(kind, text, 7)
    else:
        assert parse_prompt(kind, text, 7) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("box", ""),
        ("box", "10,20,30,40"),
        ("box", "1=10,20,30"),
        ("box", "1=10,20,30,forty"),
        ("point", "1=10"),
        ("point", "1=10,20,30"),
        ("point", "cup=10,20"),
        ("stroke", "1=1,2:3@2"),
        ("stroke", "1=1,2@wide"),
        ("polygon", "1=1,2;3,4"),
    ],
)
def test_another_form_is_refused_with_the_right_one(kind, text):
    with pytest.raises(ValueError, match=f"not a {kind}, which is 1=x"):
        parse_prompt(kind, text, 0)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("box", "1=5,2,5,4", "is empty; give left, top, right and bottom in this order"),
        ("point", "255=1,2", "an object id is one of 1..254, not 255"),
        ("point", "1=nan,2", "coordinates are finite numbers"),
        ("stroke", "1=1,2@0", "a radius above 0, 10000 at most, not 0"),
        ("polygon", "1=1,2:3,4", "has 2 corners; give at least three"),
    ],
)
def test_a_prompt_that_cannot_be_says_why(kind, text, reason):
    with pytest.raises(ValueError, match=r"^'") as caught:
        parse_prompt(kind, text, 0)
    assert str(caught.value) == f"{text!r}: {reason}"
