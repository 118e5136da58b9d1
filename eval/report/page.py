"""Fill the templates of reports. Those that all reports share are the other files in this folder.

Jinja escapes every value, so names, messages and file names stay text.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from propagate.eval.report.comparison import percent, score_of


def words(value: Any) -> str:
    """Write a value of a protocol as text; empty values become an empty text."""
    if isinstance(value, Mapping):
        parts = ((name, words(part)) for name, part in value.items())
        return "; ".join(f"{name}: {text}" for name, text in parts if text)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def templates_in(folder: Path) -> Callable[..., Markup]:
    """Return a function that fills the templates of a folder, which may use the shared ones.

    It takes the name of a template's file, and values by the names that the template uses; it
    returns HTML, which other templates insert as it is.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "json": json.dumps,
        "percent": percent,
        "score_of": score_of,
        "words": words,
    }

    def filled(template: str, **values: Any) -> Markup:
        return Markup(environment.get_template(template).render(values))

    return filled


fill = templates_in(Path(__file__).parent)
