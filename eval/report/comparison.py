"""Scores of several configurations side by side: the record, and the tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from propagate.eval.scores import Scores

COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
HEADLINE = COLUMNS[0]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What one configuration reached.

    Attributes:
        name: Of the configuration.
        scores: None where a sequence failed: the others alone would pass for the whole.
        frames: How many were predicted.
        seconds: Time that took, loading the model not counted. None for a baseline, which computes
            nothing.
        failures: Error by sequence.
        facts: What else there is to know, as text: model, matcher, device, versions.
        figures: Numbers beside J and F over everything, as text by their name.
    """

    name: str
    scores: Scores | None
    frames: int
    seconds: float | None
    failures: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is computed."""
        return self.seconds is None

    @property
    def speed(self) -> str:
        """Seconds per frame, as text."""
        return "-" if not self.seconds or not self.frames else f"{self.seconds / self.frames:.3f}"


def percent(value: float | None) -> str:
    """Write a score as papers do: percent with one decimal; "-" where there is none."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def score_of(entry: Entry, sequence: str) -> float | None:
    """J&F of a sequence; None where the entry has none."""
    if entry.scores is None or sequence not in entry.scores.per_sequence:
        return None
    value = entry.scores.per_sequence[sequence][HEADLINE]
    return None if math.isnan(value) else value


def hardest_first(entries: Sequence[Entry]) -> list[str]:
    """Name the scored sequences, by the lowest J&F of any configuration that is no baseline."""
    judged = [entry for entry in entries if not entry.is_baseline] or list(entries)
    names = dict.fromkeys(name for e in entries if e.scores for name in e.scores.per_sequence)

    def lowest(name: str) -> float:
        scores = (score_of(entry, name) for entry in judged)
        return min((score for score in scores if score is not None), default=math.inf)

    return sorted(names, key=lowest)


def format_comparison(entries: Sequence[Entry], title: str) -> Group:
    """Lay out the scores: a row per configuration, then J&F of each sequence.

    Args:
        entries: Of one list of sequences, in the order of the rows.
        title: What was scored.
    """
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("Configuration", no_wrap=True)
    figures = list(dict.fromkeys(name for entry in entries for name in entry.figures))
    for column in (*COLUMNS, *figures, "frames", "s/frame"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        row = entry.scores.global_ if entry.scores else {}
        cells = [percent(row.get(column)) for column in COLUMNS]
        cells += [entry.figures.get(name, "-") for name in figures]
        table.add_row(escape(entry.name), *cells, str(entry.frames), entry.speed)
    names = hardest_first(entries)
    if not names:
        return Group(table)
    rows = Table(title="J&F-Mean, hardest first", title_justify="left", box=SIMPLE_HEAD)
    rows.pad_edge = False
    rows.add_column("Sequence", no_wrap=True)
    for entry in entries:
        rows.add_column(escape(entry.name), justify="right", no_wrap=True)
    for name in names:
        rows.add_row(escape(name), *(percent(score_of(entry, name)) for entry in entries))
    return Group(table, rows)
