"""What all commands share: messages and progress on stderr, results on stdout."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from propagate.errors import PropagateError, spelled

if TYPE_CHECKING:
    from propagate.records import Progress


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


# Settings whose option is named differently.
OPTIONS = {
    "both_ways=False": "--forward-only",
    "class_names": "--name",
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


@contextmanager
def progress_of(source: str, unit: str = "frames") -> "Iterator[Progress]":
    """Show a bar with speed and time left on stderr, or plain lines if stderr is not a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        import time

        started = last = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if done == 0 or (now - last < 10 and done != total):
                return
            last = now
            fps = done / (now - started)
            left = f" of about {total}, {max(0, total - done) / fps:.0f} s left" if total else ""
            say(f"{source}: {done} {unit}{left}, {fps:.1f} {unit}/s")

        yield report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}}/{{task.fields[about]}} {unit}"),
        TextColumn(f"{{task.fields[fps]}} {unit}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(Path(source).name or source, total=None, about="?", fps="-")

        def advance(done: int, total: int | None) -> None:
            elapsed = bar.tasks[task].elapsed or 0
            fps = f"{done / elapsed:.1f}" if elapsed else "-"
            bar.update(task, completed=done, total=total, about=total or "?", fps=fps)

        yield advance
