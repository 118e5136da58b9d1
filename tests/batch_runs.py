"""What tests of batches share: an engine without processes, and all files of a run."""

import json
from collections import deque
from contextlib import contextmanager
from pathlib import Path

from propagate.batch.events import Lost
from propagate.batch.worker import Runner


class HereEngine:
    """An engine of no processes: what an engine has to do, and no more."""

    def __init__(self, settings, out, jobs, disturb=lambda task, event: event):
        self.workers = range(jobs)
        self._runners = [Runner(settings, out, worker, None) for worker in self.workers]
        self._events = deque()
        self._disturb = disturb

    def submit(self, worker, task):
        def tell(event):
            self._events.append(self._disturb(task, event))

        self._runners[worker].run(task, tell)

    def kill(self, worker):
        self._events.append(Lost(worker, "killed"))

    def poll(self, timeout_s):
        events, self._events = list(self._events), deque()
        return events


@contextmanager
def here(settings, out, jobs):
    yield HereEngine(settings, out, jobs)


def files_of(folder: Path, pattern: str = "**/*") -> dict[str, object]:
    """Every file of a folder that fits the pattern; of reports all but the timing."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob(pattern)):
        name = path.relative_to(folder).as_posix()
        if path.name == "result.json":
            found[name] = json.loads(path.read_text()) | {"timing": None}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def assert_same(out: Path, whole: Path) -> None:
    """The folders of videos hold the same; what a batch writes beside them does not count."""
    ours, theirs = (files_of(folder, "*/**/*") for folder in (out, whole))
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
