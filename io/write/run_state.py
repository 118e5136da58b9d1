"""What an unfinished run keeps to go on from: a line for every frame, and a saved state.

    .frames.jsonl   one line for each frame, as they come
    .state          one line of JSON, then the session's bytes; replaced as a whole

The state says how many bytes of the lines belong to it: what a killed run wrote after it is cut.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propagate.io.write.files import guard_writing, write_atomically
from propagate.io.write.layout import FRAMES, STATE

FORMAT = 1


class StateError(Exception):
    """A saved state cannot be gone on from; the message says why."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run was.

    Attributes:
        frames: How many were done.
        log_bytes: Of the lines that belong to them.
        last_crc32: Of the pixels of the last one.
        seconds: Spent on them so far.
        stage_s: Of those, by stage.
        resumed_at: The frames at which the run went on after an interruption.
    """

    frames: int
    log_bytes: int
    last_crc32: int
    seconds: float
    stage_s: Mapping[str, float]
    resumed_at: tuple[int, ...]


def write_state(
    folder: Path, progress: RunProgress, session: bytes, made_by: Mapping[str, str]
) -> None:
    """Replace the saved state of a folder, whole or not at all.

    Args:
        folder: Of the run.
        progress: How far it is.
        session: What is remembered at that point.
        made_by: Versions, device: what must be the same for the run to go on.

    Raises:
        OutputError: It cannot be written.
    """
    head = {
        "format": FORMAT,
        "made_by": dict(made_by),
        "bytes": len(session),
        "crc32": zlib.crc32(session),
        **asdict(progress),
    }
    write_atomically(folder / STATE, json.dumps(head).encode() + b"\n" + session)


def read_state(folder: Path, made_by: Mapping[str, str]) -> tuple[RunProgress, bytes] | None:
    """Read the saved state of a folder; None where there is none.

    Returns:
        How far the run was, and what was remembered at that point.

    Raises:
        StateError: It is damaged, or of another version of something.
    """
    try:
        line, _, session = (folder / STATE).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"the saved state cannot be read ({error.strerror})") from error
    try:
        head = json.loads(line)
        if head["format"] != FORMAT:
            raise StateError("the saved state is of another version of propagate")
        before = head["made_by"]
        damaged = (head["bytes"], head["crc32"]) != (len(session), zlib.crc32(session))
        progress = RunProgress(
            head["frames"],
            head["log_bytes"],
            head["last_crc32"],
            head["seconds"],
            head["stage_s"],
            tuple(head["resumed_at"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StateError("the saved state is damaged") from error
    if damaged:
        raise StateError("the saved state is damaged")
    for name, value in made_by.items():
        if before.get(name) != value:
            was = before.get(name, "unknown")
            raise StateError(f"the saved state was made with {name} {was}, this is {value}")
    return progress, session


class FrameLog:
    """One line of JSON for each frame of a run, in a file: memory does not grow with the video."""

    def __init__(self, folder: Path, keep_bytes: int = 0) -> None:
        """Begin the file, or go on after so many bytes of it."""
        self._path = folder / FRAMES
        with guard_writing(self._path):
            kept = b""
            if keep_bytes:
                with self._path.open("rb") as before:
                    kept = before.read(keep_bytes)
            # A new file: a process that was taken for dead may still write into the old one.
            write_atomically(self._path, kept)
            self._file = self._path.open("ab")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add the line of a frame.

        Raises:
            OutputError: It cannot be written.
        """
        with guard_writing(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")

    def sync(self) -> int:
        """Bring all lines to the disk; return their bytes."""
        with guard_writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Read the lines written so far."""
        with guard_writing(self._path):
            self._file.flush()
        with self._path.open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def close(self) -> None:
        """Close the file."""
        # With a full disk, closing tries once more to write what did not fit.
        with suppress(OSError):
            self._file.close()


def read_log(folder: Path, progress: RunProgress) -> Iterator[dict[str, Any]]:
    """Read the lines of the frames that were done.

    Raises:
        StateError: They are not all there.
    """
    try:
        with (folder / FRAMES).open("rb") as lines:
            for _ in range(progress.frames):
                yield json.loads(lines.readline())
            if lines.tell() != progress.log_bytes:
                raise StateError("the lines of its frames do not belong to the saved state")
    except (OSError, ValueError) as error:
        raise StateError("the lines of its frames are damaged") from error
