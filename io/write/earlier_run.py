"""What an earlier run left in a folder: it is refused, gone on with, or kept in part."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.io.masks.png import SUFFIX, mask_file, mask_files
from propagate.io.write.files import REPLACE_HINT, is_partial
from propagate.io.write.kept_frames import (
    Entries,
    Keys,
    have_files,
    read_kept,
    read_kept_head,
    reported_entries,
    without_references,
    write_kept,
)
from propagate.io.write.layout import (
    FRAMES,
    INCOMPLETE,
    KEPT,
    MARKER,
    MASKS,
    OVERLAY,
    PROJECT,
    REFERENCES,
    REPORT,
    RUN_LENGTHS,
    STATE,
)
from propagate.io.write.lock import LOCK, take_lock
from propagate.io.write.report import differences, read_report
from propagate.io.write.run_state import RunProgress, StateError, read_log, read_state

log = logging.getLogger(__name__)

# Most settings that a message names.
MOST_DIFFERENCES = 3
# Files that are in the folder only while its run is not finished. The marker is removed last: files
# without it are taken for those of another run.
_WORK_FILES = (INCOMPLETE, STATE, FRAMES, KEPT, MARKER)
# Files of a person, in the folder before the first run and after the last.
OWN_FILES = (REFERENCES, PROJECT)


def find_finished(
    path: str | Path,
    settings: Mapping[str, Any],
    formats: Sequence[str] = ("png",),
    overlay: bool = False,
) -> dict[str, Any] | None:
    """Read the report of a finished run that need not be repeated; None if there is none.

    Args:
        path: The folder of the run.
        settings: Everything that decides the masks; the run must have the same.
        formats: See `RunFolder`; the run must have written these.
        overlay: See `RunFolder`.

    Raises:
        OutputError: If the report cannot be read.
    """
    path = Path(path)
    report = read_report(path)
    wanted = {MASKS: "png" in formats, RUN_LENGTHS: "rle" in formats, OVERLAY: overlay}
    if (
        report is None
        or differences(report, settings)
        or not all((path / name).exists() for name, is_wanted in wanted.items() if is_wanted)
        or (wanted[MASKS] and len(mask_files(path / MASKS)) < report.get("frames", 0))
    ):
        return None
    if any((path / name).exists() for name in (*_WORK_FILES, LOCK)):
        # The run was killed after it had written the report.
        with take_lock(path):
            remove_work_files(path)
    return report


def refuse_finished(path: Path, settings: Mapping[str, Any], *, unless_same: bool = False) -> None:
    """Refuse a folder that holds a finished run; name the settings that differ.

    Args:
        path: The folder.
        settings: Of the run that is to be written there, as far as they are known.
        unless_same: Whether a run of the same settings is no reason to refuse.

    Raises:
        OutputError: There is one, or its report cannot be read.
    """
    report = read_report(path)
    if report is None:
        return
    found = differences(report, settings)
    if not found and unless_same:
        return
    how = f" with other settings: {'; '.join(found[:MOST_DIFFERENCES])}" if found else ""
    raise OutputError(f"{path}: a finished run is in this folder{how}", REPLACE_HINT)


def refuse_others(path: Path, settings: Mapping[str, Any], marker: bytes) -> None:
    """Refuse a folder with a finished run, or with files that are not of this run."""
    # Another process may be asking for the lock at this moment, and a process may have been
    # killed before it had written its marker.
    names = {entry.name for entry in path.iterdir()}
    present = {
        n for n in names if not n.startswith(LOCK) and not is_partial(n) and n not in OWN_FILES
    }
    if REPORT in present:
        refuse_finished(path, settings)
    file = path / MARKER
    before = _settings_in(file)
    # Of the same settings, only the source may be spelled in another way.
    is_same = before is not None and (
        file.read_bytes() == marker
        or (before.keys() == settings.keys() and not differences(before, settings))
    )
    if present and not is_same:
        _refuse_unfinished(path, settings, before)


def _refuse_unfinished(
    path: Path, settings: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Refuse the files of another run that was not finished; name what differs, if it is known.

    Engine and precision are chosen by the machine, so a run that goes on elsewhere may only have to
    ask for those that it began with.
    """
    hint = "pass {overwrite=True} to replace them, or choose another folder ({out})"
    found = [] if before is None else differences(before, settings)
    # A live source is another one each time it is read.
    found = [line for line in found if not line.startswith("started ")]
    if before is None or not found:
        raise OutputError(f"{path}: the folder holds files of another run", hint)
    if all(line.startswith(("engine was", "dtype was", "int8 ")) for line in found):
        asked = [f"{{engine={before['engine']}}}"] if found[0].startswith("engine was") else []
        if any(line.startswith("dtype was") for line in found):
            # int8 is what "auto" becomes where a model has it.
            asked.append(f"{{dtype={before['dtype'].replace('int8', 'auto')}}}")
        hint = f"pass {' and '.join(asked)} to go on, or {{overwrite=True}} to start again"
    raise OutputError(
        f"{path}: an unfinished run of other settings is in this folder: "
        f"{'; '.join(found[:MOST_DIFFERENCES])}",
        hint,
    )


def keep_what_stays(
    path: Path,
    settings: Mapping[str, Any],
    made_by: Mapping[str, str] | None,
    depends: Callable[[Mapping[str, Any]], Keys] | None,
    mask_folders: Sequence[Path],
) -> bool:
    """Turn a run that differs in its references only into an unfinished one of these.

    Whenever this process is killed, the folder holds the earlier run or the new one.

    Returns:
        Whether there was one.

    Raises:
        OutputError: There is a run that differs in more.
    """
    if depends is None or made_by is None:
        return False
    report = read_report(path)
    before = _settings_in(path / MARKER) if report is None else report
    if before is None:
        return False
    if found := differences(before, without_references(settings)):
        raise OutputError(
            f"{path}: a run of other settings is in this folder: "
            f"{'; '.join(found[:MOST_DIFFERENCES])}",
            REPLACE_HINT,
        )
    try:
        old, new = depends(before), depends(settings)
    except KeyError:
        raise OutputError(
            f"{path}: the run in this folder does not say which objects its references "
            "name, so all of it has to be computed again",
            REPLACE_HINT,
        ) from None
    goes_on = False
    if report is not None:
        count, entries = report["frames"], reported_entries(report)
        made = {name: report["versions"].get(name, "") for name in made_by}
        made |= {"device": report["device"].partition(":")[0], "formats": made_by["formats"]}
    else:
        count, entries, made, done = _unfinished_entries(path, made_by)
        goes_on = old.session_key(done) == new.session_key(done) and all(
            old.mask_key(i) == new.mask_key(i) for i in range(done)
        )
        if goes_on:
            entries = read_kept(path, done)
    staying = ((i, entry) for i, entry in entries if old.mask_key(i) == new.mask_key(i))
    write_kept(path, have_files(staying, mask_folders, SUFFIX), count, made)
    if not goes_on:
        for name in (STATE, FRAMES):
            (path / name).unlink(missing_ok=True)
    return True


def _unfinished_entries(
    path: Path, made_by: Mapping[str, str]
) -> tuple[int | None, Entries, Mapping[str, str], int]:
    """Give what is known of an unfinished run, and how many frames its saved state has."""
    head = read_kept_head(path) or {"frames": None, "made_by": made_by}
    try:
        saved = read_state(path, made_by)
        done = 0 if saved is None else saved[0].frames
        logged = [] if saved is None else list(enumerate(read_log(path, saved[0])))
    except StateError:
        done, logged = 0, []
    entries = [*logged, *read_kept(path, done)]
    return head["frames"], entries, head["made_by"], done


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is taken over of an unfinished run.

    Attributes:
        progress: How far its saved state is; None: it has none that can be used.
        session: The session of that state.
        kept: Index and log entry of each later frame whose mask stays, in order.
        frame_count: Frames of the video; None: not known.
        names: Of the frames of both.
    """

    progress: RunProgress | None = None
    session: bytes | None = None
    kept: Sequence[tuple[int, Mapping[str, Any]]] = ()
    frame_count: int | None = None
    names: set[str] = field(default_factory=set)


def take_over(
    path: Path, made_by: Mapping[str, str] | None, mask_folders: Sequence[Path]
) -> Earlier:
    """Find what is there of an unfinished run of the same settings.

    Args:
        path: The folder.
        made_by: Versions and device, which must be the same; None: nothing is taken over.
        mask_folders: Where every frame must have a mask.

    Raises:
        OutputError: It was begun on another kind of device.
    """
    if made_by is None:
        return Earlier()
    progress, session, names = _saved(path, made_by, mask_folders)
    head = read_kept_head(path)
    if head is None:
        return Earlier(progress, session, names=names)
    if other := [name for name, value in made_by.items() if head["made_by"].get(name) != value]:
        log.warning("%s: its masks were made with another %s; starting over", path, other[0])
        return Earlier(progress, session, names=names)
    done = 0 if progress is None else progress.frames
    kept = list(have_files(read_kept(path, done), mask_folders, SUFFIX))
    names |= {entry["name"] for _, entry in kept}
    return Earlier(progress, session, kept, head["frames"], names)


def _saved(
    path: Path, made_by: Mapping[str, str], mask_folders: Sequence[Path]
) -> tuple[RunProgress | None, bytes | None, set[str]]:
    """Load the saved state, and the names of its frames."""
    try:
        saved = read_state(path, made_by)
        if saved is None:
            return None, None, set()
        progress, session = saved
        names = {entry["name"] for entry in read_log(path, progress)}
        for folder in mask_folders:
            if missing := names - {mask.stem for mask in mask_files(folder)}:
                raise StateError(f"{mask_file(Path(folder.name), min(missing))} is missing")
    except StateError as error:
        log.warning("%s: %s; starting over", path, error)
        return None, None, set()
    return progress, session, names


def _settings_in(marker: Path) -> Mapping[str, Any] | None:
    """Read the settings of an unfinished run; None if they are not known."""
    try:
        return dict(json.loads(marker.read_bytes())["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remove_work_files(path: Path) -> None:
    """Remove what only an unfinished run needs, its marker last."""
    for name in _WORK_FILES:
        (path / name).unlink(missing_ok=True)
