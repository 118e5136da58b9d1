"""The engine of one machine: worker processes, each with a model and its share of the cores."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Self

from propagate.batch.events import Event, Lost
from propagate.batch.tasks import BatchSettings, Task
from propagate.batch.worker import work

# Seconds that a worker needs at most to finish its files.
STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection


class LocalEngine:
    """Runs tasks in processes on this machine. Use it in a `with` block, which ends them."""

    def __init__(self, settings: BatchSettings, out: Path | str, jobs: int | None) -> None:
        """Take the number of workers. Each is started with its first task.

        Args:
            settings: Of the batch.
            out: Its folder, or a URL.
            jobs: How many workers. One worker uses all cores; several divide them, and those on one
                GPU its memory. None: one.
        """
        jobs = jobs or 1
        self.workers = range(jobs)
        self._settings, self._out = settings, out
        self._threads = None if jobs == 1 else max(1, count_cores() // jobs)
        self._started: dict[int, _Worker] = {}

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to a worker that has none."""
        started = self._started.get(worker)
        if started is not None and not started.process.is_alive():
            # It died while it was idle, so no video is to blame.
            started.connection.close()
            started = None
        if started is None:
            started = self._started[worker] = self._start(worker)
        # If it dies right now, `poll` finds out.
        with suppress(OSError):
            started.connection.send(task)

    def kill(self, worker: int) -> None:
        """End a worker that does not answer. `poll` then reports it as lost."""
        self._started[worker].process.kill()

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for events; return none after the given time."""
        started = self._started.values()
        listened = [w.connection for w in started] + [w.process.sentinel for w in started]
        if not listened:
            time.sleep(timeout_s)
            return []
        ready = wait(listened, timeout_s)
        events: list[Event] = []
        for number, worker in list(self._started.items()):
            if worker.connection in ready or worker.process.sentinel in ready:
                events += self._receive(number, worker)
        return events

    def _receive(self, number: int, worker: _Worker) -> list[Event]:
        events: list[Event] = []
        alive = worker.process.is_alive()
        try:
            while worker.connection.poll():
                events.append(worker.connection.recv())
        except (EOFError, OSError):
            alive = False
        if not alive:
            worker.process.join(timeout=1)
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
            del self._started[number]
            events.append(Lost(number, _how_it_ended(worker.process.exitcode)))
        return events

    def _start(self, worker: int) -> _Worker:
        # A forked process may hang if its parent had threads, and CUDA does not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=work,
            args=(theirs, self._settings, self._out, worker, self._threads, len(self.workers)),
            name=f"propagate-{worker}",
        )
        process.start()
        # Kept open here, the pipe would not close when the worker ends.
        theirs.close()
        return _Worker(process, ours)

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers. A worker in the middle of a video finishes its files."""
        workers = list(self._started.values())
        self._started.clear()
        try:
            for worker in workers:
                worker.process.terminate()
            deadline = time.monotonic() + STOP_S
            for worker in workers:
                worker.process.join(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
                worker.connection.close()


def count_cores() -> int:
    """Count the threads to divide: OMP_NUM_THREADS if it is set, else the cores."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal() and int(allowed) > 0:
        return int(allowed)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = ", as systems do when memory runs out" if name == "SIGKILL" else ""
        return f"its worker was killed by {name}{hint}"
    return f"its worker ended with status {status}"
