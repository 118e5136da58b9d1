"""`project.json`: what a person calls the objects of a run, and how they are to be coloured.

    {"objects": {"1": {"name": "cup", "colour": "#ff8c00"}}}

Other entries are left to other programs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.io.masks.display_colours import Colour, from_hex, to_hex
from propagate.io.write.layout import PROJECT
from propagate.records import MAX_OBJECT_ID


@dataclass(frozen=True, slots=True)
class ObjectLooks:
    """How objects are shown to people.

    Attributes:
        names: By object id, as far as they are known.
        colours: By object id, as far as they are known.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, Colour] = field(default_factory=dict)

    def over(self, others: "ObjectLooks") -> "ObjectLooks":
        """Return all that is known here, and what only `others` know."""
        return ObjectLooks({**others.names, **self.names}, {**others.colours, **self.colours})

    def to_json(self) -> dict[str, dict[str, str]]:
        """Return plain values, as `parse_looks` takes them."""
        return {
            str(i): {
                **({"name": self.names[i]} if i in self.names else {}),
                **({"colour": to_hex(self.colours[i])} if i in self.colours else {}),
            }
            for i in sorted({*self.names, *self.colours})
        }


def parse_looks(objects: Any) -> ObjectLooks:
    """Read the names and colours of objects from plain values.

    Args:
        objects: `{"1": {"name": "cup", "colour": "#ff8c00"}}`; each part may be absent.

    Raises:
        ValueError: They are not of this form; the message says where.
    """
    if not isinstance(objects, Mapping):
        raise ValueError("objects is no table of objects")
    names: dict[int, str] = {}
    colours: dict[int, Colour] = {}
    for key, entry in objects.items():
        if not str(key).isdecimal() or not 1 <= int(key) <= MAX_OBJECT_ID:
            raise ValueError(f"object {key!r} is no id from 1 to {MAX_OBJECT_ID}")
        if not isinstance(entry, Mapping):
            raise ValueError(f"object {key} is no table with a name and a colour")
        name, colour = entry.get("name"), entry.get("colour")
        if not isinstance(name, str | None) or not isinstance(colour, str | None):
            raise ValueError(f"object {key}: its name and its colour must be texts")
        if name and name.strip():
            names[int(key)] = " ".join(name.split())
        if colour is not None:
            try:
                colours[int(key)] = from_hex(colour)
            except ValueError as error:
                raise ValueError(f"object {key}: {error}") from error
    return ObjectLooks(names, colours)


def read_project(folder: str | Path) -> ObjectLooks:
    """Read the names and colours that a person gave to the objects of a run; none without the file.

    Args:
        folder: The folder of the run.

    Raises:
        OutputError: The file cannot be read, or says something else.
    """
    file = Path(folder) / PROJECT
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, Mapping):
            raise ValueError("it is no table")
        return parse_looks(content.get("objects") or {})
    except (FileNotFoundError, NotADirectoryError):
        return ObjectLooks()
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OutputError(
            f"{file}: cannot be used ({reason})", "mend it, or remove it to use other colours"
        ) from error
