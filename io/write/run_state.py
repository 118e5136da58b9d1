"""What an unfinished run keeps so that it can be resumed: a log of its frames, and a saved state.

    .frames.jsonl   the log, one line for each frame
    .state          one line of JSON, then the bytes of the session; replaced as a whole

The state says how many bytes of the log belong to it. What a killed run logged after that is cut.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propagate.errors import OutputError
from propagate.io.write.files import guard_writing, write_atomically
from propagate.io.write.layout import FRAMES, STATE

FORMAT = 2


class StateError(Exception):
    """A run cannot be resumed from its saved state; the message says why."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is.

    Attributes:
        frames: Number of frames done.
        log_bytes: Size of their lines in the log.
        last_crc32: Checksum of the pixels of the last frame.
        seconds: Time spent on them.
        stage_s: The same by stage.
        resumed_at: The frames at which the run was resumed after an interruption.
        batch_size: Frames whose features are computed together; None where it changes nothing.
        frames_at_once: How many of them the device takes at once.
    """

    frames: int
    log_bytes: int
    last_crc32: int
    seconds: float
    stage_s: Mapping[str, float]
    resumed_at: tuple[int, ...]
    batch_size: int | None = None
    frames_at_once: int | None = None


def write_state(
    folder: Path, progress: RunProgress, session: bytes, made_by: Mapping[str, str]
) -> None:
    """Replace the saved state of a run, as a whole.

    Args:
        folder: The folder of the run.
        progress: How far it is.
        session: The session at that point.
        made_by: Versions, and the kind of device, which must be the same for the run to be resumed.

    Raises:
        OutputError: If it cannot be written.
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
    """Read the saved state of a run; None if there is none.

    Returns:
        How far the run was, and its session at that point.

    Raises:
        StateError: If the state is damaged, or was made by another version: masks of two versions
            in one result could not be computed again by anybody, so the run starts over.
        OutputError: It was made on another kind of device, which gives the other masks that no
            single device would give. Nothing is lost: a person decides.
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
            raise StateError("the saved state has the format of another version of propagate")
        before = head["made_by"]
        damaged = (head["bytes"], head["crc32"]) != (len(session), zlib.crc32(session))
        progress = RunProgress(
            head["frames"],
            head["log_bytes"],
            head["last_crc32"],
            head["seconds"],
            head["stage_s"],
            tuple(head["resumed_at"]),
            head["batch_size"],
            head["frames_at_once"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StateError("the saved state is damaged") from error
    if damaged:
        raise StateError("the saved state is damaged")
    for name, value in made_by.items():
        was = before.get(name, "unknown")
        if was != value and name != "device":
            raise StateError(f"the saved state was made with {name} {was}, this is {value}")
    was, now = before.get("device"), made_by.get("device")
    if was != now:
        raise OutputError(
            f"{folder}: this unfinished run was begun on {was}, and this is {now}",
            f"pass {{device={was}}} to go on there, or {{overwrite=True}} to start again",
        )
    return progress, session


class FrameLog:
    """A file with one line of JSON for each frame of a run: memory does not grow with the video."""

    def __init__(self, folder: Path, keep_bytes: int = 0) -> None:
        """Start the file, or continue it after its first `keep_bytes` bytes."""
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
            OutputError: If it cannot be written.
        """
        with guard_writing(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()  # who looks at the folder learns which masks are of this run

    def sync(self) -> int:
        """Bring all lines to the disk; return their size in bytes."""
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
        # On a full disk, closing tries again to write what did not fit.
        with suppress(OSError):
            self._file.close()


def read_log(folder: Path, progress: RunProgress) -> Iterator[dict[str, Any]]:
    """Read the lines of the frames that were done.

    Raises:
        StateError: If lines are missing or damaged.
    """
    try:
        with (folder / FRAMES).open("rb") as lines:
            for _ in range(progress.frames):
                yield json.loads(lines.readline())
            if lines.tell() != progress.log_bytes:
                raise StateError("the log of its frames does not belong to the saved state")
    except (OSError, ValueError) as error:
        raise StateError("the log of its frames is damaged") from error
