"""Hints in errors name settings; the command line spells them as options that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import propagate.errors
from propagate.cli.main import app
from propagate.cli.terminal import as_option, error_text
from tests.paths import ROOT

ERRORS = {name for name in dir(propagate.errors) if name.endswith("Error")} | {
    "ManifestError",
    "UnusableMaskError",
    "StateError",
}
SETTING = re.compile(r"\{(\w+)(?:=([^}]*))?\}")


def option_names(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for child in getattr(command, "commands", {}).values():
        yield from option_names(child)


def hints(file: Path) -> Iterator[str]:
    """The plain texts given as hint to an error of ours."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in ERRORS:
            given = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "hint")]
            for value in given:
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


def settings() -> list[tuple[str, str | None]]:
    found = set()
    for folder in ("propagate", "io", "eval"):
        for file in (ROOT / folder).rglob("*.py"):
            for hint in hints(file):
                found |= {(name, value or None) for name, value in SETTING.findall(hint)}
    return sorted(found, key=str)


@pytest.mark.slow
def test_each_setting_in_a_hint_is_an_option():
    found = settings()
    assert ("overwrite", "True") in found
    known = set(option_names(typer.main.get_command(app)))
    assert [name for name, value in found if as_option(name, value).split()[0] not in known] == []


def test_settings_are_spelled_as_options():
    hint = "pass {overwrite=True}, {short_side_px=480}, {backwards=none} or another {out}"
    spelled = "there; pass --overwrite, --short-side 480, --backwards none or another -o"
    assert error_text("there", hint) == spelled
