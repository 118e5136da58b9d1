"""Events: what workers report while videos are run, one by one or in a batch."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from propagate.errors import MaskError, ModelError, PropagateError, hide_secrets
from propagate.stage_clock import watched_by

if TYPE_CHECKING:
    from propagate.records import Progress
    from propagate.run_summary import RunSummary

# Seconds between two reports on how far a video is.
REPORT_EVERY_S = 0.5
# Of a traceback: a pipe takes this many characters at once.
MOST_TRACE = 4000
# The reported speed is an average over this many seconds.
SPEED_S = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has its model, and starts a video."""

    worker: int
    number: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """A worker is alive, and has done this many frames; `total` is what the container claims."""

    worker: int
    number: int
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A video is done, now or before this batch with the same settings.

    Attributes:
        seconds: The time of its frames, in all sittings together.
        resumed_at: The frames at which it continued after an interruption.
        notes: Lines about what was wrong with the source.
        made_with: Other versions that it was finished with before; see `RunSummary`.
    """

    worker: int
    number: int
    frames: int
    objects: int
    seconds: float
    resumed_at: tuple[int, ...]
    was_finished: bool
    notes: tuple[str, ...] = ()
    made_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A video cannot be done, as far as this worker can tell.

    Attributes:
        worker: -1 if a file is missing, so that no worker was given the video.
        reason: One line.
        hint: What to do; see `PropagateError`.
        trace: The traceback of an error that is no `PropagateError`.
        may_pass: Whether another attempt can succeed. A mask or a model that cannot be used stays
            so; a file that cannot be read, or a full disk, may get better.
    """

    worker: int
    number: int
    reason: str
    hint: str = ""
    trace: str | None = None
    may_pass: bool = True


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with the video that it had."""

    worker: int
    reason: str


Event = Started | Advanced | Finished | Failed | Lost
EventHandler = Callable[[Event], None]


class Run(Protocol):
    """`Propagator.run`, with all arguments given but these."""

    def __call__(self, *, progress: "Progress") -> "RunSummary":
        """Run."""
        ...


def run_reporting(
    run: Run,
    worker: int,
    number: int,
    on_event: EventHandler,
    check: Callable[[], None] | None = None,
) -> "RunSummary":
    """Run a video, and report its start, how far it is now and then, and its end.

    Every sign of life of the run, in any of its threads, counts: some frames come out late, and
    some models take minutes for a frame, so finished frames alone do not show that work goes on.

    Args:
        run: The run. Its failures are reported by `reporting_failures`.
        worker: Who runs it.
        number: Of the video among several.
        on_event: Takes the events, which may come from any thread of the run.
        check: Called at every sign of life; an exception that it raises ends the run.
    """
    on_event(Started(worker, number, socket.gethostname(), os.getpid()))
    reporter = _ProgressReporter(
        lambda done, total: on_event(Advanced(worker, number, done, total))
    )

    def beat() -> None:
        if check is not None:
            check()
        reporter.alive()

    try:
        with watched_by(beat):
            summary = run(progress=reporter.progress)
    finally:
        reporter.end()
    on_event(
        Finished(
            worker,
            number,
            summary.frames,
            len(summary.object_ids),
            round(summary.seconds, 3),
            summary.resumed_at,
            summary.was_finished,
            summary.notes,
            summary.made_with,
        )
    )
    return summary


@contextmanager
def reporting_failures(worker: int, number: int, on_event: EventHandler) -> Iterator[None]:
    """Report what the block raises, and raise it again."""
    try:
        yield
    except PropagateError as error:
        message = " ".join(error.message.split())
        may_pass = not isinstance(error, MaskError | ModelError)
        on_event(Failed(worker, number, message, error.hint, may_pass=may_pass))
        raise
    except Exception as error:
        reason = hide_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:MOST_TRACE]
        trace = hide_secrets(traceback.format_exc())[-MOST_TRACE:]
        on_event(Failed(worker, number, reason, trace=trace))
        raise


class Speed:
    """Frames per second over the last seconds."""

    def __init__(self) -> None:
        """Start with the first call of `add`."""
        self.fps: float | None = None
        self._since: tuple[float, int] | None = None

    def add(self, done: int) -> float | None:
        """Take how many frames are done now; return the speed, as soon as it is known."""
        now = time.monotonic()
        since, frames = self._since or (now, done)
        if now - since > 1:
            self.fps = round((done - frames) / (now - since), 2)
        if self._since is None or now - since > SPEED_S:
            self._since = now, done
        return self.fps


def as_plain(event: Event, video: str, **more: Any) -> dict[str, Any]:
    """Return an event as plain values, with the time of day and the video's folder of results."""
    about = {
        "event": type(event).__name__.lower(),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "video": video,
    }
    return {**about, **asdict(event), **more}


class _ProgressReporter:
    """Reports now and then how far a video is. Any thread of the run may call it."""

    def __init__(self, report: "Progress") -> None:
        self._report = report
        self._done: int = 0
        self._total: int | None = None
        self._last = time.monotonic()
        self._ended = False
        self._turn = threading.Lock()

    def progress(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        if done == 1:
            self._last = 0.0
        self.alive()

    def alive(self) -> None:
        now = time.monotonic()
        if now - self._last < REPORT_EVERY_S or not self._turn.acquire(blocking=False):
            return  # another thread reports right now
        try:
            if not self._ended:
                self._last = now
                self._report(self._done, self._total)
        finally:
            self._turn.release()

    def end(self) -> None:
        """Report nothing more: a thread of the run may outlive it for a moment."""
        self._ended = True
