"""The page about a run: how sure each object was on every frame, and the frames to look at.

The page needs no other file, no network and no script. `run.html` is its template; its frame, the
styles and the script are those of all reports (`propagate.eval.report`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import UndefinedError

from propagate.errors import OutputError, counted
from propagate.eval.report.page import templates_in
from propagate.eval.report.svg import position
from propagate.io.decode.options import SourceOptions
from propagate.io.masks.display_colours import to_hex
from propagate.io.write.files import make_output_folder, refuse_existing, write_atomically
from propagate.io.write.layout import PAGE
from propagate.report.doubtful import LOW_MARGIN, Stretch, doubtful_stretches, objects_of
from propagate.report.saved import SavedRun
from propagate.report.thumbnails import Shot, draw_shots, worst_positions
from propagate.report.timeline import bin_names, make_bins, object_chart, plot_of

# Stretches that are listed: those of the lowest margins.
MOST_STRETCHES = 60
# References and other long lists, as far as they are written out.
MOST_NAMED = 40
# Of the report, what the page shows elsewhere.
_NOT_SETTINGS = (
    *("per_frame", "timing", "versions", "objects", "references_sha256", "reference_objects"),
    *("notes", "damage", "gaps"),
    *("error", "frames", "complete", "object_ids"),
)
_fill = templates_in(Path(__file__).parent)


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    options: SourceOptions | None = None,
) -> Path:
    """Write one HTML page about a run, finished or not.

    It shows score, margin and state of each object over time, lists doubtful stretches, and shows
    the worst frames with their masks. For these the source is read again, up to the last of them;
    if it is gone, the masks are shown alone.

    Args:
        folder: The folder of a run, which holds `result.json` or `incomplete.json`.
        out: The HTML file; None: `report.html` in the folder, which is replaced.
        overwrite: Whether to replace another file at `out`.
        options: How the source is opened.

    Returns:
        The file.

    Raises:
        OutputError: There is no readable report of a run in the folder, or the page cannot be
            written.
    """
    run = SavedRun(folder)
    page = run.folder / PAGE if out is None else Path(out)
    if out is not None:
        if not overwrite:
            refuse_existing([page])
        make_output_folder(page.parent)
    try:
        content = html_of(run, options)
    except (AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        raise OutputError(
            f"{run.folder}: its report is not as a run writes it ({type(error).__name__})",
            "run the video again with {overwrite=True}",
        ) from error
    write_atomically(page, content.encode())
    return page


def html_of(run: SavedRun, options: SourceOptions | None = None) -> str:
    """Write the page about a run as an HTML document."""
    result = run.result
    frames: Sequence[Mapping[str, Any]] = result["per_frame"]
    object_ids = sorted({*objects_of(frames), *map(int, result.get("object_ids", ()))})
    shots, colours, why_missing = draw_shots(run, worst_positions(result), options)
    bins, plot = make_bins(len(frames), len(object_ids)), plot_of(frames)
    names = bin_names(frames, bins)
    rows = [row_of(run, frames, i) for i in object_ids]
    references = run.references()
    titles = {position: f"reference, frame {number}" for position, number in references.items()}
    charts = [
        object_chart(frames, i, bins, names, _rings(shots, i), titles, plot) for i in object_ids
    ]
    stretches = doubtful_stretches(result)
    page = _fill(
        "run.html",
        title=run.folder.resolve().name,
        is_complete=run.is_complete,
        error=result.get("error"),
        notes=[*result.get("notes", ()), *_lines_of(result)],
        facts=facts_of(run, frames, object_ids),
        bins=bins,
        goes_below_0=plot.low < 0,
        bin_names=names,
        objects=[
            {**row, "chart": chart, "colour": to_hex(colours.get(row["id"], (128, 128, 128)))}
            for row, chart in zip(rows, charts, strict=True)
        ],
        low_margin=LOW_MARGIN,
        stretches=[_told(run, frames, shots, stretch) for stretch in _worst(stretches)],
        left_out=max(0, len(stretches) - MOST_STRETCHES),
        shots=[
            {
                "id": _id(shot),
                "picture": shot.picture,
                "caption": f"{_when(run, frames, shot.position)}: {shot.look.what}",
            }
            for shot in shots
        ],
        why_missing=why_missing,
        timing=_timing(result),
        versions=result.get("versions") or {},
        settings=_settings(result, list(references.values())),
        plot=(*plot.inside[:3], position(0, 0, 1, plot)[1]),
        scale=1,
    )
    return str(page)


def clock(seconds: float) -> str:
    """Write a time as minutes, seconds and hundredths: 1:05.20."""
    hundredths = round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{'-' * (seconds < 0 < hundredths)}{minutes}:{rest // 100:02d}.{rest % 100:02d}"


# --- parts of the page ---------------------------------------------------------------------------


def facts_of(run: SavedRun, frames: Sequence[Mapping[str, Any]], object_ids: Sequence[int]) -> str:
    """Say in a line how long a run is, and what it is of."""
    facts = [counted(len(frames), "frame"), counted(len(object_ids), "object")]
    if frames and run.has_times:
        facts.append(f"{clock(frames[0]['time_s'])} to {clock(frames[-1]['time_s'])}")
    if source := run.result.get("source"):
        facts.append(str(source))
    return ", ".join(facts)


def row_of(run: SavedRun, frames: Sequence[Mapping[str, Any]], object_id: int) -> dict[str, Any]:
    """Summarize one object."""
    entries = [(p, e) for p, f in enumerate(frames) if (e := f["objects"].get(str(object_id)))]
    shown = [(position, entry) for position, entry in entries if entry["state"] != "absent"]
    states = [entry["state"] for _, entry in entries]
    row: dict[str, Any] = {"id": object_id, "name": run.looks.names.get(object_id, "")}
    row |= {state: states.count(state) for state in ("tracked", "unsure", "absent")}
    row |= {"score": "-", "margin": "-", "at": "-"}
    if shown:
        position, lowest = min(shown, key=lambda pair: pair[1]["margin"])
        row["score"] = f"{sum(entry['score'] for _, entry in shown) / len(shown):.2f}"
        row["margin"], row["at"] = f"{lowest['margin']:.2f}", frames[position]["name"]
    return row


@dataclass(frozen=True, slots=True)
class _Told:
    """A stretch in words."""

    object_id: int
    frames: str
    times: str
    what: str
    address: str | None


def _told(
    run: SavedRun, frames: Sequence[Mapping[str, Any]], shots: Sequence[Shot], stretch: Stretch
) -> _Told:
    first, last = frames[stretch.first], frames[stretch.last]
    names = first["name"] if stretch.first == stretch.last else f"{first['name']} to {last['name']}"
    times = ""
    if run.has_times:
        times = clock(first["time_s"])
        if stretch.first != stretch.last:
            times += f" to {clock(last['time_s'])}"
    what = [f"absent in {counted(stretch.absent, 'frame')}"] if stretch.absent else []
    what += [f"unsure in {counted(stretch.unsure, 'frame')}"] if stretch.unsure else []
    if stretch.margin is not None:
        what.append(f"lowest margin {stretch.margin:.2f}")
    inside = [shot for shot in shots if stretch.first <= shot.position <= stretch.last]
    address = f"#{_id(inside[0])}" if inside else None
    return _Told(stretch.object_id, names, times, ", ".join(what), address)


def _worst(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Keep the stretches of the lowest margins, in order of time; absence counts as no margin."""
    ranked = sorted(stretches, key=lambda s: (0 if s.margin is None else s.margin, s.first))
    return sorted(ranked[:MOST_STRETCHES], key=lambda s: (s.first, s.object_id))


def _rings(shots: Sequence[Shot], object_id: int) -> dict[int, str]:
    """Link to the pictures that are about an object."""
    return {shot.position: f"#{_id(shot)}" for shot in shots if object_id in shot.look.object_ids}


def _id(shot: Shot) -> str:
    # Made of a number, because names may hold any character.
    return f"f{shot.position}"


def _when(run: SavedRun, frames: Sequence[Mapping[str, Any]], position: int) -> str:
    frame = frames[position]
    time = f", {clock(frame['time_s'])}" if run.has_times else ""
    return f"frame {frame['name']}{time}"


def _lines_of(result: Mapping[str, Any]) -> list[str]:
    """Tell of times in which a live source was away; damage has its line among the notes."""
    return [
        f"away for {gap['seconds']:.1f} s after frame {gap['after']}: {gap['reason']}"
        for gap in list(result.get("gaps", ()))[:MOST_NAMED]
    ]


def _timing(result: Mapping[str, Any]) -> dict[str, str]:
    timing = dict(result.get("timing") or {})
    seconds = timing.pop("seconds", None)
    resumed_at = timing.pop("resumed_at", ())
    told = {}
    if seconds:
        told["all"] = f"{seconds:.1f} s, {len(result['per_frame']) / seconds:.2f} frames a second"
    told |= {name.removesuffix("_s"): f"{value:.1f} s" for name, value in timing.items()}
    if resumed_at:
        told["continued at frame"] = _named(resumed_at)
    return told


def _settings(result: Mapping[str, Any], references: Sequence[int]) -> dict[str, Any]:
    settings = {name: value for name, value in result.items() if name not in _NOT_SETTINGS}
    config = settings.pop("config", {})
    numbers = [int(i) for i in result.get("references_sha256", {})] or references
    return {"references": _named(numbers), **settings, **config}


def _named(numbers: Sequence[int]) -> str:
    more = len(numbers) - MOST_NAMED
    return ", ".join(map(str, numbers[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
