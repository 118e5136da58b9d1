"""Compiled networks on disk, in the user's folder for caches: the next start is quick.

Nothing here ever fails a run: what cannot be read is compiled again, and what cannot be written is
not kept.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

FOLDER = "compiled"
SUFFIX = ".blob"


class CompiledCache:
    """Files by key. Several processes may use them at once: a file is there whole or not at all."""

    def __init__(self, most_bytes: int) -> None:
        """Open the cache, which need not exist.

        Args:
            most_bytes: Of all files together; those that were not used for longest go.
        """
        self._folder = user_cache_path("propagate") / FOLDER
        self._most_bytes = most_bytes

    def read(self, key: str) -> bytes | None:
        """Return what was written under a key; None if nothing is there."""
        path = self._path(key)
        with suppress(OSError):
            data = path.read_bytes()
            with suppress(OSError):
                os.utime(path)
            return data
        return None

    def write(self, key: str, data: bytes) -> None:
        """Keep data under a key, and remove old files if there are too many."""
        if len(data) > self._most_bytes:
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self._folder, suffix=".partial")
            partial = Path(name)
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(data)
                partial.replace(self._path(key))
            finally:
                partial.unlink(missing_ok=True)
            self._remove_old()

    def remove(self, key: str) -> None:
        """Forget a key."""
        with suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"

    def _remove_old(self) -> None:
        found = [(path, path.stat()) for path in self._folder.iterdir() if path.is_file()]
        left = sum(status.st_size for _, status in found)
        for path, status in sorted(found, key=lambda one: one[1].st_mtime):
            if left <= self._most_bytes:
                return
            path.unlink(missing_ok=True)
            left -= status.st_size
