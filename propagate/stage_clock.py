"""How the seconds of a run are divided among its stages."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "features", "match", "refine", "write")


class StageClock:
    """Adds up the seconds spent in each stage of a run."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._told: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of the block for a stage."""
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
