"""Line charts: where values lie, and gaps between them."""

import math

import pytest

from propagate.eval.report.svg import Line, line_chart, position
from tests.html_page import Page


def test_a_line_is_broken_where_there_is_no_value():
    line = Line("c0", "a", [0.0, 1.0, None, 0.5, None, 0.5, 1.0])
    page = Page(line_chart([line], [str(t) for t in range(7)], "label"))
    runs = [len(a["points"].split()) for a in page.all("polyline")]
    assert runs == [2, 2]
    assert len(page.all("circle", **{"class": "dot"})) == 1  # the value that stands alone


def test_values_lie_where_the_grid_says():
    line = Line("c0", "a", [0.0, 0.25, 1.0])
    page = Page(line_chart([line], ["a", "b", "c"], "label"))
    points = [tuple(map(float, p.split(","))) for p in page.all("polyline")[0]["points"].split()]
    heights = {round(float(a["y1"]), 1) for a in page.all("line") if a["class"] == "grid"}
    assert {y for _, y in points} <= heights
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)
    assert points[2][1] < points[1][1] < points[0][1]


def test_one_step_stands_in_the_middle():
    assert math.isclose(position(0.5, 0, 1)[0], (position(0, 0, 2)[0] + position(0, 1, 2)[0]) / 2)
