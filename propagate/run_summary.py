"""What a run left behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propagate.errors import PropagateError
from propagate.run_settings import other_versions
from propagate.stage_clock import STAGES


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run left behind.

    Attributes:
        folder: The folder of the video.
        frames: How many were written.
        object_ids: The objects that were followed.
        seconds: Wall clock, without loading the model; of a run that was interrupted, the time of
            its frames in all sittings.
        stage_s: Seconds of each stage: "decode" (waiting for frames), "features", "match",
            "refine", "write". The first two go on while the frame before is matched and written, so
            together the stages are longer than `seconds`.
        written: The files, for a person to read.
        resumed_at: The frames at which it continued after an interruption.
        was_finished: Whether it had been finished before, and nothing had to be done.
        notes: Lines about what was wrong with the source: frames that were lost or not shown, a
            clock that jumps.
        made_with: Other versions that it was finished with: "torch 2.6.0 (now 2.7.1)".
    """

    folder: Path
    frames: int
    object_ids: tuple[int, ...]
    seconds: float
    stage_s: dict[str, float]
    written: tuple[str, ...]
    resumed_at: tuple[int, ...] = ()
    was_finished: bool = False
    notes: tuple[str, ...] = ()
    made_with: tuple[str, ...] = ()

    def _repr_html_(self) -> str | None:
        """Show the run in a notebook: frames with their masks, and a table of its objects.

        None, which stands for the plain text, if the folder is gone.
        """
        from propagate.report.summary import summary_html

        try:
            return summary_html(self.folder)
        except PropagateError:
            return None


def summary_of(path: Path, report: Mapping[str, Any]) -> RunSummary:
    """Summarize a run that was finished before."""
    timing = report["timing"]
    return RunSummary(
        path,
        report["frames"],
        tuple(report["object_ids"]),
        timing["seconds"],
        {stage: timing[f"{stage}_s"] for stage in STAGES},
        (),
        tuple(timing.get("resumed_at", ())),
        was_finished=True,
        notes=tuple(report.get("notes", ())),
        made_with=tuple(other_versions(report)),
    )
