"""Scores as a table to look at."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from propagate.eval.protocols import PROTOCOLS, SEMI_SUPERVISED, UNSUPERVISED_PROTOCOLS
from propagate.eval.scores import Scores

_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
_EXCEPTIONS = {
    "late_objects_not_scored": "Late objects, not scored",
    "objects_absent_from_first_frame": "Scored though absent from the first frame",
    "objects_without_a_scored_frame": "Left out, no frame counts for them",
    "predicted_ids_ignored": "Predicted ids that are no object, ignored",
    "void_sequences": "Void pixels (255) in the truth",
}
_RULES_SHOWN = ("frames", "objects", "average", "groups")
_NAMES_SHOWN = 10


def format_table(scores: Scores) -> Table:
    """Lay out the scores: each sequence, its objects where it has several, groups, and the whole.

    Args:
        scores: Of any number of sequences.

    Returns:
        A table with three decimals, as in the official files, and the protocol below it.
    """
    protocol = scores.protocol
    counts = ", ".join(f"{noun}: {protocol[noun]}" for noun in ("sequences", "objects", "frames"))
    table = Table(
        title=escape(f"{protocol['title']} ({counts})"),
        caption=escape("\n".join(_notes(protocol))),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    table.add_column("Sequence", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in scores.per_sequence.items():
        table.add_row(escape(name), *_cells(row))
        object_ids = scores.object_ids[name]
        if len(object_ids) > 1:
            for object_id in object_ids:
                label = f"{name}_{object_id}"
                table.add_row(f" {escape(label)}", *_cells(scores.per_object[label]), style="dim")
    table.add_section()
    for name, row in scores.groups.items():
        table.add_row(escape(name), *_cells(row))
    table.add_row("overall", *_cells(scores.global_), style="bold")
    return table


def format_protocols() -> Table:
    """Lay out the rules of all protocols, a row each."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 1, 0), pad_edge=False)
    topics = ("frames", "objects", "frames of an object", "255 in the truth", "other predicted ids")
    for column in ("protocol", *topics, "groups"):
        table.add_column(column.capitalize(), overflow="fold")
    for protocol in (*PROTOCOLS.values(), *UNSUPERVISED_PROTOCOLS.values()):
        rules = protocol.rules()
        name = protocol.name
        if protocol.task != SEMI_SUPERVISED:
            name += f" {protocol.task}"
        table.add_row(name, *(rules[topic] for topic in topics), rules.get("groups", ""))
    return table


def _notes(protocol: Mapping[str, Any]) -> list[str]:
    rules = protocol["rules"]
    notes = [f"{topic.capitalize()}: {rules[topic]}." for topic in _RULES_SHOWN if topic in rules]
    missing = protocol["missing"]
    frames = [f"{name}/{frame}" for name, names in missing["frames"].items() for frame in names]
    for label, names in (("sequences", missing["sequences"]), ("frames", frames)):
        if names:
            notes.append(f"Missing {label}, left out: {_few(names)}.")
    for rule, label in _EXCEPTIONS.items():
        if rule in protocol["exceptions"]:
            notes.append(f"{label}: {_few(protocol['exceptions'][rule])}.")
    return notes


def _few(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_NAMES_SHOWN])
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} ... ({len(names)} in all)"


def _cells(row: Mapping[str, float]) -> list[str]:
    # An object has no J&F column in the official naming; a reader wants it all the same.
    both = (row["J-Mean"] + row["F-Mean"]) / 2
    return [f"{row.get(column, both):.3f}" for column in _COLUMNS]
