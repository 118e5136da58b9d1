"""Line charts as inline SVG.

They are not drawn by matplotlib, because its SVG has fixed colours: it would not follow the dark
mode of the page, and the page's script could neither hide a line nor read its values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from propagate.eval.report.comparison import percent
from propagate.eval.report.page import fill

# The values of the grid lines, and what is written beside them.
_GRID = {0.0: "0", 0.25: "", 0.5: "50", 0.75: "", 1.0: "100"}


@dataclass(frozen=True, slots=True)
class Plot:
    """The size of a chart, in its own units: about a pixel each, as the page scales a chart.

    Attributes:
        width, height: Of the chart, with what is written beside it.
        foot: Height of what stands below the plot.
        low: The value at the lower edge of the plot, below 1; at the upper edge it is 1.
    """

    width: int = 440
    height: int = 130
    foot: int = 20
    low: float = 0.0

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom of the plot itself."""
        return 34, self.width - 8, 8, self.height - self.foot


PLOT = Plot()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        style: Its class in the page's style sheet.
        name: For a reader who cannot see the chart, or who points at a mark.
        values: One value of 0..1 per step, or from the plot's lower edge on; None leaves a gap.
        marks: Step -> address: a ring that links to that address.
    """

    style: str
    name: str
    values: Sequence[float | None]
    marks: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Band:
    """Steps that are marked by a bar below the plot.

    Attributes:
        style: Its class in the page's style sheet.
        name: For a reader who points at it.
        spans: First and last step of each part.
    """

    style: str
    name: str
    spans: Sequence[tuple[int, int]]


def line_chart(
    lines: Sequence[Line],
    steps: Sequence[str],
    label: str,
    *,
    plot: Plot = PLOT,
    grid: Mapping[float, str] = _GRID,
    bands: Sequence[Band] = (),
    ticks: Mapping[int, str] | None = None,
    as_text: Callable[[float], str] = percent,
) -> Markup:
    """Draw values of 0..1, or from `Plot.low` on, over steps.

    Args:
        lines: Each has as many values as there are steps; the first is drawn on top.
        steps: Names of the steps; the first and the last are written below the chart.
        label: What the chart shows, for a reader who cannot see it.
        plot: Its size.
        grid: What is written beside the lines of the grid, by their values.
        bands: Bars below the plot.
        ticks: Step -> title: vertical lines.
        as_text: How the value of a mark is written.
    """
    left, right, top, bottom = plot.inside
    return fill(
        "chart.svg",
        width=plot.width,
        height=plot.height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        grid=[(position(value, 0, 2, plot)[1], text) for value, text in grid.items()],
        steps=steps,
        label=label,
        lines=[_drawn(line, steps, plot, as_text) for line in reversed(lines)],
        bands=[
            {"style": band.style, "name": band.name, "path": _bars(band, len(steps), plot)}
            for band in bands
            if band.spans
        ],
        ticks=[
            (position(0, step, len(steps), plot)[0], title) for step, title in (ticks or {}).items()
        ],
    )


def position(value: float, step: float, step_count: int, plot: Plot = PLOT) -> tuple[float, float]:
    """Place a value in the chart: x to the right, y downwards."""
    left, right, top, bottom = plot.inside
    x = left + (right - left) * (step / (step_count - 1) if step_count > 1 else 0.5)
    return round(x, 1), round(top + (bottom - top) * (1 - value) / (1 - plot.low), 1)


def _bars(band: Band, step_count: int, plot: Plot) -> str:
    """Write the parts of a band as one path; each reaches half a step beyond its first and last."""
    left, right, _, bottom = plot.inside
    parts = []
    for first, last in band.spans:
        x0 = max(left, position(0, first - 0.5, step_count, plot)[0])
        x1 = min(right, position(0, last + 0.5, step_count, plot)[0])
        parts.append(f"M{x0:g} {bottom + 8}H{max(x1, x0 + 1):g}")
    return "".join(parts)


def _drawn(
    line: Line, steps: Sequence[str], plot: Plot, as_text: Callable[[float], str]
) -> dict[str, Any]:
    """Place the values of a line, in runs without a gap, and its marks."""
    runs: list[list[tuple[float, float]]] = [[]]
    marks = []
    for step, value in enumerate(line.values):
        if value is None:
            runs.append([])
            continue
        x, y = position(value, step, len(steps), plot)
        runs[-1].append((x, y))
        if step in line.marks:
            title = f"{line.name}, frame {steps[step]}: {as_text(value)}"
            marks.append({"address": line.marks[step], "x": x, "y": y, "title": title})
    runs = [points for points in runs if points]
    return {"style": line.style, "name": line.name, "runs": runs, "marks": marks}
