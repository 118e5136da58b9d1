"""The frames of an earlier run that stay when its references change.

    .kept.jsonl   one line about the run, then a line for each frame whose mask stays

The file is written before anything of the earlier run is removed, and is there until the new run is
finished, so a run that is killed meanwhile loses nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from propagate.io.write.files import PartialFile
from propagate.io.write.layout import KEPT

# What of the settings says which references a run has. All others must be equal.
REFERENCE_SETTINGS = ("references_sha256", "reference_objects", "backwards")


class Keys(Protocol):
    """Names what a result depends on: equal keys of two runs mean equal results."""

    def mask_key(self, frame: int) -> str:
        """Name what the mask of a frame depends on."""
        ...

    def session_key(self, frame: int) -> str:
        """Name what a session depends on that has seen the frames before this one."""
        ...


Entries = Iterable[tuple[int, Mapping[str, Any]]]


def write_kept(
    folder: Path, entries: Entries, count: int | None, made_by: Mapping[str, str]
) -> None:
    """Write which frames stay.

    Args:
        folder: The folder of the run.
        entries: Index and log entry of each, in order.
        count: Frames of the whole video; None: not known.
        made_by: Versions and device.

    Raises:
        OutputError: If it cannot be written.
    """
    partial = PartialFile(folder / KEPT)
    with partial.writing():
        with partial.path.open("w") as lines:
            lines.write(json.dumps({"frames": count, "made_by": dict(made_by)}) + "\n")
            for index, entry in entries:
                lines.write(json.dumps({"index": index, **entry}) + "\n")
        partial.commit()


def read_kept_head(folder: Path) -> dict[str, Any] | None:
    """Read the line about the run; None if no frame stays."""
    try:
        with (folder / KEPT).open() as lines:
            return json.loads(lines.readline())
    except (OSError, ValueError):
        return None


def read_kept(folder: Path, first: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the frames that stay, from a frame on, in order."""
    if not (folder / KEPT).exists():
        return
    with (folder / KEPT).open() as lines:
        next(lines, None)
        for line in lines:
            entry = json.loads(line)
            if (index := entry.pop("index")) >= first:
                yield index, entry


def reported_entries(report: Mapping[str, Any]) -> Entries:
    """Give index and log entry of each frame of a finished run."""
    for index, frame in enumerate(report["per_frame"]):
        objects = {
            i: [value["score"], value["margin"], value["state"]]
            for i, value in frame["objects"].items()
        }
        yield index, {"name": frame["name"], "time_s": frame["time_s"], "objects": objects}


def ranges_of(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Join numbers to ranges: 3, 9, 4, 5 are (3, 5), (9, 9)."""
    ranges: list[tuple[int, int]] = []
    for index in sorted(indices):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    return ranges


def without_references(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out which references a run has."""
    return {name: value for name, value in settings.items() if name not in REFERENCE_SETTINGS}


def have_files(entries: Entries, folders: Sequence[Path], suffix: str) -> Entries:
    """Give the frames that have a file in each of the folders."""
    for index, entry in entries:
        if all((folder / f"{entry['name']}{suffix}").exists() for folder in folders):
            yield index, entry
