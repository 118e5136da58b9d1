"""Scores as a table to look at."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from propagate.eval.davis import DavisScores

_COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
_EXCEPTIONS = {
    "late_objects_not_scored": "Late objects, not scored",
    "objects_absent_from_first_frame": "Scored though absent from the first frame",
    "binary_sequences": "Black-and-white truth, read as one object",
    "void_sequences": "Void pixels, read as background",
}


def format_table(scores: DavisScores) -> Table:
    """Lay out the scores: each sequence, its objects where it has several, and all objects.

    Args:
        scores: Of any number of sequences.

    Returns:
        A table with three decimals, as in the official files, and the protocol below it.
    """
    protocol = scores.protocol
    counts = ", ".join(f"{noun}: {protocol[noun]}" for noun in ("sequences", "objects", "frames"))
    notes = [f"Not scored: {protocol['frames_skipped']}.", f"Mean {protocol['average_rule']}."]
    notes += [
        f"{label}: {', '.join(protocol[k])}." for k, label in _EXCEPTIONS.items() if protocol[k]
    ]
    table = Table(
        title=f"{protocol['benchmark']} ({counts})",
        caption=escape("\n".join(notes)),
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
        object_count = len(scores.per_frame[name]["J"])
        if object_count > 1:
            for object_id in range(1, object_count + 1):
                label = f"{name}_{object_id}"
                table.add_row(f" {escape(label)}", *_cells(scores.per_object[label]), style="dim")
    table.add_section()
    table.add_row("all objects", *_cells(scores.global_), style="bold")
    return table


def _cells(row: Mapping[str, float]) -> list[str]:
    # An object has no J&F column in the official naming; a reader wants it all the same.
    both = (row["J-Mean"] + row["F-Mean"]) / 2
    return [f"{row.get(column, both):.3f}" for column in _COLUMNS]
