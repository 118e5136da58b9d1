"""The results of a search: a table, a contact sheet, and every score as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from propagate.images.find import VideoSearch, ranked
from propagate.images.instance import INSTANCE_SETTINGS
from propagate.io.write.files import make_output_folder, refuse_existing, write_atomically
from propagate.io.write.panels import Panel, write_contact_sheet

SCORES = "find.json"
SHEET = "contact_sheet.png"
# Intervals of one video that fit into a row of the table.
SHOWN_INTERVALS = 6


def clock(seconds: float) -> str:
    """Write a time as minutes, seconds and tenths, mm:ss.s; minutes may exceed 99."""
    # Rounded first: 59.96 s is 01:00.0, not 00:60.0.
    tenths = round(abs(seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{'-' * (seconds < 0 < tenths)}{minutes:02d}:{rest // 10:02d}.{rest % 10}"


def format_found(searches: Sequence[VideoSearch], object_ids: Sequence[int], top: int) -> Table:
    """Rank the videos for each object: score, best frame, and when the object appears.

    Args:
        searches: At least one; all have the objects.
        object_ids: The objects, in the order in which they are shown.
        top: Most videos for each.
    """
    several = len(object_ids) > 1
    table = Table(*["object"] * several, "rank", "video", "score", "best at", "appears", box=None)
    for object_id in object_ids:
        for rank, search in enumerate(ranked(searches, object_id)[:top], start=1):
            found = search.objects[object_id]
            spans = [f"{clock(start)}-{clock(end)}" for start, end in found.intervals]
            more = len(spans) - SHOWN_INTERVALS
            if more > 0:
                spans[SHOWN_INTERVALS:] = [f"and {more} more"]
            row = (str(rank), search.video, f"{found.best.score:.3f}", clock(found.best.time_s))
            table.add_row(*[str(object_id)] * several, *row, ", ".join(spans) or "-")
    return table


def found_panels(
    searches: Sequence[VideoSearch], object_ids: Sequence[int], top: int
) -> list[Panel]:
    """Make a panel of the best frame of each video, ranked for each object."""
    panels = []
    for object_id in object_ids:
        for rank, search in enumerate(ranked(searches, object_id)[:top], start=1):
            found = search.objects[object_id]
            which = f"object {object_id}, " if len(object_ids) > 1 else ""
            appears = "" if found.intervals else ", below the threshold"
            note = f"{which}{found.best.score:.3f} at {clock(found.best.time_s)}{appears}"
            panels.append(Panel(found.picture, f"{rank}. {Path(search.video).name}", note))
    return panels


def found_json(searches: Sequence[VideoSearch], object_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Give every score as plain values: one entry per video, in the order of the search."""
    ranks = {
        i: {id(search): rank for rank, search in enumerate(ranked(searches, i), start=1)}
        for i in object_ids
    }
    return [
        {
            "video": search.video,
            "error": None if search.error is None else str(search.error),
            "objects": {
                str(i): {
                    "rank": ranks[i][id(search)],
                    "score": found.best.score,
                    "best_frame": found.best.index,
                    "best_time_s": found.best.time_s,
                    "intervals_s": found.intervals,
                    "frames": [[s.index, s.time_s, s.score] for s in found.samples],
                }
                for i, found in search.objects.items()
            },
        }
        for search in searches
    ]


def check_free(folder: Path, overwrite: bool) -> None:
    """Make the folder, and refuse one that holds the results of another search.

    Raises:
        OutputError: It holds such results, and `overwrite` is not set; or it cannot be made.
    """
    if not overwrite:
        refuse_existing(folder / name for name in (SCORES, SHEET))
    make_output_folder(folder)


def write_found(
    folder: Path,
    searches: Sequence[VideoSearch],
    object_ids: Sequence[int],
    settings: dict[str, Any],
    top: int,
) -> None:
    """Write `contact_sheet.png` and, last, `find.json`.

    Args:
        folder: Where; it exists.
        searches: At least one.
        object_ids: The objects, in the order in which they are shown.
        settings: What decided the scores, as plain values.
        top: Most videos for each object on the sheet.

    Raises:
        OutputError: They cannot be written there.
    """
    write_contact_sheet(folder / SHEET, found_panels(searches, object_ids, top))
    report = {
        **settings,
        "appears_from": INSTANCE_SETTINGS.appears_from,
        "videos": found_json(searches, object_ids),
    }
    write_atomically(folder / SCORES, (json.dumps(report) + "\n").encode())
