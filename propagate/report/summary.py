"""A run as a notebook shows it: a strip of its frames, and a table of its objects."""

from pathlib import Path

from propagate.eval.report.page import templates_in
from propagate.io.masks.display_colours import to_hex
from propagate.report.doubtful import objects_of
from propagate.report.page import facts_of, row_of
from propagate.report.saved import SavedRun
from propagate.report.thumbnails import Look, draw_shots

STRIP = 5
# A longer run shows masks alone: nobody waits for a minute of decoding to see a value.
MOST_DECODED = 1500
_fill = templates_in(Path(__file__).parent)


def summary_html(folder: str | Path) -> str:
    """Describe a run as a piece of HTML.

    Args:
        folder: The folder of a run, finished or not.

    Raises:
        OutputError: There is no readable report of a run in it.
    """
    run = SavedRun(folder)
    frames = run.result["per_frame"]
    object_ids = objects_of(frames)
    last = len(frames) - 1
    positions = sorted({round(i * last / (STRIP - 1)) for i in range(STRIP)}) if frames else []
    shots, colours, why_missing = draw_shots(
        run, dict.fromkeys(positions, Look()), limit=(120, 320), decode=len(frames) <= MOST_DECODED
    )
    html = _fill(
        "summary.html",
        title=run.folder,
        facts=facts_of(run, frames, object_ids),
        shots=shots,
        why_missing=why_missing,
        objects=[
            {**row_of(run, frames, i), "colour": to_hex(colours.get(i, (128, 128, 128)))}
            for i in object_ids
        ],
    )
    return str(html)
