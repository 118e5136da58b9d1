"""Stopping a run from inside."""

from collections.abc import Callable
from typing import Any

from propagate.errors import Stopped


def stop_at(index: int) -> Callable[[Any, Any], None]:
    """Make an `on_result` that stops a run after a frame."""

    def stop(frame: Any, result: Any) -> None:
        if frame.index == index:
            raise Stopped("stopped")

    return stop
