"""The command `propagate`: its commands, its version, and how it ends.

Exit status 0: done. 1: an error, one line on stderr. 2: wrong usage, with typer's usage text. 130:
interrupted by Ctrl-C or SIGTERM. Heavy imports stand inside the commands, so that `--help` answers
at once.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer
from typer.main import get_command

from propagate.cli.batch import batch, status
from propagate.cli.benchmark import benchmark_app
from propagate.cli.evaluate import eval_app
from propagate.cli.features import features
from propagate.cli.find import find
from propagate.cli.models import models
from propagate.cli.prompt import prompt
from propagate.cli.report import report
from propagate.cli.run import run
from propagate.cli.segment import segment
from propagate.cli.studio import studio
from propagate.cli.terminal import Interrupted, say, say_error
from propagate.cli.usage import USAGE_ERROR, refuse_addresses, show_usage_error
from propagate.errors import DeviceError, PropagateError, hide_secrets, is_out_of_memory

INTERRUPTED = 130
# What writing says where there is no room.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

app = typer.Typer(
    name="propagate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Follow object instances through a video from one labelled frame, training nothing.\n\n"
    "Example: propagate run clip.mp4 -m first.png -o out --overlay",
)
app.add_typer(eval_app, name="eval")
app.add_typer(benchmark_app, name="benchmark")
for command in (run, prompt, studio, batch, status, report, models, features, find, segment):
    app.command()(command)
refuse_addresses(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"propagate {version('propagate-video')}")
        except PackageNotFoundError:
            print("propagate, not installed: run from a checkout")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback instead of a one-line error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Declare the options that all commands share."""
    # `main` looks for --debug itself: it must know before anything is parsed.


def program() -> None:
    """Be the program: run the command line, and end the process."""
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    _end(status)


def _end(status: str | int | None) -> None:
    """End the process, without the interpreter's help if a thread is still in native code.

    Such a thread would be ended when it comes back, and C++ then aborts the process: "terminate
    called without an active exception". All files are finished by now, so a signal ends it at once:
    raised here, its exception would leave threads behind in the same way.
    """
    number = status if isinstance(status, int) else int(status is not None)
    _on_signals(lambda *_: os._exit(INTERRUPTED))
    prefetch = sys.modules.get("propagate.io.decode.prefetch")
    if prefetch is not None and not prefetch.end_threads():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(number)
    # The interpreter gives signals back to the system while it ends, which would lose the status.
    _on_signals(signal.SIG_IGN)
    sys.exit(status)


def main() -> None:
    """Run the command line; an error is one line on stderr and exit status 1."""
    debug = "--debug" in sys.argv[1:]
    _on_signals(_interrupt)
    try:
        status = get_command(app)(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except typer.Abort:
        sys.exit(1)
    except USAGE_ERROR as error:
        sys.exit(show_usage_error(error, sys.argv))
    except OSError as error:
        if debug or error.errno not in FULL or not _stdout_is_full():
            raise
        say_error(PropagateError(f"standard output: cannot be written ({error.strerror})"))
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        say_error(DeviceError("there is not enough memory", "pass a smaller {short_side_px}"))
        sys.exit(1)
    except PropagateError as error:
        if debug:
            # Libraries put addresses into the errors that caused this one.
            print(hide_secrets(traceback.format_exc()), end="", file=sys.stderr)
        else:
            say_error(error)
        sys.exit(1)
    except Interrupted as stop:
        if debug:
            raise
        say("; ".join(["interrupted", *getattr(stop, "__notes__", [])]))
        sys.exit(INTERRUPTED)


def _stdout_is_full() -> bool:
    """Say whether stdout takes not even a line. What it still holds is dropped then."""
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _interrupt(number: int, _frame: object) -> None:
    """Let Ctrl-C and SIGTERM end a run alike: files are finished, the report is written."""
    raise Interrupted(f"stopped by {signal.Signals(number).name}")


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Under nohup, or behind a shell's "&", a signal is ignored, and stays so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
