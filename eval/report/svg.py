"""Line charts as inline SVG.

They are not drawn by matplotlib, because its SVG has fixed colours: it would not follow the dark
mode of the page, and the page's script could neither hide a line nor read its values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from propagate.eval.report.page import fill

# In the chart's own units, about one pixel each: the page scales a chart to its column.
WIDTH, HEIGHT = 440, 130
LEFT, TOP, RIGHT, BOTTOM = 34, 8, WIDTH - 8, HEIGHT - 20
# The values of the grid lines, and what is written beside them.
_GRID = {0.0: "0", 0.25: "", 0.5: "50", 0.75: "", 1.0: "100"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        style: Its class in the page's style sheet.
        name: For a reader who cannot see the chart, or who points at a mark.
        values: One value of 0..1 per step; None leaves a gap.
        marks: Step -> address: a ring that links to that address.
    """

    style: str
    name: str
    values: Sequence[float | None]
    marks: Mapping[int, str] = field(default_factory=dict)


def line_chart(lines: Sequence[Line], steps: Sequence[str], label: str) -> Markup:
    """Draw values of 0..1 over steps.

    Args:
        lines: Each has as many values as there are steps; the first is drawn on top.
        steps: Names of the steps; the first and the last are written below the chart.
        label: What the chart shows, for a reader who cannot see it.
    """
    return fill(
        "chart.svg",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=BOTTOM,
        grid=[(position(value, 0, 2)[1], text) for value, text in _GRID.items()],
        steps=steps,
        label=label,
        lines=[_drawn(line, steps) for line in reversed(lines)],
    )


def position(value: float, step: int, step_count: int) -> tuple[float, float]:
    """Place a value in the chart: x to the right, y downwards."""
    x = LEFT + (RIGHT - LEFT) * (step / (step_count - 1) if step_count > 1 else 0.5)
    return round(x, 1), round(TOP + (BOTTOM - TOP) * (1 - value), 1)


def _drawn(line: Line, steps: Sequence[str]) -> dict[str, Any]:
    """Place the values of a line, in runs without a gap, and its marks."""
    runs: list[list[tuple[float, float]]] = [[]]
    marks = []
    for step, value in enumerate(line.values):
        if value is None:
            runs.append([])
            continue
        x, y = position(value, step, len(steps))
        runs[-1].append((x, y))
        if step in line.marks:
            title = f"{line.name}, frame {steps[step]}: {100 * value:.1f}"
            marks.append({"address": line.marks[step], "x": x, "y": y, "title": title})
    runs = [points for points in runs if points]
    return {"style": line.style, "name": line.name, "runs": runs, "marks": marks}
