"""A small file system of a test's own, that fills up or turns read-only in the middle of a run."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Put a tmpfs on a folder; without the right to, skip the test."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class SmallDisk:
    """A mounted folder with a fault that comes and goes; see `small_disk`."""

    def __init__(self, path: Path, fault: str) -> None:
        self.path, self._fault = path, fault
        self._ballast = path / "ballast"

    def break_down(self) -> None:
        """Take all the room, or let nothing more be opened for writing."""
        if self._fault == "read-only":
            # Root may write whatever the modes say. A file system with open files cannot be made
            # read-only itself: a read-only view of it is put in its place.
            view = ["mount", "-o", "bind,ro", str(self.path), str(self.path)]
            subprocess.run(view, check=True)
            return
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            for size in (2**16, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def mend(self) -> None:
        """Undo it."""
        if self._fault == "read-only":
            subprocess.run(["umount", str(self.path)], check=True)
        else:
            self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, fault: str) -> Iterator[SmallDisk]:
    """Make a folder with a disk of 16 MiB in it; `fault`: "full" or "read-only"."""
    folder.mkdir()
    with mounted(folder, "size=16m"):
        yield SmallDisk(folder, fault)
