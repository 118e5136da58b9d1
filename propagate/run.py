"""A run: follow objects through a video, and write the folder of its results."""

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.errors import PropagateError, VideoError, counted
from propagate.features.batch_size import (
    batches_matter,
    choose_batch_size,
    frames_at_once,
    remember_batch,
)
from propagate.features.extract import working_size
from propagate.features.read_ahead import batch_frames
from propagate.io.decode.frame_range import first_in_range
from propagate.io.decode.source import Source, damage_line
from propagate.io.decode.video import FrameSource
from propagate.io.masks.describe import describe_mask
from propagate.io.write.layout import PAGE
from propagate.io.write.run_folder import RunFolder, find_finished
from propagate.pipeline import Propagator
from propagate.plan import Plan, References, plan_source
from propagate.records import Frame, Mask, Progress, Result
from propagate.run_check import check_references
from propagate.run_options import RunOptions
from propagate.run_settings import other_versions, run_settings, versions
from propagate.saved_state import Saves, dump_session, load_session
from propagate.session import Session
from propagate.stage_clock import STAGES, StageClock

if TYPE_CHECKING:
    from propagate.refine.refiner import Refiner

log = logging.getLogger(__name__)

# References that are described one by one.
MOST_DESCRIBED = 20


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
        progress: Called after each frame, also after those of earlier sittings.
        clock: Adds up the seconds of each stage.

    Raises:
        VideoError, MaskError, OutputError: See there. Frames written so far are kept, and
            `incomplete.json` stands where `result.json` would.
    """
    started, clock = time.monotonic(), clock or StageClock()
    plan = plan_source(source, references, options, propagator.backbone, propagator.config)
    with plan.open() as frames:
        check_references(plan.references, frames, options)
        settings = run_settings(propagator, source, plan, options, refine)
        path = Path(out) / (name or frames.info.name)
        if keep_finished and not options.overwrite:
            report = find_finished(path, settings, options.formats, options.overlay)
            if report is not None:
                if options.report and not (path / PAGE).exists():
                    _write_page(path, options)
                return _summary_of(path, report)
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
                names=_names_in(plan.references, propagator.config.class_names),
                labels=options.labels,
            ) as folder,
        ):
            _log_what_was_understood(plan, frames)
            run = _Run(propagator, plan, options, folder, frames, beside, clock, progress, started)
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


class _Run:
    """One sitting of a run."""

    def __init__(
        self,
        propagator: Propagator,
        plan: Plan,
        options: RunOptions,
        folder: RunFolder,
        frames: FrameSource,
        beside: FrameSource,
        clock: StageClock,
        progress: Progress | None,
        started: float,
    ) -> None:
        """Take the open source, opened a second time as `beside` if there are blocks."""
        self._propagator, self._plan, self._options = propagator, plan, options
        self._folder, self._source = folder, frames
        self._said = frames.info.notes  # before the first frame
        self._frames = first_in_range(frames, options.max_frames)
        self._beside = first_in_range(beside, options.max_frames) if plan.blocks else self._frames
        self._clock, self._progress, self._started = clock, progress, started
        self._session: Session = propagator.session()
        # Frames that were written, and frames that the session has seen: those outside the range
        # are not written.
        self._done, self._seen, self._seconds = folder.done, 0, 0.0
        self._total = _at_most(frames.info.frame_count, options.max_frames)
        backbone, info = propagator.backbone, frames.info
        self._size = working_size(info.height, info.width, propagator.config, backbone.multiple)
        self._batch_size = self._choose_batch_size()

    def _choose_batch_size(self) -> int | None:
        """Choose the batch size; None where it changes no mask and is left to be chosen later.

        An interrupted run keeps the one it had, so that it ends with the masks of a run without
        interruption.
        """
        backbone, asked = self._propagator.backbone, self._options.batch_size
        if not batches_matter(backbone.device):
            return asked
        recorded, folder = self._folder.batch_size, self._folder
        if recorded is None:
            return asked or choose_batch_size(backbone, self._size)
        if asked not in (None, recorded):
            log.warning("%s: goes on with %d frames at once, as it began", folder.path, recorded)
        if folder.frames_at_once is not None:
            remember_batch(backbone, folder.frames_at_once, self._size)
        return recorded

    def resume(self) -> None:
        """Continue from the saved state, if there is one."""
        folder, device = self._folder, self._propagator.backbone.device
        if folder.session is not None:
            load_session(self._session, folder.session, device, folder.path)
            self._clock.seconds.update(folder.stage_s)
            self._started -= folder.seconds
        number = 0
        for frame in self._read_again(self._beside):
            self._seen += 1
            if frame.in_range:
                number += 1
                folder.rewrite(frame)
                self._report(number)
        if self._beside is not self._frames:
            deque(self._read_again(self._frames), maxlen=0)

    def write_frames(self, refine: "Refiner | None") -> None:
        """Follow the objects through all frames that are left, and write each frame."""
        saves = Saves(self._options.save_every_s)
        # Closed at once if writing fails: its thread reads from the source.
        with closing(self._results()) as results:
            for frame, result in results:
                self._seen += 1
                if not frame.in_range:
                    continue
                refined = self._refined(refine, frame, result)
                with self._clock("write"):
                    self._folder.write(frame, result, refined)
                self._done += 1
                if saves.is_due() and self._may_save():
                    with saves, self._clock("write"):
                        spent = time.monotonic() - self._started
                        state = dump_session(self._session)
                        at_once = frames_at_once(self._propagator.backbone, self._size)
                        self._folder.save(
                            *(state, frame, spent, self._clock.seconds, self._batch_size, at_once)
                        )
                self._report(self._done)

    def complete_report(self) -> None:
        """Complete the report, which the folder writes when it is closed."""
        folder, info = self._folder, self._source.info
        self._seconds = time.monotonic() - self._started
        timing: dict[str, Any] = {"seconds": round(self._seconds, 3), **self._clock.rounded()}
        if folder.resumed_at:
            timing["resumed_at"] = folder.resumed_at
        folder.report(timing=timing)
        if info.gaps:
            folder.report(gaps=[asdict(gap) for gap in info.gaps])
        if info.damage:
            folder.report(damage=[asdict(damage) for damage in info.damage])
        if notes := self._notes():
            folder.report(notes=notes)
        for note in notes:
            if note not in self._said:
                log.warning("%s", note)
        folder.report(
            decoder=info.decoder,
            object_ids=list(self._session.object_ids),
            device=str(self._propagator.backbone.device),
            versions=versions(),
        )

    def _notes(self) -> list[str]:
        """Return lines for a person about what was wrong with the source."""
        info = self._source.info
        damage = damage_line(info.damage)
        return [*info.notes, *([f"{info.name}: {damage}"] if damage else [])]

    def summary(self) -> RunSummary:
        """Summarize the run, once its folder is closed."""
        return RunSummary(
            self._folder.path,
            self._done,
            self._session.object_ids,
            self._seconds,
            dict(self._clock.seconds),
            tuple(self._folder.written),
            self._folder.resumed_at,
            notes=tuple(self._notes()),
        )

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total)

    def _results(self) -> Generator[tuple[Frame, Result], None, None]:
        """Give each frame that is left with its result; go back over the blocks, if any."""
        propagator, plan = self._propagator, self._plan
        if plan.blocks:
            results = propagator.follow_blocks(
                self._session,
                self._frames,
                plan.masks,
                plan.blocks,
                self._seen,
                self._batch_size,
                self._clock,
            )
            return _with_frames(results, self._beside, self._clock)
        return propagator.follow(
            self._session,
            self._frames,
            plan.masks,
            first=self._seen,
            batch_size=self._batch_size,
            clock=self._clock,
        )

    def _refined(self, refine: "Refiner | None", frame: Frame, result: Result) -> np.ndarray | None:
        """Refine a mask, unless a person drew it."""
        if refine is None:
            return None
        with self._clock("refine"):
            is_given = result.index in self._plan.masks
            return result.mask if is_given else refine.refine(frame.image, result.mask)

    def _may_save(self) -> bool:
        """Whether a run that continues from here gives the same masks."""
        in_block = any(block.start < self._seen <= block.end for block in self._plan.blocks)
        if not self._folder.can_save or in_block:
            return False  # a session has seen a whole block before its first result
        # On a GPU, features of a frame in a batch of another size agree to rounding only.
        if not batches_matter(self._propagator.backbone.device):
            return True
        return self._seen % (self._batch_size or 1) == 0

    def _read_again(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Read the frames of earlier sittings again, with the deadline of all reading."""
        propagator, done, count = self._propagator, self._folder.done, 0
        read = batch_frames(
            first_in_range(frames, done),
            propagator.backbone,
            propagator.config,
            batch_size=1,
            clock=self._clock,
        )
        with closing(read):
            for (frame,) in read:
                count += frame.in_range
                yield frame
        if count < done:
            raise VideoError(
                f"frame {count} was there before this run was interrupted, and is gone",
                "pass {overwrite=True} to start again",
            )


def _with_frames(
    results: Generator[Result, None, None], frames: Iterator[Frame], clock: StageClock
) -> Generator[tuple[Frame, Result], None, None]:
    """Give each result with its frame, read for a second time."""
    with closing(results):
        for result in results:
            with clock("decode"):
                frame = next(frames, None)
            if frame is None:
                raise VideoError(
                    f"frame {result.index} was there when the source was read first, and is gone",
                    "leave the source as it is while it is followed",
                )
            yield frame, result


def _summary_of(path: Path, report: Mapping[str, Any]) -> RunSummary:
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


def _at_most(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)
