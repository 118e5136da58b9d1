"""`project.json`: the names and colours of a project's objects."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propagate.errors import MaskError
from propagate.io.masks.display_colours import from_hex, to_hex
from propagate.io.masks.palette import palette
from propagate.io.write.files import make_output_folder, write_atomically
from propagate.io.write.layout import PROJECT
from propagate.io.write.project import ObjectLooks, parse_looks
from propagate.records import MAX_OBJECT_ID

LONGEST_NAME = 200
NO_LOOKS = ObjectLooks()


@dataclass(frozen=True, slots=True)
class ProjectObject:
    """What a person calls an object, and how it is shown.

    Attributes:
        name: Any text.
        colour: "#rrggbb".
    """

    name: str
    colour: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > LONGEST_NAME:
            raise MaskError(f"a name of an object is a text of at most {LONGEST_NAME} characters")
        try:
            from_hex(self.colour)
        except (TypeError, ValueError) as error:
            raise MaskError(f"{self.colour!r}: not a colour", "write it as #rrggbb") from error


def colour_of(object_id: int) -> str:
    """Return the colour that DAVIS gives to an id, as "#rrggbb"."""
    return "#" + bytes(palette()[object_id].tolist()).hex()


def default_object(object_id: int, looks: ObjectLooks = NO_LOOKS) -> ProjectObject:
    """Return the object of an id that nobody has named yet.

    Args:
        object_id: The id.
        looks: Names and colours that a run gave to objects.
    """
    colour = looks.colours.get(object_id)
    return ProjectObject(
        looks.names.get(object_id, f"object {object_id}"),
        colour_of(object_id) if colour is None else to_hex(colour),
    )


def is_object_id(value: object) -> bool:
    """Say whether a value is an id of an object."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_OBJECT_ID


def read_project(
    folder: Path, of_run: ObjectLooks = NO_LOOKS
) -> tuple[str | None, dict[int, ProjectObject]]:
    """Read the source and the objects of a project; nothing if there is no readable file.

    Args:
        folder: Of the project.
        of_run: Names and colours that a run gave to objects, where the file gives none.
    """
    try:
        content: Any = json.loads((folder / PROJECT).read_bytes())
        looks = parse_looks(content.get("objects") or {})
        objects: dict[int, ProjectObject] = {}
        for i in sorted({*looks.names, *looks.colours}):
            plain = default_object(i, of_run)
            colour = to_hex(looks.colours[i]) if i in looks.colours else plain.colour
            objects[i] = ProjectObject(looks.names.get(i, plain.name), colour)
        source = content.get("source")
    except (OSError, ValueError, AttributeError, RecursionError, MaskError):
        return None, {}
    return source if isinstance(source, str) else None, objects


def write_project(folder: Path, source: str, objects: Mapping[int, ProjectObject]) -> None:
    """Write the file; it appears complete or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    listed = {str(i): asdict(objects[i]) for i in sorted(objects)}
    make_output_folder(folder)
    text = json.dumps({"source": source, "objects": listed}, indent=1, ensure_ascii=False)
    write_atomically(folder / PROJECT, text.encode())
