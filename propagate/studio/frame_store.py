"""Encoded frames on disk, up to a limit."""

import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from propagate.studio.temporary import TemporaryFolder


class FrameStore:
    """JPEGs of all open videos in a temporary folder, which is removed at the end.

    When it is full, those go that were asked for least recently, of other videos first.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Make the folder; only this user can read it."""
        self._limit = limit_bytes
        self._folder = TemporaryFolder()
        self._lock = threading.Lock()
        self._total = 0
        # Video -> frame -> bytes; the least recently used first.
        self._sizes: OrderedDict[str, OrderedDict[int, int]] = OrderedDict()

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder.path

    @property
    def total_bytes(self) -> int:
        """How much is stored."""
        return self._total

    def get(self, video: str, index: int) -> bytes | None:
        """Return a frame; None if it is not there."""
        with self._lock:
            frames = self._sizes.get(video)
            if frames is None or index not in frames:
                return None
            frames.move_to_end(index)
            self._sizes.move_to_end(video)
        with suppress(OSError):  # it may go at this moment
            return self._file(video, index).read_bytes()
        return None

    def put(self, video: str, index: int, data: bytes, *, replace: bool) -> bool:
        """Store a frame.

        Args:
            video: Of which video.
            index: Which frame.
            data: The JPEG.
            replace: Whether other frames of the same video may go for it.

        Returns:
            Whether it is stored. It is not where there is no room.
        """
        with self._lock:
            frames = self._sizes.setdefault(video, OrderedDict())
            if index in frames:
                return True
            if not self._make_room(video, len(data), replace):
                return False
            file = self._file(video, index)
            try:
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(data)
            except OSError:  # the disk is full
                with suppress(OSError):
                    file.unlink(missing_ok=True)
                return False
            frames[index] = len(data)
            self._total += len(data)
            return True

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._sizes.clear()
            self._limit = self._total = 0
            self._folder.close()

    def _make_room(self, video: str, size: int, replace: bool) -> bool:
        if size > self._limit:
            return False
        others = [name for name in self._sizes if name != video]
        for name in [*others, *([video] if replace else [])]:
            frames = self._sizes[name]
            while frames and self._total + size > self._limit:
                index, freed = frames.popitem(last=False)
                self._total -= freed
                self._file(name, index).unlink(missing_ok=True)
        return self._total + size <= self._limit

    def _file(self, video: str, index: int) -> Path:
        return self.folder / video / f"{index}.jpg"
