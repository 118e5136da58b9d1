"""One writer at a time in a folder: a lock file that names its owner and shows that it lives.

The owner touches the file every `BEAT_S` seconds. Whoever finds it asks the system, if the owner
is a process of this machine, else the file's age. The lock of one that is gone is removed, by one
process at a time, and made anew.

A clock that is set forth makes a living lock look old: it is watched for a beat before it is taken.
One that is set back makes a dead lock look new: an age below zero is counted anew from then on.
"""

import json
import os
import secrets
import socket
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
# Of a machine that cannot be asked: silent for so long, it is gone.
STALE_S = 300.0
# Of a machine that is known to be lost: three beats missed.
LOST_S = 40.0
# An owner that is being killed is gone in this time; one that is not, is named after it.
PATIENCE_S = 3.0
# Writing its lines takes a lock's owner no time; without them after this, it was killed there.
EMPTY_S = 1.0
# A living owner touches its lock in this time.
WATCH_S = BEAT_S * 4 / 3
# Held while a stale lock is removed. One left behind goes with the other partial files.
GUARD = ".lock.guard.part"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host: Name of the machine.
        pid: The process there.
        since: When it took the lock, UTC.
        machine: Tells this boot of this machine, and this container, from others.
        started: When the process started, in the machine's own count; "" where it does not say.
        token: Of this lock and no other.
    """

    host: str
    pid: int
    since: str
    machine: str
    started: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


# Tokens of this process: where a lock could not be removed, its file stays behind. Each is here
# before its file is, or another thread would take the new lock for one that stayed behind.
_held_here: set[str] = set()


class FolderLock:
    """A lock that is held, until `release` or the end of a `with` block."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        """Begin to touch the lock file of this owner."""
        self._folder, self._owner = folder, owner
        self._taken_by: str | None = None
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Do nothing while the lock is held.

        Raises:
            OutputError: Another process took this one for dead, and writes here now.
        """
        if self._taken_by is not None:
            raise OutputError(
                f"{self._folder}: taken over by {self._taken_by}, as this process had not been "
                "heard of: let it go on, or run one of the two into another folder"
            )

    def release(self) -> None:
        """Give the folder free."""
        self._released.set()
        self._thread.join(timeout=5)
        _give_up(self._folder, self._owner)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            # A file server that does not answer is no other owner.
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
    """Take the lock of a folder that exists, that of an owner who is gone included.

    Raises:
        OutputError: Another process holds it; the message names it.
        OSError: The folder cannot be written to.
    """
    folder = Path(folder)
    owner = _myself()
    _held_here.add(owner.token)
    try:
        _wait_and_create(folder, owner)
        return FolderLock(folder, owner)
    except BaseException:
        _give_up(folder, owner)
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
                f"{folder}: in use by {holder or 'another process'}: wait for its end, or choose "
                f"another folder with -o (if it is gone for good, remove {folder / LOCK})"
            )
        else:
            time.sleep(0.1)


def _give_up(folder: Path, owner: Owner) -> None:
    """Remove the lock of this owner, if there is one; only then may another thread have it."""
    with suppress(OSError):
        if read_owner(folder) == owner:
            (folder / LOCK).unlink()
    _held_here.discard(owner.token)


def read_owner(folder: str | Path) -> Owner | None:
    """Read who holds the lock of a folder; None if nobody does, or nothing is said yet."""
    try:
        return Owner(**json.loads((Path(folder) / LOCK).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_held(folder: str | Path, stale_s: float = STALE_S) -> bool:
    """Whether the folder has a lock whose owner lives, as far as can be told.

    Args:
        folder: Where the lock would be.
        stale_s: How long an owner on another machine may be silent.
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
    """Remove the lock of a machine that is known to be lost, when it has been silent for `LOST_S`.

    A machine that is only out of reach may still write, and touches its lock then.

    Returns:
        Whether no lock of that machine is in the folder any more.

    Raises:
        OSError: The folder cannot be reached.
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
    """A process number means something only in the boot and the container that it was given in."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, "" if it does not say; None: there is none."""
    try:
        # The name, in brackets, may hold anything. After it: state, and as 20th the start.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            return ""
        return ""
    # Killed, and not yet collected by its parent.
    return None if fields[0] in "ZX" else fields[19]


def _is_touched(folder: Path) -> bool:
    """Watch the lock of another machine that has been silent for long, as far as clocks say."""
    owner = read_owner(folder)
    if owner is None or owner.machine == _machine():
        return False
    with suppress(FileNotFoundError):
        before = (folder / LOCK).stat().st_mtime_ns
        deadline = time.monotonic() + WATCH_S
        while time.monotonic() < deadline:
            time.sleep(WATCH_S / 50)
            # Opening it has a file server asked for its time anew.
            if read_owner(folder) != owner or (folder / LOCK).stat().st_mtime_ns != before:
                return True
    return False


def _age_s(folder: Path) -> float | None:
    """Seconds since the last beat by the clock that stamps the folder's files; None: no lock."""
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
    """Make the lock file if there is none."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(asdict(owner)))
    return True


def _remove_stale(folder: Path, stale_s: float = STALE_S) -> None:
    """Remove a lock that nobody holds; of several processes, one at a time."""
    guard = folder / GUARD
    with guard.open("ab") as file:
        _lock_file(file)
        try:
            if os.fstat(file.fileno()).st_ino != guard.stat().st_ino:
                return  # removed by the one before; there is another guard now, or none
        except FileNotFoundError:
            return
        if (folder / LOCK).exists() and not is_held(folder, stale_s):
            (folder / LOCK).unlink(missing_ok=True)
        guard.unlink(missing_ok=True)


def _lock_file(file: BinaryIO) -> None:
    """Wait for the system's own lock, which ends with the process, where there is one."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
