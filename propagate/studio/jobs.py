"""Long work, one at a time, in a thread."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from propagate.errors import PropagateError, Spelling, Stopped
from propagate.studio.answers import Refused

log = logging.getLogger(__name__)

# Progress is told at most this often.
TELL_EVERY_S = 0.2


@dataclass
class Job:
    """Work that is going on.

    Attributes:
        kind: "follow" or "export".
        project: The id of its project.
        publish: Tells what becomes of it.
        done, total: How much is done, of how much, if that is known.
    """

    kind: str
    project: str
    publish: Callable[[str, dict[str, Any] | None], None]
    done: int = 0
    total: int | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _told: float = 0.0

    def progress(self, done: int, total: int | None) -> None:
        """Take a report of the work.

        Raises:
            Stopped: Somebody asked for the end.
        """
        self.done, self.total = done, total
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            self.tell("running")
        if self._stopping.is_set():
            raise Stopped("stopped")

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()

    def tell(self, state: str, error: str | None = None) -> None:
        """Publish the state."""
        self.publish("job", {**self.to_json(), "state": state, "error": error})

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {"kind": self.kind, "done": self.done, "total": self.total}


Work = Callable[[Job], None]


class Jobs:
    """The one job that may run at a time."""

    def __init__(self, spelling: Spelling) -> None:
        """Take how settings in hints are spelled."""
        self._spelling = spelling
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._closed = self._held = False

    def of(self, project: str) -> Job | None:
        """Return the job of a project; None if there is none."""
        job = self._job
        return job if job is not None and job.project == project else None

    def start(self, job: Job, work: Work) -> None:
        """Start work in a thread.

        Args:
            job: Says what is done.
            work: Does it.

        Raises:
            Refused: Another job runs.
        """
        with self._lock:
            self._check_free()
            self._job = job
        self._thread = threading.Thread(
            target=self._do, args=(job, work), name=job.kind, daemon=True
        )
        self._thread.start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no job run during a block.

        Raises:
            Refused: One runs.
        """
        with self._lock:
            self._check_free()
            self._held = True
        try:
            yield
        finally:
            self._held = False

    def _check_free(self) -> None:
        if self._job is not None or self._held or self._closed:
            raise Refused(409, "other work is going on", "wait for its end, or stop it")

    def stop(self, project: str) -> None:
        """Ask the job of a project to end; it ends after its frame."""
        if (job := self.of(project)) is not None:
            job.stop()

    def close(self, patience_s: float = 60.0) -> None:
        """End the job, and wait for that."""
        with self._lock:
            self._closed = True
            job, thread = self._job, self._thread
        if job is not None and thread is not None:
            job.stop()
            thread.join(patience_s)

    def _do(self, job: Job, work: Work) -> None:
        state, line = "finished", None
        try:
            job.tell("running")
            work(job)
        except Stopped:
            state = "stopped"
        except PropagateError as error:
            state, line = "failed", " ".join(error.text(self._spelling).split())
        except Exception as error:
            # The server goes on, whatever happened in the work.
            log.exception("%s failed", job.kind)
            state, line = "failed", f"{job.kind}: {type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._job = None
        job.tell(state, line)
        job.publish("project", None)
