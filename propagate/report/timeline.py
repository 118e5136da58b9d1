"""Score, margin and state of each object over the frames of a run, in so many points at most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from propagate.eval.report.svg import Band, Line, Plot, line_chart

PLOT = Plot(width=1140, height=104, foot=30)
GRID = {0.0: "0", 0.5: "", 1.0: "1"}
# Two pixels of a chart for each point.
MOST_POINTS = 520
# Points of all objects together: what bounds the page.
MOST_OF_ALL = 11_000
LEAST_POINTS = 40
_WORST_LAST = ("tracked", "unsure", "absent")


@dataclass(frozen=True, slots=True)
class Bins:
    """Frames in a row that share a point of a chart.

    Attributes:
        size: Frames in each; the last may have fewer.
        count: How many there are.
    """

    size: int
    count: int

    def of(self, position: int) -> int:
        """Return the bin of a frame."""
        return position // self.size


def make_bins(frames: int, objects: int) -> Bins:
    """Divide frames into few enough bins for the charts of all objects."""
    most = max(LEAST_POINTS, min(MOST_POINTS, MOST_OF_ALL // max(1, objects)))
    size = max(1, math.ceil(frames / most))
    return Bins(size, math.ceil(frames / size))


def plot_of(frames: Sequence[Mapping[str, Any]]) -> Plot:
    """Choose the size of all charts, which reach as far below 0 as the lowest margin needs."""
    margins = (
        entry["margin"]
        for frame in frames
        for entry in frame["objects"].values()
        if entry["state"] != "absent"
    )
    lowest = min(margins, default=0.0)
    return replace(PLOT, low=next((low for low in (0.0, -0.5) if lowest >= low), -1.0))


def bin_names(frames: Sequence[Mapping[str, Any]], bins: Bins) -> list[str]:
    """Name each bin by its frames: "00012", or "00012 to 00015"."""
    names = []
    for first in range(0, len(frames), bins.size):
        last = min(first + bins.size, len(frames)) - 1
        start, end = frames[first]["name"], frames[last]["name"]
        names.append(start if first == last else f"{start} to {end}")
    return names


def object_chart(
    frames: Sequence[Mapping[str, Any]],
    object_id: int,
    bins: Bins,
    names: Sequence[str],
    shots: Mapping[int, str],
    references: Mapping[int, str],
    plot: Plot = PLOT,
) -> Markup:
    """Draw one object over time.

    A point is the lowest of its frames in which the object is not absent. A bar below marks the
    worst state of its frames.

    Args:
        frames: `per_frame` of a report.
        object_id: The object.
        bins: Which frames share a point.
        names: See `bin_names`.
        shots: Position -> address of a picture: a ring on the margin.
        references: Position -> title: an upright line.
        plot: See `plot_of`.
    """
    scores: list[float | None] = [None] * bins.count
    margins: list[float | None] = [None] * bins.count
    states: list[str | None] = [None] * bins.count
    for position, frame in enumerate(frames):
        entry = frame["objects"].get(str(object_id))
        if entry is None:
            continue
        at = bins.of(position)
        states[at] = _worse(states[at], entry["state"])
        if entry["state"] != "absent":
            scores[at] = _lower(scores[at], entry["score"])
            margins[at] = _lower(margins[at], entry["margin"])
    marks = {bins.of(p): address for p, address in shots.items()}
    lines = [Line("margin", "margin", margins, marks), Line("score", "score", scores)]
    bands = [Band(state, state, _spans(states, state)) for state in _WORST_LAST]
    ticks = {bins.of(position): title for position, title in references.items()}
    label = f"score, margin and state of object {object_id} over time"
    grid = GRID if plot.low == 0 else {**GRID, plot.low: f"{plot.low:g}"}
    return line_chart(
        lines, names, label, plot=plot, grid=grid, bands=bands, ticks=ticks, as_text="{:.2f}".format
    )


def _lower(before: float | None, now: float) -> float:
    return now if before is None else min(before, now)


def _worse(before: str | None, now: str) -> str:
    known = [state for state in (before, now) if state in _WORST_LAST]
    return max(known, key=_WORST_LAST.index, default=now)


def _spans(states: Sequence[str | None], wanted: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for at, state in enumerate(states):
        if state != wanted:
            continue
        if spans and spans[-1][1] == at - 1:
            spans[-1] = (spans[-1][0], at)
        else:
            spans.append((at, at))
    return spans
