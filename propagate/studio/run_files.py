"""What a run has left in the folder of a project: its masks, their scores, its references."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propagate.dependence import Dependence
from propagate.io.masks.png import mask_files
from propagate.io.write.files import guard_writing
from propagate.io.write.layout import (
    FRAMES,
    INCOMPLETE,
    KEPT,
    MARKER,
    MASKS,
    OVERLAY,
    PAGE,
    REPORT,
    RUN_LENGTHS,
)
from propagate.io.write.project import ObjectLooks, parse_looks
from propagate.io.write.report import write_report
from propagate.records import Result

# Of an object on a frame: its score, its margin, and the first letter of its state.
Track = tuple[float, float, str]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What is there of a run.

    Attributes:
        frames: The frames that have a mask.
        old: Those of them whose mask an earlier run left, and this one has not computed yet.
        tracks: Frame -> object id as text -> its track.
        dependence: What its masks depend on; None: it does not say so.
        looks: Names and colours of its objects, as far as its report gives them.
    """

    frames: frozenset[int] = frozenset()
    old: frozenset[int] = frozenset()
    tracks: Mapping[int, Mapping[str, Track]] = field(default_factory=dict)
    dependence: Dependence | None = None
    looks: ObjectLooks = field(default_factory=ObjectLooks)


def read_run_files(folder: Path, index_of: Callable[[str], int | None]) -> RunFiles:
    """Read a run, finished or not.

    Args:
        folder: Of the run.
        index_of: Gives the frame of a name; None if there is none.
    """
    frames = {index_of(file.stem) for file in mask_files(folder / MASKS)}
    tracks: dict[int, dict[str, Track]] = {}
    settings: Mapping[str, Any] = {}
    looks = ObjectLooks()
    for name in (MARKER, INCOMPLETE, REPORT):
        content = _read_json(folder / name)
        settings = content.get("settings", content) or settings
        with suppress(ValueError):
            looks = parse_looks(content.get("objects") or {}).over(looks)
        for entry in content.get("per_frame", ()):
            _add(tracks, index_of(entry["name"]), entry["objects"])
    if not (folder / REPORT).exists():
        for entry in (*_lines(folder / KEPT), *_lines(folder / FRAMES)):
            if "objects" in entry:  # the first line of the kept frames is about their run
                _add(tracks, index_of(entry["name"]), entry["objects"])
    found = frozenset(index for index in frames if index is not None)
    return RunFiles(
        found,
        found - tracks.keys(),
        {index: track for index, track in tracks.items() if index in found},
        _dependence_in(settings),
        looks,
    )


def _dependence_in(settings: Mapping[str, Any]) -> Dependence | None:
    try:
        return Dependence.from_settings(settings)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def track_of(result: Result) -> dict[str, Track]:
    """Give the tracks of the objects of a frame."""
    return {
        str(i): (round(score, 4), round(result.margins[i], 4), result.states[i][:1])
        for i, score in result.scores.items()
    }


def swap_in_report(
    folder: Path, swapped: tuple[int, int], names: Collection[str], references: Mapping[int, str]
) -> None:
    """Exchange two objects in the report of a finished run; nothing happens without one.

    The files that show all its masks go: they are of the masks as they were.

    Args:
        folder: Of the run.
        swapped: The two ids.
        names: The frames on which they are exchanged.
        references: Frame -> checksum of the references that the masks belong to now.

    Raises:
        OutputError: It cannot be written.
    """
    for name in (RUN_LENGTHS, OVERLAY, PAGE):
        with guard_writing(folder / name):
            (folder / name).unlink(missing_ok=True)
    report = _read_json(folder / REPORT)
    if not report:
        return
    a, b = swapped
    other = {str(a): str(b), str(b): str(a)}

    def entries() -> Iterator[dict[str, Any]]:
        for entry in report["per_frame"]:
            renamed = other if entry["name"] in names else {}
            objects = {
                (renamed[i] if i in renamed else str(i)): (
                    told["score"],
                    told["margin"],
                    told["state"],
                )
                for i, told in entry["objects"].items()
            }
            yield {**entry, "objects": dict(sorted(objects.items(), key=lambda item: int(item[0])))}

    checksums = {str(i): checksum for i, checksum in sorted(references.items())}
    if "reference_objects" in report and checksums != report["references_sha256"]:
        report["reference_objects"] = {
            i: sorted(b if o == a else a if o == b else o for o in ids)
            for i, ids in report["reference_objects"].items()
        }
    head = {key: value for key, value in report.items() if key != "per_frame"}
    head["references_sha256"] = checksums
    # A new run adds up objects in another order: its scores may differ in the last digit.
    head["exchanged"] = [*report.get("exchanged", []), [a, b]]
    write_report(folder / REPORT, head, entries())


def source_of_run(folder: Path) -> str | None:
    """Return the source that the run in a folder has; None if there is none."""
    for name in (REPORT, INCOMPLETE):
        if isinstance(source := _read_json(folder / name).get("source"), str):
            return source
    source = _read_json(folder / MARKER).get("settings", {}).get("source")
    return source if isinstance(source, str) else None


def _add(tracks: dict[int, dict[str, Track]], index: int | None, objects: Any) -> None:
    """Add the objects of a frame, as a report or as a log writes them."""
    if index is None:
        return
    tracks[index] = {}
    for i, told in objects.items():
        if isinstance(told, Mapping):
            told = told["score"], told["margin"], told["state"]
        score, margin, state = told
        tracks[index][i] = (score, margin, state[:1])


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open("rb") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError):
        return  # the last line of a run that was killed
