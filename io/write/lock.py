"""One writer at a time in a folder: a lock file that names its owner and shows that it is alive.

The owner touches the file every `BEAT_S` seconds. Another process that finds the file asks the
operating system whether the owner is alive, if it is a process of this machine; otherwise the age
of the file decides. A lock whose owner is gone is stale: one process at a time may remove it.

Clocks may change. When a clock is set forward, the lock of a live owner looks old, so an old lock
is watched for a beat before it is removed. When a clock is set back, a stale lock seems to come
from the future; it is touched once, and its age counts from then on.

The package filelock does not do this: its locks of the operating system are not reliable between
machines on network folders, and its soft locks do not show whether their owner is alive.
"""

import json
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from propagate.errors import OutputError

LOCK = ".lock"
BEAT_S = 15.0
# An owner on another machine is taken for gone when it has been silent for this time.
STALE_S = 300.0
# The same on a machine that is known to be lost: it has missed two beats.
LOST_S = 40.0
# How long to wait for an owner that may be ending.
PATIENCE_S = 3.0
# An owner writes its name into the file at once. If the file is empty for longer, it was killed.
EMPTY_S = 1.0
# A live owner touches its lock within this time.
WATCH_S = BEAT_S * 4 / 3
# Held while a stale lock is removed. If it is left behind, `remove_partial_files` removes it.
GUARD = ".lock.guard.part"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        host: Name of its machine.
        pid: Its process id there.
        since: When it took the lock, UTC.
        machine: Identifies the machine, its boot and its container.
        started: When the process started, in the machine's own units; "" if unknown.
        token: Random text that identifies this lock.
    """

    host: str
    pid: int
    since: str
    machine: str
    started: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


# Tokens of the locks that this process holds. A lock file with its process id but another token is
# left over: it could not be removed. A token is added before its file is made, because another
# thread would take the new file for a left-over one.
_held_here: set[str] = set()


class FolderLock:
    """A lock that is held until `release` or the end of a `with` block."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        """Start to touch the lock file of this owner."""
        self._folder, self._owner = folder, owner
        self._taken_by: str | None = None
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that the lock is still held.

        Raises:
            OutputError: If another process took this one for dead, and now writes here.
        """
        if self._taken_by is not None:
            raise OutputError(
                f"{self._folder}: taken over by {self._taken_by}, because this process was silent "
                "for too long",
                "let it continue, or run one of the two into another folder ({out})",
            )

    def release(self) -> None:
        """Stop touching the lock, and remove it."""
        self._released.set()
        self._thread.join(timeout=5)
        _remove_own(self._folder, self._owner)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            # If a file server does not answer, there is no other owner yet.
            with suppress(OSError):
                owner = read_owner(self._folder)
                if owner != self._owner:
                    self._taken_by = str(owner or "somebody who removed its lock")
                    return
                os.utime(self._folder / LOCK)

    def __enter__(self) -> Self:
        """Return the lock itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release."""
        self.release()


def take_lock(folder: str | Path) -> FolderLock:
    """Take the lock of a folder that exists; a stale lock is replaced.

    Raises:
        OutputError: If another process holds it; the message names the process.
        OSError: If the folder cannot be written to.
    """
    folder = Path(folder)
    owner = _myself()
    _held_here.add(owner.token)
    try:
        _wait_and_create(folder, owner)
        return FolderLock(folder, owner)
    except BaseException:
        _remove_own(folder, owner)
        raise


def _wait_and_create(folder: Path, owner: Owner) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not _create(folder / LOCK, owner):
        if not is_held(folder):
            if not _is_touched(folder):
                _remove_stale(folder)
        elif time.monotonic() > deadline:
            holder = read_owner(folder)
            raise OutputError(
                f"{folder}: in use by {holder or 'another process'}",
                "wait for its end, or choose another folder ({out}); if it is gone for good, "
                f"remove the file {LOCK} there",
            )
        else:
            time.sleep(0.1)


def _remove_own(folder: Path, owner: Owner) -> None:
    """Remove the lock of this owner, if there is one; another thread may take it after that."""
    with suppress(OSError):
        if read_owner(folder) == owner:
            (folder / LOCK).unlink()
    _held_here.discard(owner.token)


def read_owner(folder: str | Path) -> Owner | None:
    """Read who holds the lock of a folder; None if there is no lock, or no name in it yet."""
    try:
        return Owner(**json.loads((Path(folder) / LOCK).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_held(folder: str | Path, stale_s: float = STALE_S) -> bool:
    """Whether the folder has a lock whose owner seems to be alive.

    Args:
        folder: Any folder.
        stale_s: Seconds that an owner on another machine may be silent.
    """
    folder = Path(folder)
    owner = read_owner(folder)
    if owner is not None and owner.machine == _machine():
        if owner.pid == os.getpid() and owner.token not in _held_here:
            return False
        started = _start_of(owner.pid)
        return started is not None and started == owner.started
    age_s = _age_s(folder)
    return age_s is not None and age_s < (EMPTY_S if owner is None else stale_s)


def remove_lock_of(host: str, folder: str | Path) -> bool:
    """Remove the lock of a machine that is known to be lost, once it was silent for `LOST_S`.

    A machine that is only out of reach may still write; then it touches its lock.

    Returns:
        Whether the folder has no lock of that machine now.

    Raises:
        OSError: If the folder cannot be reached.
    """
    folder = Path(folder)
    owner = read_owner(folder)
    if owner is None or owner.host != host:
        return True
    if is_held(folder, LOST_S):
        return False
    _remove_stale(folder, LOST_S)
    return True


def _myself() -> Owner:
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(),
        started=_start_of(os.getpid()) or "",
        token=secrets.token_hex(8),
    )


def _machine() -> str:
    """Identify machine, boot and container: only within these does a process id mean something."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _start_of(pid: int) -> str | None:
    """Return when a process of this machine started; "" if unknown, None if it does not exist."""
    try:
        # The name, in parentheses, may contain anything. The first field after it is the state, the
        # 20th the start time.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return None
        if sys.platform == "win32":
            return ""  # there, os.kill would end the process
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            return ""
        return ""
    # Z, X: killed, but its parent has not collected it yet.
    return None if fields[0] in "ZX" else fields[19]


def _is_touched(folder: Path) -> bool:
    """Watch the old lock of another machine; return whether its owner touches it."""
    owner = read_owner(folder)
    if owner is None or owner.machine == _machine():
        return False
    with suppress(FileNotFoundError):
        before = (folder / LOCK).stat().st_mtime_ns
        deadline = time.monotonic() + WATCH_S
        while time.monotonic() < deadline:
            time.sleep(WATCH_S / 50)
            # Opening the file makes the file server report a new time.
            if read_owner(folder) != owner or (folder / LOCK).stat().st_mtime_ns != before:
                return True
    return False


def _age_s(folder: Path) -> float | None:
    """Return the seconds since the last beat, by the clock of the file system; None if no lock."""
    probe = folder / f".lock.{secrets.token_hex(4)}.part"
    try:
        with probe.open("x") as file:
            now = os.fstat(file.fileno()).st_mtime
        age_s = now - (folder / LOCK).stat().st_mtime
        if age_s < 0:
            with suppress(PermissionError):
                os.utime(folder / LOCK)
        return max(0.0, age_s)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _create(path: Path, owner: Owner) -> bool:
    """Make the lock file, unless there is one; return whether it was made."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(asdict(owner)))
    return True


def _remove_stale(folder: Path, stale_s: float = STALE_S) -> None:
    """Remove a lock that nobody holds; one process at a time."""
    guard = folder / GUARD
    with guard.open("ab") as file:
        _lock_file(file)
        try:
            if os.fstat(file.fileno()).st_ino != guard.stat().st_ino:
                return  # another process has removed this guard
        except FileNotFoundError:
            return
        if (folder / LOCK).exists() and not is_held(folder, stale_s):
            (folder / LOCK).unlink(missing_ok=True)
        guard.unlink(missing_ok=True)


def _lock_file(file: BinaryIO) -> None:
    """Wait for the operating system's lock, which ends with the process, if the system has one."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
