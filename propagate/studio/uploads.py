"""Files that are uploaded, into a temporary folder that is removed at the end."""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio

from propagate.io.decode.video_kinds import VIDEO_SUFFIXES
from propagate.studio.answers import Refused
from propagate.studio.temporary import TemporaryFolder

# The text that a name keeps; everything else could mean something to a file system.
_UNUSUAL = re.compile(r"[^\w.-]+")
LONGEST_NAME = 100


class Uploads:
    """The uploaded files of one start, each in a folder of its own.

    Attributes:
        folder: Where they are.
    """

    def __init__(self) -> None:
        """Make the folder; only this user can read it."""
        self._folder = TemporaryFolder()
        self.folder = self._folder.path.resolve()
        self._count = 0

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> Path:
        """Write a file as it comes.

        Args:
            name: What the person calls it.
            chunks: Its content; what they raise ends it, and nothing is left.

        Returns:
            Where it is.

        Raises:
            Refused: It is no video by its name, or it cannot be written.
        """
        safe = _UNUSUAL.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip("._")
        safe = safe[-LONGEST_NAME:]
        if Path(safe).suffix.lower() not in VIDEO_SUFFIXES:
            raise Refused(400, f"{safe or 'a file without a name'}: no video by its name")
        self._count += 1
        path = self.folder / str(self._count) / safe
        try:
            path.parent.mkdir()
            async with await anyio.open_file(path, "xb") as file:
                async for chunk in chunks:
                    await file.write(chunk)
        except BaseException as error:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
            if isinstance(error, OSError):
                reason = (error.strerror or str(error)).lower()
                raise Refused(507, f"{safe}: cannot be written ({reason})") from error
            raise
        return path

    def close(self) -> None:
        """Remove the files."""
        self._folder.close()
