"""Fill the templates of the report, which are the other files in this folder.

Jinja escapes every value, so names, messages and file names stay text.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from propagate.eval.report.comparison import percent, score_of


def fill(template: str, **values: Any) -> Markup:
    """Fill a template.

    Args:
        template: Name of its file.
        values: By the names that the template uses.

    Returns:
        HTML, which other templates insert as it is.
    """
    return Markup(_TEMPLATES.get_template(template).render(values))


def words(value: Any) -> str:
    """Write a value of a protocol as text; empty values become an empty text."""
    if isinstance(value, Mapping):
        parts = ((name, words(part)) for name, part in value.items())
        return "; ".join(f"{name}: {text}" for name, text in parts if text)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"json": json.dumps, "percent": percent, "score_of": score_of, "words": words}
