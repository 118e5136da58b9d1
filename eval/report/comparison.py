"""The scores of several configurations, to be shown side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from propagate.eval.scores import HEADLINE, Scores


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """The result of one configuration.

    Attributes:
        name: Of the configuration.
        scores: None if a sequence failed, because the mean of the others would be misleading.
        frames: Number of predicted frames.
        seconds: Time to predict them, without loading the model. None for a baseline, which
            computes nothing.
        failures: Errors by sequence.
        facts: Model, matcher, device, versions and so on, as text by name.
        figures: Numbers other than J and F over everything, as text by name.
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
        """Whether the configuration computes nothing."""
        return self.seconds is None

    @property
    def speed(self) -> str:
        """Seconds per frame, as text."""
        return "-" if not self.seconds or not self.frames else f"{self.seconds / self.frames:.3f}"


def percent(value: float | None) -> str:
    """Write a score as papers do, in percent with one decimal; "-" if there is none."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def score_of(entry: Entry, sequence: str) -> float | None:
    """Look up J&F of a sequence; None if the entry has none."""
    if entry.scores is None or sequence not in entry.scores.per_sequence:
        return None
    value = entry.scores.per_sequence[sequence][HEADLINE]
    return None if math.isnan(value) else value


def hardest_first(entries: Sequence[Entry]) -> list[str]:
    """Sort the scored sequences by the lowest J&F of any configuration but the baselines."""
    judged = [entry for entry in entries if not entry.is_baseline] or list(entries)
    names = dict.fromkeys(name for e in entries if e.scores for name in e.scores.per_sequence)

    def lowest(name: str) -> float:
        scores = (score_of(entry, name) for entry in judged)
        return min((score for score in scores if score is not None), default=math.inf)

    return sorted(names, key=lowest)


def figure_names(entries: Sequence[Entry]) -> list[str]:
    """Name the figures of all entries, each once, in order."""
    return list(dict.fromkeys(name for entry in entries for name in entry.figures))
