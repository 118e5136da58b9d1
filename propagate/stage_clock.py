"""What the stages of a run report: the seconds they take, and that they are alive.

A stage that takes long calls `show_life` now and then. Whoever watches the run hears it, in
whichever thread the stage runs, and so can tell slow work from work that hangs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

STAGES = ("decode", "features", "match", "refine", "write")

# Threads inherit it: see `propagate.io.decode.prefetch`.
_watcher: ContextVar[Callable[[], None] | None] = ContextVar("watcher", default=None)


def show_life() -> None:
    """Tell whoever watches this work that it goes on; what the watcher raises ends the work."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher()


@contextmanager
def watched_by(watcher: Callable[[], None]) -> Iterator[None]:
    """Call `watcher` at every sign of life of the block, and of the threads that it starts."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


class StageClock:
    """Adds up the seconds spent in each stage of a run. Each start of a stage is a sign of life."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._told: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of the block for a stage."""
        show_life()
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - started

    def add(self, other: "StageClock") -> None:
        """Add what another clock, that of a thread, has counted since it was last added."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds - other._told[stage]
            other._told[stage] = seconds

    def rounded(self) -> dict[str, float]:
        """Seconds per stage, to the millisecond."""
        return {f"{stage}_s": round(seconds, 3) for stage, seconds in self.seconds.items()}
