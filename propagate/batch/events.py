"""What is said of a run while it goes on: by a worker of a batch, and by `propagate run`."""

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from propagate.batch.records import Advanced, Event, Failed, Finished, Started
from propagate.errors import PropagateError
from propagate.stage_clock import StageClock

if TYPE_CHECKING:
    from propagate.records import Progress
    from propagate.run import RunSummary

Tell = Callable[[Event], None]

# Between two words about a video.
TELL_EVERY_S = 0.5
# A trace goes through a pipe that takes so much at once.
MOST_TRACE = 4000
# The speed told is that of so many seconds.
SPEED_S = 10.0


class Run(Protocol):
    """`Propagator.run`, all of its arguments given but these."""

    def __call__(self, *, progress: "Progress", clock: "Pulse") -> "RunSummary":
        """Run."""
        ...


def run_telling(
    run: Run, worker: int, number: int, tell: Tell, check: Callable[[], None] | None = None
) -> "RunSummary":
    """Run a video, and tell of its beginning, of how far it is now and then, and of its end.

    Args:
        run: The run; its failures are told by `telling_failures`.
        worker: Whose word it is.
        number: Of the video among several.
        tell: Takes the events.
        check: Called before every stage of every frame; what it raises ends the run there.
    """
    tell(Started(worker, number, socket.gethostname(), os.getpid()))
    voice = _Voice(lambda done, total: tell(Advanced(worker, number, done, total)))

    def beat() -> None:
        if check is not None:
            check()
        voice.alive()

    summary = run(progress=voice.progress, clock=Pulse(beat))
    tell(
        Finished(
            worker,
            number,
            summary.frames,
            len(summary.object_ids),
            round(summary.seconds, 3),
            summary.resumed_at,
            summary.was_finished,
        )
    )
    return summary


@contextmanager
def telling_failures(worker: int, number: int, tell: Tell) -> Iterator[None]:
    """Tell of what the block raises, which goes on its way after that."""
    try:
        yield
    except PropagateError as error:
        tell(Failed(worker, number, " ".join(str(error).split())))
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        tell(Failed(worker, number, reason[:MOST_TRACE], traceback.format_exc()[-MOST_TRACE:]))
        raise


class Speed:
    """Frames per second, lately."""

    def __init__(self) -> None:
        """Begin with the first word."""
        self.fps: float | None = None
        self._since: tuple[float, int] | None = None

    def add(self, done: int) -> float | None:
        """Take how many frames are done now; return the speed, as soon as there is one."""
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


class _Voice:
    """Passes on how far a video is, now and then."""

    def __init__(self, tell: Callable[[int, int | None], None]) -> None:
        self._tell = tell
        self._done: int = 0
        self._total: int | None = None
        self._last = time.monotonic()

    def progress(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        if done == 1:
            self._last = 0.0
        self.alive()

    def alive(self) -> None:
        now = time.monotonic()
        if now - self._last >= TELL_EVERY_S:
            self._last = now
            self._tell(self._done, self._total)


class Pulse(StageClock):
    """Says with every stage of every frame that the work goes on: some frames come out late."""

    def __init__(self, beat: Callable[[], None]) -> None:
        """Start at zero; `beat` is called."""
        super().__init__()
        self.beat = beat

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of the block for a stage."""
        self.beat()
        with super().__call__(stage):
            yield
