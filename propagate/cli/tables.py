"""Scores as tables for the terminal, all in percent with one decimal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from propagate.eval.identity import IdentityCounts
from propagate.eval.permis.images import PermisImageScores
from propagate.eval.permis.list import PermisList
from propagate.eval.permis.retrieval import RetrievalScores
from propagate.eval.permis.video import PermisScores
from propagate.eval.perseg import PersegScores
from propagate.eval.protocols import PROTOCOLS, SEMI_SUPERVISED, UNSUPERVISED_PROTOCOLS
from propagate.eval.report.comparison import Entry, figure_names, hardest_first, percent, score_of
from propagate.eval.scores import COLUMNS, HEADLINE, Scores

_COUNTS = ("sequences", "objects", "frames")
_PERMIS_COLUMNS = ("J&F-Mean", "J-Mean", "F-Mean")
_EXCEPTIONS = {
    "late_objects_not_scored": "Late objects, not scored",
    "objects_absent_from_first_frame": "Scored though absent from the first frame",
    "objects_without_a_scored_frame": "Left out, no frame counts for them",
    "predicted_ids_ignored": "Predicted ids that are no object, ignored",
    "sequences_too_short": "Too short to score, left out",
    "void_sequences": "Void pixels (255) in the truth",
}
_RULES_SHOWN = ("frames", "objects", "average", "groups")
_NAMES_SHOWN = 10


# --- eval davis ----------------------------------------------------------------------------------


def format_table(scores: Scores) -> Table:
    """Show the scores of each sequence, its objects if it has several, the groups, and the whole.

    Args:
        scores: Of any number of sequences.

    Returns:
        A table in percent with one decimal, as in papers, and the protocol below it.
    """
    protocol = scores.protocol
    table = _table("Sequence", COLUMNS)
    table.title = escape(_title(protocol, _COUNTS))
    table.caption = escape("\n".join(_notes(protocol)))
    table.caption_justify = "left"
    for name, row in scores.per_sequence.items():
        table.add_row(escape(name), *_cells(row, COLUMNS))
        object_ids = scores.object_ids[name]
        if len(object_ids) > 1:
            for object_id in object_ids:
                label = f"{name}_{object_id}"
                cells = _cells(scores.per_object[label], COLUMNS)
                table.add_row(f" {escape(label)}", *cells, style="dim")
    table.add_section()
    for name, row in scores.groups.items():
        table.add_row(escape(name), *_cells(row, COLUMNS))
    table.add_row("overall", *_cells(scores.global_, COLUMNS), style="bold")
    return table


def format_protocols() -> Table:
    """Show the rules of all protocols, one row each."""
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
    for noun, names in (("sequences", missing["sequences"]), ("frames", frames)):
        if names:
            notes.append(f"Missing {noun}, left out: {_few(names)}.")
    for rule, title in _EXCEPTIONS.items():
        if rule in protocol["exceptions"]:
            notes.append(f"{title}: {_few(protocol['exceptions'][rule])}.")
    return notes


def _few(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_NAMES_SHOWN])
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} ... ({len(names)} in all)"


# --- eval permis ---------------------------------------------------------------------------------


def format_permis(result: PermisScores) -> Group:
    """Show PerMIS-video: each video, its instances, all of them, and the protocol."""
    scores, identity = result.scores, result.identity
    table = _table("Video", (*_PERMIS_COLUMNS, "On other", "Switches"))
    for name, row in scores.per_sequence.items():
        table.add_row(escape(name), *_permis_cells(row, identity.per_sequence[name]))
        for i in scores.object_ids[name]:
            label = f"{name}_{i}"
            cells = _permis_cells(scores.per_object[label], identity.per_object[label])
            table.add_row(f" {escape(label)}", *cells, style="dim")
    table.add_section()
    table.add_row("all objects", *_permis_cells(scores.global_, identity.total), style="bold")
    return _with_protocol(table, scores.protocol, _COUNTS)


def format_images(scores: PermisImageScores) -> Group:
    """Show PerMIS-image: each pair, both averages of both measures, and the protocol."""
    table = _table("Video, target", ("IoU", "bIoU"))
    for pair in scores.pairs:
        name = f"{escape(pair.video)}, {escape(pair.target)}"
        table.add_row(name, percent(pair.overlap.iou), percent(pair.overlap.boundary_iou))
    table.add_section()
    for title, kind in (("all pairs, pooled", "Pooled"), ("all pairs, mean", "Mean")):
        cells = (percent(scores.global_[f"{measure}-{kind}"]) for measure in ("IoU", "bIoU"))
        table.add_row(title, *cells, style="bold")
    return _with_protocol(table, scores.protocol, ("sequences", "pairs"))


def format_retrieval(scores: RetrievalScores) -> Group:
    """Show PerMIR: each query, mAP and recall, and the protocol."""
    table = _table("Query", ("AP", "First relevant"))
    for name, row in scores.per_query.items():
        table.add_row(escape(name), percent(row["AP"]), str(row["rank"]))
    table.add_section()
    for name, value in scores.global_.items():
        table.add_row(name, percent(value), style="bold")
    return _with_protocol(table, scores.protocol, ("queries", "gallery"))


def format_list(permis: PermisList) -> Group:
    """Show the sources and counts of a PerMIS list, under its checksum."""
    counts = permis.counts
    rows = [(f"{s['split']}: {s['file']}", s["sequences"]) for s in permis.sources]
    rows += [(f"left out: {reason}", count) for reason, count in counts["left_out"].items()]
    rows += [
        (name.replace("_", " "), count) for name, count in counts.items() if isinstance(count, int)
    ]
    rows += [(f"class {name}", count) for name, count in counts["videos_per_category"].items()]
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(escape(name), str(value))
    return Group(Text(f"PerMIS list, sha256 {permis.sha256}", style="bold"), table)


def _with_protocol(table: Table, protocol: Mapping[str, Any], counted: Sequence[str]) -> Group:
    # Text around the table, because a title and a caption would be folded to the table's width.
    notes = [f"{topic[0].upper()}{topic[1:]}: {rule}." for topic, rule in protocol["rules"].items()]
    notes.append(f"List: sha256 {protocol['list_sha256']}.")
    return Group(Text(_title(protocol, counted), style="bold"), table, Text("\n".join(notes)))


def _permis_cells(row: Mapping[str, float], identity: IdentityCounts) -> list[str]:
    return [*_cells(row, _PERMIS_COLUMNS), percent(identity.share), str(identity.switches)]


# --- segment --perseg ----------------------------------------------------------------------------


def format_perseg(scores: PersegScores) -> Group:
    """Show PerSeg in percent: each object, the mean, and the protocol."""
    table = Table("object", box=None, pad_edge=False)
    for column in ("IoU", "bIoU"):
        table.add_column(column, justify="right")
    for name, row in scores.per_object.items():
        table.add_row(escape(name), percent(row["IoU"]), percent(row["bIoU"]))
    mean = scores.global_
    table.add_row("mean", percent(mean["mIoU"]), percent(mean["bIoU"]), style="bold")
    protocol = scores.protocol
    rules = [f"{name}: {rule}" for name, rule in protocol["rules"].items()]
    counts = f"PerSeg, {protocol['objects']} objects, {protocol['pictures']} pictures"
    return Group(table, Text("\n".join([counts, *rules])))


# --- benchmark -----------------------------------------------------------------------------------


def format_comparison(entries: Sequence[Entry], title: str) -> Group:
    """Show one row per configuration, then J&F of each sequence.

    Args:
        entries: Over the same sequences, in the order of the rows.
        title: What was scored.
    """
    figures = figure_names(entries)
    table = _table("Configuration", (*COLUMNS, *figures, "frames", "s/frame"), title, padding=1)
    for entry in entries:
        row = entry.scores.global_ if entry.scores else {}
        cells = [percent(row.get(column)) for column in COLUMNS]
        cells += [entry.figures.get(name, "-") for name in figures]
        table.add_row(escape(entry.name), *cells, str(entry.frames), entry.speed)
    names = hardest_first(entries)
    if not names:
        return Group(table)
    columns = [escape(entry.name) for entry in entries]
    rows = _table("Sequence", columns, f"{HEADLINE}, hardest first", padding=1)
    for name in names:
        rows.add_row(escape(name), *(percent(score_of(entry, name)) for entry in entries))
    return Group(table, rows)


# --- parts ---------------------------------------------------------------------------------------


def _table(
    first_column: str, columns: Sequence[str], title: str | None = None, *, padding: int = 0
) -> Table:
    """Make a table of names at the left and numbers at the right."""
    table = Table(box=SIMPLE_HEAD, padding=(0, padding), pad_edge=False)
    if title is not None:
        table.title, table.title_justify = escape(title), "left"
    table.add_column(first_column, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _title(protocol: Mapping[str, Any], counted: Sequence[str]) -> str:
    counts = ", ".join(f"{noun}: {protocol[noun]}" for noun in counted)
    return f"{protocol['title']} ({counts})"


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    # The official naming has no J&F column for an object, but a reader wants it.
    both = (row["J-Mean"] + row["F-Mean"]) / 2
    return [percent(row.get(column, both)) for column in columns]
