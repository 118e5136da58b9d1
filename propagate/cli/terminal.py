"""What all commands share: messages and progress on stderr, results on stdout."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from propagate.errors import PropagateError, counted, spelled

if TYPE_CHECKING:
    from propagate.records import Progress


# Seconds between two plain lines of progress.
LINE_EVERY_S = 10.0
# A stage that takes longer than this is named.
SLOW_S = 2.0
CONTINUE = "run the same command again to continue"


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Typer turns a KeyboardInterrupt into a silent exit."""


@contextmanager
def if_interrupted(advice: str) -> Iterator[None]:
    """Let `main` print advice if the block is interrupted."""
    try:
        yield
    except Interrupted as stop:
        stop.add_note(advice)
        raise


def say(text: str) -> None:
    """Print a line to stderr, under the program's name."""
    print(f"propagate: {text}", file=sys.stderr)


@contextmanager
def saying_what_is_slow() -> Iterator[Callable[[str], None]]:
    """Name the stage that a command is in, on stderr, if it goes on for more than a moment.

    with saying_what_is_slow() as now:
        now("loading tiny")
        ...
    """
    timer: threading.Timer | None = None

    def now(what: str | None) -> None:
        nonlocal timer
        if timer is not None:
            timer.cancel()
            timer = None
        if what is not None:
            timer = threading.Timer(SLOW_S, say, (f"{what} ...",))
            timer.daemon = True
            timer.start()

    try:
        yield now
    finally:
        now(None)


# Settings whose option is named differently.
OPTIONS = {
    "class_names": "--name",
    # `batch` has another `--engine`.
    "engine": "--features-engine",
    "follow_timeout_s": "--follow-timeout",
    "isolate=False": "--no-isolate",
    "alpha=True": "--mask-alpha",
    "mask": "-m",
    "value_255": "--mask-255",
    "out": "-o",
    "references": "--reference",
    "short_side_px": "--short-side",
}


def as_option(name: str, value: str | None) -> str:
    """Spell a setting as an option: {device=cpu} is `--device cpu`, {overwrite=True} a flag."""
    if f"{name}={value}" in OPTIONS:
        return OPTIONS[f"{name}={value}"]
    option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    return option if value in (None, "True") else f"{option} {value}"


def error_text(message: str, hint: str) -> str:
    """Join an error's message and hint on one line, settings spelled as options."""
    return " ".join(PropagateError(message, hint).text(as_option).split())


class _Sayings(logging.Handler):
    """Says what the library logs, its settings spelled as options."""

    def emit(self, record: logging.LogRecord) -> None:
        note = getattr(record, "note", "")
        say(record.getMessage() + (spelled(note, as_option) if note else ""))


def say_what_is_logged() -> None:
    """Print to stderr what a run logs: what it understood, and what a person should know."""
    log = logging.getLogger("propagate")
    if not any(isinstance(handler, _Sayings) for handler in log.handlers):
        log.addHandler(_Sayings())
        log.setLevel(logging.INFO)


def say_error(error: PropagateError) -> None:
    """Print an error on one line, whatever a library put into its message."""
    say(f"error: {error_text(error.message, error.hint)}")


def show(renderable: object) -> None:
    """Print to stdout; in a pipe or file, long lines are not wrapped."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(renderable)


def speed_text(speed: float, unit: str = "frames") -> str:
    """Say a speed: "5.3 frames/s", or "25 s a frame" where that reads better.

    >>> speed_text(0.04)
    '25 s a frame'
    """
    if speed and speed < 0.5:
        return f"{1 / speed:.0f} s a {unit[:-1]}"
    return f"{speed:.1f} {unit}/s"


class _Speed:
    """The speed since the first report: what came before it, such as loading a model, is over."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def of(self, done: int) -> float:
        """Return units a second; 0 where it is not known yet."""
        now = time.monotonic()
        if self._first is None or done < self._first[0]:
            self._first = done, now
        count, seconds = done - self._first[0], now - self._first[1]
        return count / seconds if count and seconds else 0.0


@contextmanager
def progress_of(source: str, unit: str = "frames") -> "Iterator[Progress]":
    """Show a bar with speed and time left on stderr, or plain lines if stderr is not a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    speed = _Speed()
    if not console.is_terminal:
        last = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal last
            now, fps = time.monotonic(), speed.of(done)
            if done == 0 or (now - last < LINE_EVERY_S and done != total):
                return
            last = now
            of = f" of about {total}" if total else ""
            line = f"{source}: {counted(done, unit[:-1])}{of}"
            if fps and total:
                line += f", {max(0, total - done) / fps:.0f} s left"
            say(f"{line}, {speed_text(fps, unit)}" if fps else line)

        yield report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}}/{{task.fields[about]}} {unit}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(Path(source).name or source, total=None, about="?", speed="-")

        def advance(done: int, total: int | None) -> None:
            fps = speed.of(done)
            shown = speed_text(fps, unit) if fps else "-"
            bar.update(task, completed=done, total=total, about=total or "?", speed=shown)

        yield advance
