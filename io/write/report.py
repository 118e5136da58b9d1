"""`result.json`, the report of a run."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.io.write.files import PartialFile
from propagate.io.write.layout import REPORT


def read_report(path: str | Path) -> dict[str, Any] | None:
    """Read the report of a finished run; None if there is none.

    Args:
        path: The folder of the run.

    Raises:
        OutputError: If the report cannot be read.
    """
    file = Path(path) / REPORT
    if not file.exists():
        return None
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{file}: not a readable report ({error})", "remove the folder and run it again"
        ) from error


def write_report(
    file: Path, entries: Mapping[str, Any], frames: Iterable[Mapping[str, Any]]
) -> None:
    """Write a report; it appears complete or not at all.

    Args:
        file: The JSON file.
        entries: All of the report but the frames.
        frames: The log entries of the frames; one is in memory at a time.

    Raises:
        OutputError: If it cannot be written.
    """
    head = json.dumps(entries, indent=1)
    partial = PartialFile(file)
    with partial.writing():
        with partial.path.open("w") as lines:
            lines.write(head.removesuffix("\n}") + ',\n "per_frame": [')
            separator = "\n  "
            for frame in frames:
                lines.write(separator + json.dumps(_reported(frame)))
                separator = ",\n  "
            lines.write("\n ]\n}\n")
        partial.commit()


def _reported(frame: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the log entry of a frame to its entry in the report."""
    objects = {
        i: {"score": round(score, 4), "margin": round(margin, 4), "state": state}
        for i, (score, margin, state) in frame["objects"].items()
    }
    return {"name": frame["name"], "time_s": frame["time_s"], "objects": objects}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in which settings a run differs from a finished one, a line for each.

    Args:
        before: The report of the finished run, which may hold more than settings.
        now: The settings of the run.

    Returns:
        Such as "config.short_side_px was 480, is 720"; long values are left out. Empty if the
        settings are the same.
    """
    # As a report gives them back: keys are text, tuples are lists.
    return _differences(before, json.loads(json.dumps(now)), "")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for name, value in now.items():
        old = before.get(name)
        if old == value or (name == "source" and not prefix and are_same_file(old, value)):
            continue
        if isinstance(old, Mapping) and isinstance(value, Mapping) and value:
            found += _differences(old, value, f"{prefix}{name}.")
            found += [f"{prefix}{name}.{key} is gone" for key in old.keys() - value.keys()]
        elif len(f"{old}{value}") < 100:
            found.append(f"{prefix}{name} was {old}, is {value}")
        else:
            found.append(f"{prefix}{name} differs")
    return found


def are_same_file(one: Any, other: Any) -> bool:
    """Whether two paths lead to one file, however they are spelled."""
    try:
        return os.path.samefile(one, other)
    except (OSError, TypeError, ValueError):
        return False
