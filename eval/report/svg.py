"""A line chart as inline SVG. Its colours are the page's: each line has a class of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

# In the chart's own units, about a pixel each: the page scales it to its column.
WIDTH, HEIGHT = 440, 130
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 20
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        style: Its class in the page's style sheet.
        name: Told to a reader who cannot see the chart, or points at a mark.
        values: One value of 0..1 per step; None leaves a gap.
        marks: Step -> address: a dot that leads there.
    """

    style: str
    name: str
    values: Sequence[float | None]
    marks: Mapping[int, str] = field(default_factory=dict)


def line_chart(lines: Sequence[Line], steps: Sequence[str], label: str) -> str:
    """Draw values of 0..1 over steps.

    Args:
        lines: Of as many values as there are steps; the first is drawn on top.
        steps: Names of the steps; the first and the last are written below the chart.
        label: What the chart shows, for a reader who cannot see it.
    """
    grid = "".join(_grid_line(value) for value in GRID)
    names = [(LEFT, "start", steps[0])]
    if len(steps) > 1:
        names.append((WIDTH - RIGHT, "end", steps[-1]))
    ends = "".join(
        f'<text x="{x}" y="{HEIGHT - 5}" text-anchor="{anchor}">{escape(name)}</text>'
        for x, anchor, name in names
    )
    drawn = "".join(_line(line, steps) for line in reversed(lines))
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{grid}{ends}{drawn}<line class="cursor" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}" visibility="hidden"/></svg>'
    )


def position(value: float, step: int, step_count: int) -> tuple[float, float]:
    """Place a value in the chart: x to the right, y downwards."""
    x = LEFT + (WIDTH - LEFT - RIGHT) * (step / (step_count - 1) if step_count > 1 else 0.5)
    return round(x, 1), round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value), 1)


def _grid_line(value: float) -> str:
    _, y = position(value, 0, 2)
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    if value not in (0.0, 0.5, 1.0):
        return line
    return f'{line}<text x="{LEFT - 9}" y="{y + 4}" text-anchor="end">{100 * value:.0f}</text>'


def _line(line: Line, steps: Sequence[str]) -> str:
    runs: list[list[tuple[float, float]]] = [[]]
    for step, value in enumerate(line.values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(position(value, step, len(steps)))
    drawn = "".join(_run(points) for points in runs if points)
    marks = "".join(
        _mark(line, step, steps, address)
        for step, address in line.marks.items()
        if line.values[step] is not None
    )
    name = escape(line.name)
    return f'<g class="{line.style}" data-name="{name}">{drawn}{marks}</g>'


def _run(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:  # a polyline of one point is invisible
        x, y = points[0]
        return f'<circle class="dot" cx="{x}" cy="{y}" r="2"/>'
    return f'<polyline points="{" ".join(f"{x},{y}" for x, y in points)}"/>'


def _mark(line: Line, step: int, steps: Sequence[str], address: str) -> str:
    value = line.values[step]
    assert value is not None
    x, y = position(value, step, len(steps))
    told = f"{line.name}, frame {steps[step]}: {100 * value:.1f}"
    return (
        f'<a href="{escape(address)}"><circle class="mark" cx="{x}" cy="{y}" r="4">'
        f"<title>{escape(told)}</title></circle></a>"
    )
