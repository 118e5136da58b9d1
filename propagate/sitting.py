"""One sitting of a run: what is there is taken over, the other frames are followed and written."""

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.dependence import Dependence, Stretch, plan_stretches
from propagate.errors import Stopped, VideoError
from propagate.features.batch_size import (
    batches_matter,
    choose_batch_size,
    frames_at_once,
    remember_batch,
)
from propagate.features.extract import working_size
from propagate.features.read_ahead import batch_frames
from propagate.io.decode.frame_range import first_in_range
from propagate.io.decode.source import damage_line
from propagate.io.decode.video import FrameSource
from propagate.io.write.run_folder import RunFolder
from propagate.pipeline import Propagator
from propagate.plan import Plan, check_within
from propagate.records import Frame, Mask, OnResult, Progress, Result
from propagate.run_options import RunOptions
from propagate.run_settings import versions
from propagate.run_summary import RunSummary
from propagate.saved_state import Saves, dump_session, load_session
from propagate.session import Session
from propagate.stage_clock import StageClock

if TYPE_CHECKING:
    from propagate.refine.refiner import Refiner

log = logging.getLogger(__name__)


class Sitting:
    """One sitting of a run, from the folder as it is to the report."""

    def __init__(
        self,
        propagator: Propagator,
        plan: Plan,
        options: RunOptions,
        folder: RunFolder,
        frames: FrameSource,
        beside: FrameSource,
        clock: StageClock,
        watch: tuple[Progress | None, OnResult | None],
        started: float,
        dependence: Dependence,
    ) -> None:
        """Take the open source, opened a second time as `beside` if there are blocks."""
        self._propagator, self._plan, self._options = propagator, plan, options
        self._folder, self._source = folder, frames
        self._said = frames.info.notes  # before the first frame
        self._frames = first_in_range(frames, options.max_frames)
        self._beside = first_in_range(beside, options.max_frames) if plan.blocks else self._frames
        self._clock, self._started = clock, started
        self._progress, self._on_result = watch
        self._dependence = dependence
        self._session: Session = propagator.session()
        self._goes_on = False  # whether the session has seen the frames so far
        # What a session needs that starts later.
        self._first: Frame | None = None
        self._first_reference: tuple[Frame, Mask] | None = None
        self._saves = Saves(options.save_every_s)
        # Frames that were written, and frames that the session has seen: those outside the range
        # are not written.
        self._done, self._seen, self._seconds = 0, 0, 0.0
        self._total = _at_most(frames.info.frame_count, options.max_frames)
        # The frames done when a block was begun, how many it has, and the most that was reported.
        self._before_block, self._in_block, self._reported = 0, 0, 0
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
            self._goes_on = True
            self._clock.seconds.update(folder.stage_s)
            self._started -= folder.seconds
        self._take_over(folder.done)

    def write_frames(self, refine: "Refiner | None") -> None:
        """Compute and write all frames that are not there, and take over the others."""
        folder = self._folder
        stretches = [Stretch(self._seen, self._seen, None)]
        if folder.kept:
            stretches = plan_stretches(
                self._dependence, self._seen, folder.kept, folder.frame_count, self._goes_on
            )
        for stretch in stretches:
            self._take_over(stretch.replay - self._seen)
            if not self._goes_on:
                self._start_session()
            self._goes_on = False
            # Closed at once if writing fails: its thread reads from the source.
            with closing(self._results(stretch)) as results:
                self._write(results, stretch.start, refine)
        if folder.frame_count is not None:
            self._take_over(folder.frame_count - self._seen)
            if next(iter(self._frames), None) is not None:
                raise VideoError(
                    f"there are more than the {folder.frame_count} frames that there were when "
                    "this source was followed before",
                    "pass {overwrite=True} to start again",
                )
        check_within(self._plan.masks, self._seen)

    def _take_over(self, count: int) -> None:
        """Take over the masks of the next frames of the range."""
        for frame in self._read_again(self._beside, count):
            if frame.in_range:
                self._keep(frame)
            else:
                self._see(frame)
        if self._beside is not self._frames:
            deque(self._read_again(self._frames, count), maxlen=0)

    def _keep(self, frame: Frame) -> None:
        """Take over the mask of a frame."""
        self._folder.rewrite(frame)
        self._keep_reference(frame)
        self._see(frame)
        self._done += 1
        self._tell(frame, None)

    def _see(self, frame: Frame) -> None:
        if self._seen == 0:
            self._first = frame
        mask = self._plan.masks.get(self._seen)
        if self._first_reference is None and mask is not None and mask.object_ids:
            self._first_reference = frame, mask
        self._seen += 1

    def _keep_reference(self, frame: Frame) -> None:
        mask = self._plan.references.get(frame.index)
        if mask is not None:
            self._folder.keep_reference(frame, mask)

    def _start_session(self) -> None:
        """Start following at the next frame."""
        self._session = self._propagator.session()
        if self._first is None:
            return
        (features,), reference = self._session.extract([self._first]), None
        if self._first_reference is not None:
            frame, mask = self._first_reference
            reference = self._session.extract([frame])[0], mask
        self._session.start_at(self._seen, self._first.image.shape[:2], features, reference)

    def _write(
        self,
        results: Generator[tuple[Frame, Result], None, None],
        start: int,
        refine: "Refiner | None",
    ) -> None:
        """Write results from a frame on; those before are only needed to get there."""
        for frame, result in results:
            if not frame.in_range:
                self._see(frame)
            elif self._seen < start:
                self._keep(frame)
            else:
                self._see(frame)
                refined = self._refined(refine, frame, result)
                with self._clock("write"):
                    self._folder.write(frame, result, refined)
                    self._keep_reference(frame)
                self._done += 1
                if self._saves.is_due() and self._may_save():
                    self._save(frame)
                self._tell(frame, result)

    def _save(self, frame: Frame) -> None:
        """Save the state after a frame."""
        with self._saves, self._clock("write"):
            spent = time.monotonic() - self._started
            state = dump_session(self._session)
            at_once = frames_at_once(self._propagator.backbone, self._size)
            self._folder.save(
                *(state, frame, spent, self._clock.seconds, self._batch_size, at_once)
            )

    def _tell(self, frame: Frame, result: Result | None) -> None:
        """Call back; who asks for the end then finds the state saved."""
        try:
            if self._on_result is not None and result is not None:
                self._on_result(frame, result)
            self._report(self._done_with_blocks())
        except Stopped:
            if result is not None and self._may_save():
                self._save(frame)
            raise

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
            object_ids=list(self._object_ids()),
            device=str(self._propagator.backbone.device),
            versions=versions(),
        )

    def _object_ids(self) -> tuple[int, ...]:
        """Give the objects of the references that were reached, in the order they were given."""
        reached = [mask for index, mask in sorted(self._plan.masks.items()) if index < self._seen]
        return tuple(dict.fromkeys(i for mask in reached for i in mask.object_ids))

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
            self._object_ids(),
            self._seconds,
            dict(self._clock.seconds),
            tuple(self._folder.written),
            self._folder.resumed_at,
            notes=tuple(self._notes()),
        )

    def _report(self, done: int) -> None:
        self._reported = max(self._reported, done)
        if self._progress is not None:
            self._progress(self._reported, self._total)

    def _done_with_blocks(self) -> int:
        """Count a frame of a block as done by a third when it is written: see `_report_pass`."""
        written = self._done - self._before_block
        if written >= self._in_block:
            return self._done
        return self._before_block + (2 * self._in_block + written) // 3

    def _report_pass(self, count: int, passed: int) -> None:
        """Report work on a block before its first result.

        Each of its frames is passed forwards, passed backwards and written: a third each.
        """
        self._before_block, self._in_block = self._done, count
        if (done := self._done + passed // 3) > self._reported:
            self._report(done)

    def _results(self, stretch: Stretch) -> Generator[tuple[Frame, Result], None, None]:
        """Give each frame of a stretch with its result; go back over the blocks, if any."""
        propagator, plan, stop = self._propagator, self._plan, stretch.stop
        frames: Iterable[Frame] = self._frames
        masks, blocks = plan.masks, plan.blocks
        if stop is not None:
            frames = islice(self._frames, stop - self._seen)
            masks = {index: mask for index, mask in masks.items() if index < stop}
            blocks = [block for block in blocks if block.end < stop]
        if plan.blocks:
            blocks = [block for block in blocks if block.end >= stretch.start]
            results = propagator.follow_blocks(
                *(self._session, frames, masks, blocks, self._seen, self._batch_size, self._clock),
                on_pass=self._report_pass,
            )
            return _with_frames(results, self._beside, self._clock)
        return propagator.follow(
            self._session,
            frames,
            masks,
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

    def _read_again(self, frames: Iterable[Frame], count: int) -> Iterator[Frame]:
        """Read so many frames of the range, whose masks are there, with the usual deadline."""
        if count <= 0:
            return
        propagator, found = self._propagator, 0
        read = batch_frames(
            first_in_range(frames, count),
            propagator.backbone,
            propagator.config,
            batch_size=1,
            clock=self._clock,
        )
        with closing(read):
            for (frame,) in read:
                found += frame.in_range
                yield frame
        if found < count:
            raise VideoError(
                f"frame {self._seen} was there when this source was followed before, and is gone",
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


def _at_most(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)
