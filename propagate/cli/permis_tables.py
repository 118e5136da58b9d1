"""The PerMIS scores and the list as tables to look at, with the protocol in words below."""

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

_COLUMNS = ("J&F-Mean", "J-Mean", "F-Mean")


def format_permis(result: PermisScores) -> Group:
    """Lay out PerMIS-video: each video, its instances, and all of them.

    Args:
        result: Of any number of videos.

    Returns:
        A table and the protocol.
    """
    scores, identity = result.scores, result.identity
    table = _table("Video")
    for column in (*_COLUMNS, "On other", "Switches"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in scores.per_sequence.items():
        table.add_row(escape(name), *_cells(row, identity.per_sequence[name]))
        for i in scores.object_ids[name]:
            label = f"{name}_{i}"
            cells = _cells(scores.per_object[label], identity.per_object[label])
            table.add_row(f" {escape(label)}", *cells, style="dim")
    table.add_section()
    table.add_row("all objects", *_cells(scores.global_, identity.total), style="bold")
    return _report(scores.protocol, ("sequences", "objects", "frames"), table)


def format_images(scores: PermisImageScores) -> Group:
    """Lay out PerMIS-image: each pair, and both averages of both measures.

    Args:
        scores: Of any number of pairs.

    Returns:
        A table and the protocol.
    """
    table = _table("Video, target")
    for column in ("IoU", "bIoU"):
        table.add_column(column, justify="right", no_wrap=True)
    for pair in scores.pairs:
        table.add_row(
            f"{escape(pair.video)}, {escape(pair.target)}",
            f"{pair.iou:.3f}",
            f"{pair.boundary_iou:.3f}",
        )
    table.add_section()
    for label, kind in (("all pairs, pooled", "Pooled"), ("all pairs, mean", "Mean")):
        cells = (f"{scores.global_[f'{measure}-{kind}']:.3f}" for measure in ("IoU", "bIoU"))
        table.add_row(label, *cells, style="bold")
    return _report(scores.protocol, ("sequences", "pairs"), table)


def format_retrieval(scores: RetrievalScores) -> Group:
    """Lay out PerMIR: each query, mAP and recall.

    Args:
        scores: Of any number of queries.

    Returns:
        A table and the protocol.
    """
    table = _table("Query")
    for column in ("AP", "First relevant"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in scores.per_query.items():
        table.add_row(escape(name), f"{row['AP']:.3f}", str(row["rank"]))
    table.add_section()
    for name, value in scores.global_.items():
        table.add_row(name, f"{value:.3f}", style="bold")
    return _report(scores.protocol, ("queries", "gallery"), table)


def format_list(permis: PermisList) -> Group:
    """Lay out a list: what went into it, and its counts.

    Args:
        permis: The list.

    Returns:
        A table of names and numbers, under the checksum.
    """
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


def _table(first_column: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column(first_column, no_wrap=True)
    return table


def _report(protocol: Mapping[str, Any], counted: Sequence[str], table: Table) -> Group:
    # Words around the table: its own title and caption would be folded to its width.
    counts = ", ".join(f"{noun}: {protocol[noun]}" for noun in counted)
    title = Text(f"{protocol['title']} ({counts})", style="bold")
    notes = [f"{topic[0].upper()}{topic[1:]}: {rule}." for topic, rule in protocol["rules"].items()]
    return Group(
        title, table, Text("\n".join([*notes, f"List: sha256 {protocol['list_sha256']}."]))
    )


def _cells(row: Mapping[str, float], identity: IdentityCounts) -> list[str]:
    # An object has no J&F column in the official naming; a reader wants it all the same.
    both = (row["J-Mean"] + row["F-Mean"]) / 2
    return [
        *(f"{row.get(column, both):.3f}" for column in _COLUMNS),
        f"{identity.share:.3f}",
        str(identity.switches),
    ]
