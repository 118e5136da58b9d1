"""Temporary folders of the studio, and those that killed ones left behind.

A file in each folder is locked by its process for as long as that lives; the operating system frees
the lock, however the process ends. A folder whose file can be locked is left over.
"""

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "propagate-studio-"
ALIVE = ".alive"


class TemporaryFolder:
    """A new folder for temporary files; only this user can read it.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        """Make it."""
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        new = self.path / f"{ALIVE}.new"
        self._alive = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        _lock(self._alive)
        new.rename(self.path / ALIVE)  # locked when it appears

    def close(self) -> None:
        """Remove it. What cannot be removed stays: the program must be able to end."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1
        self._folder.cleanup()


def remove_left_over() -> int:
    """Remove the folders of this user's studios that were killed; return their number."""
    removed = 0
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and _is_left_over(Path(entry.path)):
                # It follows no link, whatever is put in its place meanwhile.
                shutil.rmtree(entry.path, ignore_errors=True)
                removed += 1
    return removed


def _is_left_over(folder: Path) -> bool:
    """Whether a path is a folder of this user, whose process is gone."""
    if not shutil.rmtree.avoids_symlink_attacks or not hasattr(os, "getuid"):
        return False
    with suppress(OSError):
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        # A pipe in its place would keep us waiting, a link lead elsewhere.
        alive = os.open(folder / ALIVE, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return stat.S_ISREG(os.fstat(alive).st_mode) and _lock(alive)
        finally:
            os.close(alive)
    return False


def _lock(file: int) -> bool:
    """Lock an open file; return whether nobody else has."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
