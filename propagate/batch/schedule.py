"""The schedule of a batch: which worker runs which video, and what happens when one fails.

The longest videos come first. A video whose worker dies or hangs is tried again after all others.
The schedule knows nothing about processes: an engine takes tasks and returns events. The results do
not depend on the engine, because one worker at a time writes a video, an interrupted video
continues where it was, and a finished one is left as it is.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from propagate.batch.events import (
    Advanced,
    Event,
    Failed,
    Finished,
    Lost,
    Speed,
    Started,
    as_plain,
)
from propagate.batch.local import LocalEngine
from propagate.batch.manifest import SUMMARY, BatchVideo
from propagate.batch.remote import RemoteOutput, is_url, scratch_of
from propagate.batch.status import VideoStatus, write_status
from propagate.batch.tasks import BatchSettings, Task
from propagate.errors import ClusterError, ModelError, OutputError, PropagateError
from propagate.io.write.files import guard_output_folder, local_folder, write_atomically
from propagate.io.write.lock import take_lock

PlainEventHandler = Callable[[dict[str, Any]], None]
MakeEngine = Callable[[BatchSettings, Path | str, int | None], AbstractContextManager["Engine"]]

# A model may have to be downloaded before a video starts.
LOAD_S = 3600.0
POLL_S = 0.5
# Instead of the number of a worker, where none was given the video.
NO_WORKER = -1
STATUS_EVERY_S = 2.0


class Engine(Protocol):
    """Where tasks are run."""

    @property
    def workers(self) -> Sequence[int]:
        """The numbers of the present workers; a lost one may come back later."""
        ...

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to a worker that has none; a lost worker is replaced first."""
        ...

    def kill(self, worker: int) -> None:
        """End a worker that does not answer; a `Lost` event follows."""
        ...

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for events; return none after the given time."""
        ...


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The outcome of a batch.

    Attributes:
        out: Its folder, or a URL.
        videos: In the order given; their states are "done", "skipped" and "failed".
        seconds: Wall clock.
    """

    out: Path | str
    videos: tuple[VideoStatus, ...]
    seconds: float

    @property
    def failed(self) -> tuple[VideoStatus, ...]:
        """The videos that could not be done."""
        return tuple(video for video in self.videos if video.state == "failed")


def run_batch(
    videos: Sequence[BatchVideo],
    out: str | Path,
    settings: BatchSettings | None = None,
    *,
    jobs: int | None = 1,
    retry: int = 1,
    stall_s: float = 600.0,
    overwrite: bool = False,
    engine: MakeEngine = LocalEngine,
    on_event: PlainEventHandler | None = None,
) -> BatchSummary:
    """Follow the objects of many videos, in several processes.

    Every video is written as `Propagator.run` writes it. An interrupted batch, killed or not,
    continues when it is called again: finished videos are skipped, others continue from their last
    saved state. A script needs the guard `if __name__ == "__main__":`, because workers import it.

    Args:
        videos: From `read_manifest`; their folders differ.
        out: Folder for the folders of videos, and for `summary.jsonl`; or a URL that fsspec knows,
            such as s3://bucket/folder, to which each video is uploaded when it is done.
        settings: How every video is run.
        jobs: Worker processes. Each loads the model, and they divide the cores. None: the engine
            decides.
        retry: How often a video that failed is tried again, after all others.
        stall_s: A worker without a sign of life for this long is killed; its video is tried again.
        overwrite: Whether to replace the runs that are there.
        engine: Makes the engine from the settings, `out` and the number of workers: `RayEngine` for
            a cluster.
        on_event: Called with every event as plain values: "event", "time", "video", ...

    Raises:
        ModelError: A video names classes, and the model takes no text.
        OutputError: Another batch writes there, or nothing can be written.
        ClusterError: Videos are to be decoded in separate processes, which this system lacks.
        ValueError: A number is too small, or two videos share a folder.
    """
    if (jobs is not None and jobs < 1) or retry < 0 or stall_s <= 0:
        raise ValueError(
            f"jobs 1 or more, retry 0, stall_s above 0, not {jobs}, {retry}, {stall_s}"
        )
    if len({video.folder for video in videos}) < len(videos):
        raise ValueError("videos: two of them share a folder")
    settings = settings or BatchSettings()
    named = next((video for video in videos if video.names), None)
    if named is not None:
        # It imports PyTorch, which the process of a batch needs for nothing else.
        from propagate.features.registry import takes_text

        if takes_text(settings.model) is False:
            raise ModelError(
                f"{named.place or named.folder}: names classes, and model {settings.model} takes "
                "no text",
                "leave the names out, or pass another {model}",
            )
    if sys.platform == "win32" and settings.run.source_options.isolate:
        raise ClusterError(
            "decoding in a separate process works on Linux and macOS only", "pass {isolate=False}"
        )
    store = RemoteOutput(out) if is_url(out) else None
    if not is_url(out):
        local_folder(out)
    out = out if is_url(out) else Path(out)
    # URLs have no locks: only batches on the same machine exclude each other.
    home = scratch_of(out)
    started = time.monotonic()
    with _claimed(home), engine(settings, out, jobs) as running:
        # A folder that has a summary is complete.
        (home / SUMMARY).unlink(missing_ok=True)
        if store is not None:
            store.remove(SUMMARY)
        schedule = _Schedule(videos, home, running, retry, stall_s, overwrite, on_event)
        try:
            schedule.run()
        finally:
            schedule.write_status()
        lines = [json.dumps(_plain(video)) + "\n" for video in schedule.videos]
        write_atomically(home / SUMMARY, "".join(lines).encode())
        if store is not None:
            store.write(SUMMARY, "".join(lines).encode())
    return BatchSummary(out, tuple(schedule.videos), time.monotonic() - started)


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    with guard_output_folder(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = take_lock(out)
    with lock:
        yield


def _plain(video: VideoStatus) -> dict[str, Any]:
    """Make a line of the summary."""
    return {
        "video": video.video,
        "folder": video.folder,
        "status": video.state,
        "reason": _reason(video) if video.state == "failed" else None,
        "frames": video.frames,
        "seconds": video.seconds,
        "attempts": video.attempts,
    }


def _reason(video: VideoStatus) -> str:
    return str(PropagateError(video.reason or "", video.hint))


@dataclass(slots=True)
class _Running:
    """The task of a worker.

    Attributes:
        number: Of the video.
        last_event_s: When the last event of the worker came.
        has_started: Whether the worker has its model.
        speed: Of its frames.
        killed: Why its worker was killed.
    """

    number: int
    last_event_s: float
    has_started: bool = False
    speed: Speed = field(default_factory=Speed)
    killed: str | None = None


class _Schedule:
    """Hands out tasks, and keeps the status of each video."""

    def __init__(
        self,
        videos: Sequence[BatchVideo],
        out: Path,
        engine: Engine,
        retry: int,
        stall_s: float,
        overwrite: bool,
        on_event: PlainEventHandler | None,
    ) -> None:
        self._given, self._out, self._engine = videos, out, engine
        self._retry, self._stall_s, self._overwrite = retry, stall_s, overwrite
        self._on_event = on_event or (lambda event: None)
        self.videos = [VideoStatus(video.folder, str(video.video)) for video in videos]
        # A long video started last would keep one worker busy while the others are idle.
        longest_first = sorted(range(len(videos)), key=lambda n: -videos[n].about_frames)
        self._waiting = deque(longest_first)
        self._running: dict[int, _Running] = {}
        # With `overwrite`, a video starts again once; a second attempt continues the first.
        self._advanced: set[int] = set()
        self._written = 0.0

    def run(self) -> None:
        """Work until every video is done or has failed."""
        while self._waiting or self._running:
            self._hand_out()
            for event in self._engine.poll(POLL_S):
                self._take(event)
            self._end_stalled()
            if time.monotonic() - self._written >= STATUS_EVERY_S:
                self.write_status()

    def write_status(self) -> None:
        """Write the status; a full disk must not end the batch."""
        with suppress(OutputError):
            write_status(self._out, self.videos)
        self._written = time.monotonic()

    def _hand_out(self) -> None:
        for worker in self._engine.workers:
            if worker in self._running or not self._waiting:
                continue
            while (number := self._next()) is None and self._waiting:
                pass
            if number is None:
                return
            overwrite = self._overwrite and number not in self._advanced
            self._running[worker] = _Running(number, time.monotonic())
            self._change(number, state="running", attempts=self.videos[number].attempts + 1)
            self._engine.submit(worker, Task(number, self._given[number], overwrite))

    def _next(self) -> int | None:
        """Take the next video that waits; None if a file of it is missing, which fails it alone."""
        number = self._waiting.popleft()
        reason = self._given[number].missing()
        if reason is None:
            return number
        hint = "put the file there, or correct the path, and run the batch again"
        failed = Failed(NO_WORKER, number, reason, hint, may_pass=False)
        self._change(number, state="failed", reason=reason, hint=hint)
        self._report(failed, number, again=False)
        return None

    def _take(self, event: Event) -> None:
        running = self._running.get(event.worker)
        if running is None:
            return  # a worker without a task was lost
        number = running.number
        running.last_event_s = time.monotonic()
        match event:
            case Started():
                running.has_started = True
                self._report(event, number)
            case Advanced():
                self._advanced.add(number)
                fps = running.speed.add(event.done)
                self._change(number, done=event.done, total=event.total, fps=fps)
                self._report(event, number, fps=fps)
            case Finished():
                del self._running[event.worker]
                state = "skipped" if event.was_finished else "done"
                self._change(
                    number,
                    state=state,
                    done=event.frames,
                    total=event.frames,
                    fps=None,
                    frames=event.frames,
                    seconds=event.seconds,
                )
                self._report(event, number)
            case Failed() | Lost():
                del self._running[event.worker]
                reason = running.killed or event.reason
                hint = event.hint if isinstance(event, Failed) and not running.killed else ""
                may_pass = not isinstance(event, Failed) or event.may_pass
                again = may_pass and self.videos[number].attempts <= self._retry
                state = "waiting" if again else "failed"
                self._change(number, state=state, reason=reason, hint=hint, fps=None)
                if again:
                    self._waiting.append(number)
                self._report(event, number, reason=reason, hint=hint, again=again)

    def _end_stalled(self) -> None:
        now = time.monotonic()
        for worker, running in self._running.items():
            allowed_s = self._stall_s if running.has_started else max(self._stall_s, LOAD_S)
            if running.killed is None and now - running.last_event_s > allowed_s:
                running.killed = f"no progress for {allowed_s:g} s: its worker was killed"
                self._engine.kill(worker)

    def _change(self, number: int, **entries: Any) -> None:
        self.videos[number] = replace(self.videos[number], **entries)

    def _report(self, event: Event, number: int, **more: Any) -> None:
        self._on_event(as_plain(event, self._given[number].folder, **more))
