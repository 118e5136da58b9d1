"""Wrong usage: addresses where a path belongs, and arguments that are repeated in messages."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import typer

from propagate.errors import hide_secrets, shown_address

# What typer raises for wrong usage; it has no public name.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


def refuse_addresses(app: typer.Typer) -> None:
    """Let every option and argument that is a path refuse addresses and empty texts.

    A path made of an address loses a slash, and would be made or looked for on this machine.

    Args:
        app: With its commands and the groups below it.
    """
    for group in app.registered_groups:
        if group.typer_instance is not None:
            refuse_addresses(group.typer_instance)
    for command in app.registered_commands:
        if command.callback is None:
            continue
        for parameter in inspect.signature(command.callback).parameters.values():
            kind, *about = get_args(parameter.annotation) or (parameter.annotation,)
            if kind in (Path, Path | None, list[Path], list[Path] | None):
                for info in about:
                    info.parser = path_here


def path_here(given: str | Path) -> Path:
    """Read a path on this machine; a default is one already.

    Raises:
        BadParameter: It is an address, or empty.
    """
    text = str(given)
    if not text:
        raise typer.BadParameter("is empty; give a path")
    if "://" in text:
        raise typer.BadParameter(
            f"{shown_address(text)} is an address; give a path on this machine"
        )
    return Path(text)


path_here.__name__ = "path"  # typer shows it in the help


def show_usage_error(error: Exception, arguments: Sequence[str]) -> int:
    """Print a usage error without the secrets of the arguments; return the exit status."""
    told: Any = error
    told.message = without_secrets(told.message, arguments)
    told.show()
    return told.exit_code


def without_secrets(text: str, arguments: Sequence[str]) -> str:
    """Hide the secrets of addresses in a text that may repeat some of the arguments.

    An argument is known as a whole, so a space or a quote in its password does no harm.
    """
    for argument in arguments:
        for part in (argument, argument.partition("=")[2]):
            if "://" in part:
                text = text.replace(repr(part), repr(shown_address(part)))
                text = text.replace(part, shown_address(part))
    return hide_secrets(text)
