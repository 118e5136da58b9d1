"""Groups of objects with scores of their own: attributes, seen and unseen categories.

The groups are read from the files that come with the data sets; none is built in.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from propagate.errors import EvaluationError
from propagate.eval.protocols import Groups, Protocol

_ATTRIBUTE_FILES = ("db_info.yaml", "data/db_info.yaml")

SEEN, UNSEEN = "seen", "unseen"

GroupsOf = Callable[[str, int], Iterable[str]]
"""Maps the name of a sequence and the id of an object to the groups of that object."""


def check_lists(protocol: Protocol, unseen: object, categories: object, attributes: object) -> None:
    """See that the protocol uses the lists that are given.

    Raises:
        ValueError: If it does not use one of them, or if two give the same information.
    """
    if (unseen or categories) and protocol.groups is not Groups.SEEN_AND_UNSEEN:
        raise ValueError(f"unseen, categories: {protocol.title} has no seen and unseen categories")
    if attributes and protocol.groups is not Groups.ATTRIBUTES:
        raise ValueError(f"attributes: {protocol.title} has no attributes")
    if unseen and categories:
        raise ValueError("unseen, categories: give one of the two")


def read_groups(
    protocol: Protocol,
    root: Path,
    unseen: str | Path | None,
    categories: tuple[str | Path, str | Path] | None,
    attributes: str | Path | None,
) -> GroupsOf | None:
    """Read the groups of a data set from the list that is given, or from its root.

    Returns:
        The groups of each object; None if there is no list.

    Raises:
        EvaluationError: If a list cannot be read.
    """
    if unseen:
        return read_unseen_sequences(Path(unseen))
    if categories:
        scored, training = map(Path, categories)
        return read_categories(scored, training)
    if attributes:
        return read_attributes(Path(attributes))
    if protocol.groups is Groups.ATTRIBUTES:
        found = (root / name for name in _ATTRIBUTE_FILES if (root / name).is_file())
        return next(map(read_attributes, found), None)
    return None


def read_attributes(path: Path) -> GroupsOf:
    """Read the attributes of sequences: DAVIS's `db_info.yaml`, or the same as JSON.

    The file holds `sequences`, a list of entries with a `name` and a list of `attributes`. A
    sequence that is not in it has no attribute.

    Raises:
        EvaluationError: If the file cannot be read or has another form.
    """
    import yaml

    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["sequences"]
        table = {str(e["name"]): tuple(map(str, e.get("attributes") or ())) for e in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise _unreadable(path, "a list `sequences` with `name` and `attributes`") from error
    return lambda sequence, _: table.get(sequence, ())


def read_unseen_sequences(path: Path) -> GroupsOf:
    """Read the sequences of unseen categories, one name per line: LVOS's `unseen_videos.txt`.

    Raises:
        EvaluationError: If the file cannot be read or is empty.
    """
    try:
        names = set(path.read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        raise _unreadable(path, "the name of a sequence on each line") from error
    if not names:
        raise _unreadable(path, "the name of a sequence on each line")
    return lambda sequence, _: (UNSEEN if sequence in names else SEEN,)


def read_categories(scored: Path, training: Path) -> GroupsOf:
    """Distinguish seen from unseen objects by YouTube-VOS's two files `meta.json`.

    An object is seen if any object of the training split has its category.

    Args:
        scored: The `meta.json` of the scored split.
        training: The `meta.json` of the training split.

    Raises:
        EvaluationError: If a file cannot be read or has another form. The function that is returned
            raises it for an object that is not in the file.
    """
    category_of = _read_meta(scored)
    known = set(_read_meta(training).values())

    def groups_of(sequence: str, object_id: int) -> tuple[str]:
        category = category_of.get((sequence, object_id))
        if category is None:
            raise EvaluationError(
                f"{scored}: no category for object {object_id} of sequence {sequence}",
                "give the meta.json of the split that is scored",
            )
        return (SEEN if category in known else UNSEEN,)

    return groups_of


def _read_meta(path: Path) -> dict[tuple[str, int], str]:
    try:
        videos: Any = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return {
            (name, int(object_id)): str(entry["category"])
            for name, video in videos.items()
            for object_id, entry in video["objects"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(
            path, "`videos`, their `objects`, and the `category` of each object"
        ) from error


def _unreadable(path: Path, expected: str) -> EvaluationError:
    return EvaluationError(f"{path}: not a readable list", f"give a file that holds {expected}")
