"""The option --log-json: every event of a run or batch in a file, one JSON object a line."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propagate.cli.terminal import say
from propagate.errors import OutputError

if TYPE_CHECKING:
    from propagate.batch.events import EventHandler

Log = Callable[[dict[str, Any]], None]


@contextmanager
def event_log(path: Path | None) -> Iterator[Log]:
    """Open the file, and give a function that adds events to it. None: events are dropped.

    Raises:
        OutputError: The file cannot be written.
    """
    if path is None:
        yield lambda event: None
        return
    try:
        file = path.open("a", buffering=1)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", "choose another {log_json}"
        ) from error
    broken = False

    def write(event: dict[str, Any]) -> None:
        nonlocal broken
        if broken:
            return
        try:
            file.write(json.dumps(event) + "\n")
        except OSError as error:
            # The videos matter more than the log.
            broken = True
            say(f"warning: {path}: {error.strerror}: events are missing from here on")

    try:
        yield write
    finally:
        # On a full disk, closing tries once more to write what did not fit.
        with suppress(OSError):
            file.close()


def logging_to(log: Log, video: str) -> "EventHandler":
    """Give a handler that logs the events of a single run as a batch logs them.

    Args:
        log: From `event_log`.
        video: Its folder of results.
    """
    from propagate.batch.events import Advanced, Event, Failed, Speed, as_plain

    speed = Speed()

    def on_event(event: Event) -> None:
        more: dict[str, Any] = {}
        if isinstance(event, Advanced):
            more = {"fps": speed.add(event.done)}
        elif isinstance(event, Failed):
            more = {"again": False}
        log(as_plain(event, video, **more))

    return on_event
