"""A run: follow objects through a video, and write the folder of its results."""

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.dependence import Dependence
from propagate.errors import counted
from propagate.io.decode.source import Source
from propagate.io.decode.video import FrameSource
from propagate.io.masks.describe import describe_mask
from propagate.io.write.earlier_run import find_finished
from propagate.io.write.files import local_folder
from propagate.io.write.layout import PAGE
from propagate.io.write.run_folder import RunFolder
from propagate.pipeline import Propagator
from propagate.plan import Plan, References, plan_source
from propagate.records import Mask, OnResult, Progress
from propagate.run_check import check_references
from propagate.run_options import RunOptions
from propagate.run_settings import run_settings, versions
from propagate.run_summary import RunSummary, summary_of
from propagate.sitting import Sitting
from propagate.stage_clock import StageClock

if TYPE_CHECKING:
    from propagate.refine.refiner import Refiner

log = logging.getLogger(__name__)

# References that are described one by one.
MOST_DESCRIBED = 20


def run_into_folder(
    propagator: Propagator,
    source: Source,
    references: References,
    out: str | PathLike[str],
    options: RunOptions,
    refine: "Refiner | None" = None,
    name: str | None = None,
    keep_finished: bool = False,
    progress: Progress | None = None,
    clock: StageClock | None = None,
    on_result: OnResult | None = None,
) -> RunSummary:
    """Follow objects through a video and write `out/<name of the video>/`.

    An interrupted run, killed or not, continues from its last saved state. Its files end byte for
    byte as those of an uninterrupted run, except "timing" in the report. The frames up to there are
    decoded again, but not computed again. Live sources cannot be continued.

    Args:
        propagator: The model and its settings.
        source, references: See `Propagator.propagate`. With a frame range, masks keep the names
            that they have in a run over all frames.
        out: Folder for the folders of videos.
        options: How the source is read, and what is written.
        refine: Refines the mask of each frame without a reference. Refined masks go into
            `refined/`, beside the others.
        name: Of the video's folder, instead of its own name.
        keep_finished: Whether to leave a finished run of the same settings as it is, instead of an
            error.
        progress: Called after each frame, also after those of earlier sittings. Of frames that are
            gone back over, the way forwards, the way back and writing count a third each.
        clock: Adds up the seconds of each stage.
        on_result: Called with each frame whose mask was computed and written.

    Raises:
        Stopped: `progress` or `on_result` raised it. The run goes on when it is called again.
        VideoError, MaskError, OutputError: See there. Frames written so far are kept, and
            `incomplete.json` stands where `result.json` would.
    """
    started, clock, out = time.monotonic(), clock or StageClock(), local_folder(out)
    plan = plan_source(source, references, options, propagator.backbone, propagator.config)
    with plan.open() as frames:
        check_references(plan.references, frames, options)
        settings = run_settings(propagator, source, plan, options, refine)
        path = out / (name or frames.info.name)
        if keep_finished and not options.overwrite:
            report = find_finished(path, settings, options.formats, options.overlay)
            if report is not None:
                if options.report and not (path / PAGE).exists():
                    _write_page(path, options)
                return summary_of(path, report)
        made_by = {**versions(), "device": propagator.backbone.device.type}
        # Frames that are gone back over are read a second time, beside their results.
        twice = plan.open() if plan.blocks else nullcontext(frames)
        with (
            twice as beside,
            RunFolder(
                path,
                settings,
                formats=options.formats,
                overlay=options.overlay,
                refined=refine is not None,
                fps=frames.info.fps,
                overwrite=options.overwrite,
                made_by=None if "started" in settings else made_by,
                depends=Dependence.from_settings if options.update else None,
                names=_names_in(plan.references, propagator.config.class_names),
                labels=options.labels,
            ) as folder,
        ):
            _log_what_was_understood(plan, frames)
            watch = progress, on_result
            run = Sitting(
                *(propagator, plan, options, folder, frames, beside, clock, watch, started),
                Dependence.from_settings(settings),
            )
            run.resume()
            run.write_frames(refine)
            run.complete_report()
        if options.report:
            _write_page(path, options)
        return run.summary()


def _write_page(path: Path, options: RunOptions) -> None:
    # Most runs write no page, and what draws it takes a while to import.
    from propagate.report.page import write_report

    write_report(path, options=options.source_options)


def _names_in(references: Mapping[int, Mask], class_names: Mapping[int, str]) -> dict[int, str]:
    """Collect the names of objects; those that were given on purpose come first."""
    names = {i: name for mask in references.values() for i, name in mask.names.items()}
    return {**names, **class_names}


def _log_what_was_understood(plan: Plan, frames: FrameSource) -> None:
    """Say, before the first frame, how the source and its references are read."""
    for note in frames.info.notes:
        log.warning("%s", note)
    for index, mask in islice(plan.references.items(), MOST_DESCRIBED):
        log.info("%s", describe_mask(mask, f"frame {index}"))
        for note in mask.notes:
            log.info("%s: ", mask.source, extra={"note": note})
    if (rest := len(plan.references) - MOST_DESCRIBED) > 0:
        log.info("and masks of %s", counted(rest, "more frame"))
