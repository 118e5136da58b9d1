"""Files that appear whole or not at all.

Everything is written under a temporary name in the folder of the final file and renamed when it is
complete. A rename inside one folder is atomic, so whoever looks, or resumes after a kill, finds
the old file, the new file, or none: never half of one.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from propagate.errors import OutputError

_ADVICE = {
    errno.ENOSPC: "free some space there, or choose another folder",
    errno.EDQUOT: "free some of your quota, or choose another folder",
    errno.EFBIG: "raise the file size limit (ulimit -f), or choose another file system",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that is not mounted read-only",
    errno.ENOENT: "make the folder first, or choose another one",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EISDIR: "a folder has this name: move it away, or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class PartialFile:
    """A file under a temporary name, `.<name>.<random>.part`, until `commit` gives it its own.

    Every step of writing stands in a `with partial.writing():` block, which removes the file when
    the step fails. A kill leaves it behind, for `remove_partial_files`.

    Attributes:
        final: The name it is to have, in a folder that exists.
        path: Where to write until then.
    """

    def __init__(self, final: str | Path) -> None:
        """Choose a free temporary name beside `final`; nothing is written yet."""
        self.final = Path(final)
        self.path = self.final.with_name(f".{self.final.name}.{secrets.token_hex(4)}.part")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Guard one step: on a failure, Ctrl-C included, nothing of the file stays.

        Raises:
            OutputError: In place of an `OSError` of the step.
        """
        try:
            yield
        except OSError as error:
            self.discard()
            raise _cannot_write(self.final, error) from error
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Move the written and closed file to its final name, in place of an old one.

        The data reaches the disk before the rename, so that a power cut cannot leave an empty file
        under the final name.
        """
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.final)

    def discard(self) -> None:
        """Remove what was written, if anything."""
        # The failure that led here says more than a second one would.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextmanager
def guard_writing(path: Path) -> Iterator[None]:
    """Guard a step of writing a file that stays where it is, whatever becomes of the step.

    Raises:
        OutputError: In place of an `OSError` of the step.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a small file that appears whole or not at all.

    Args:
        path: The final file, in a folder that exists. An old file of this name is replaced.
        data: Its content.

    Raises:
        OutputError: If it cannot be written there.
    """
    partial = PartialFile(path)
    with partial.writing():
        partial.path.write_bytes(data)
        partial.commit()


def is_partial(name: str) -> bool:
    """Whether a file of this name is an unfinished one."""
    return name.startswith(".") and name.endswith(".part")


def remove_partial_files(folder: str | Path) -> int:
    """Remove what killed runs left of unfinished files, and say how many there were.

    Only the owner of a folder may call this: a file that another process is writing right now
    would go too.

    Args:
        folder: Looked at without its subfolders. One that does not exist holds nothing.

    Raises:
        OutputError: If a leftover cannot be removed.
    """
    leftovers = list(Path(folder).glob(".*.part"))
    for leftover in leftovers:
        try:
            leftover.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(leftover, error) from error
    return len(leftovers)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    advice = _ADVICE.get(error.errno or 0, "choose another folder")
    return OutputError(f"{path}: cannot be written ({reason}): {advice}")
