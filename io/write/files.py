"""Files that appear complete or not at all, and the rule that nothing is overwritten unasked.

Every file is written under a temporary name in the folder of the final file, and renamed when it is
complete. A rename inside one folder is atomic. So a reader, or a run that is resumed after a kill,
finds the old file, the new file or no file, but never a part of one.
"""

import errno
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from propagate.errors import OutputError

_HINTS = {
    errno.ENOSPC: "free some space there, or choose another folder ({out})",
    errno.EDQUOT: "free some of your quota, or choose another folder ({out})",
    errno.EFBIG: "raise the file size limit (ulimit -f), or choose another file system",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that is not mounted read-only",
    errno.ENOENT: "make the folder first, or choose another one",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EISDIR: "a folder has this name: move it away, or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}
# What to do about earlier results.
REPLACE_HINT = "pass {overwrite=True} to replace it, or choose another folder ({out})"


def local_folder(out: str | os.PathLike[str]) -> Path:
    """Return a folder for results as a path.

    Raises:
        OutputError: It is an address, or empty.
    """
    text = os.fspath(out)
    if "://" in text:
        raise OutputError(
            f"{text}: is an address, and this writes into a folder on this machine",
            "give a folder as {out}; only a batch writes to addresses",
        )
    if not text:
        raise OutputError("the folder for the results has no name", "give one as {out}")
    return Path(out)


class PartialFile:
    """A file under a temporary name, `.<name>.<random>.part`, until `commit` renames it.

    Do every step of writing in a `with partial.writing():` block, which removes the file if the
    step fails. If the process is killed, the file stays; `remove_partial_files` removes it.

    Attributes:
        final: The final path, in a folder that exists.
        path: Where to write until then.
    """

    def __init__(self, final: str | Path) -> None:
        """Choose an unused temporary name beside `final`; nothing is written yet."""
        self.final = Path(final)
        self.path = self.final.with_name(f".{self.final.name}.{secrets.token_hex(4)}.part")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Guard one step: if it fails or is interrupted (Ctrl-C), the file is removed.

        Raises:
            OutputError: In place of an `OSError` of the step.
        """
        try:
            with guard_writing(self.final):
                yield
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Move the complete, closed file to its final name; an existing file is replaced.

        The data is brought to the disk before the rename, so a power failure cannot leave an empty
        file under the final name.
        """
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.final)

    def discard(self) -> None:
        """Remove what was written."""
        # The failure that led here is the one to report, not a second one.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class WholeFile(ABC):
    """Base of writers that write a file in steps.

    Use one in a `with` block. The file appears when the block ends; if the block fails, nothing of
    the file is left.
    """

    @abstractmethod
    def close(self) -> None:
        """Complete the file and move it to its final name.

        Raises:
            OutputError: If it cannot be written.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove what was written."""

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete the file, or remove it if the block failed."""
        if kind is None:
            self.close()
        else:
            self.discard()


@contextmanager
def guard_writing(path: Path) -> Iterator[None]:
    """Guard a step of writing a file; the file stays as it is if the step fails.

    Raises:
        OutputError: In place of an `OSError` of the step.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        hint = _HINTS.get(error.errno or 0, "choose another folder ({out})")
        raise OutputError(f"{path}: cannot be written ({reason})", hint) from error


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a small file that appears complete or not at all.

    Args:
        path: The final file, in a folder that exists. An existing file is replaced.
        data: Its content.

    Raises:
        OutputError: If it cannot be written.
    """
    partial = PartialFile(path)
    with partial.writing():
        partial.path.write_bytes(data)
        partial.commit()


def make_output_folder(folder: Path) -> None:
    """Make a folder for results; it may exist.

    Raises:
        OutputError: If it cannot be made.
    """
    with guard_output_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def guard_output_folder(folder: Path) -> Iterator[None]:
    """Guard a step of preparing a folder for results.

    Raises:
        OutputError: In place of an `OSError` of the step.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be used as output folder ({error.strerror})",
            "choose another one ({out})",
        ) from error


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to replace files of an earlier call.

    Raises:
        OutputError: If one of the files exists.
    """
    for path in paths:
        if path.exists():
            raise OutputError(f"{path}: already exists", REPLACE_HINT)


def is_partial(name: str) -> bool:
    """Whether a file of this name is an unfinished one."""
    return name.startswith(".") and name.endswith(".part")


def remove_partial_files(folder: str | Path) -> int:
    """Remove the unfinished files that killed runs left, and return their number.

    Only the owner of a folder may call this: a file that another process is writing at the moment
    would be removed too.

    Args:
        folder: Searched without its subfolders. It need not exist.

    Raises:
        OutputError: If a file cannot be removed.
    """
    leftovers = list(Path(folder).glob(".*.part"))
    for leftover in leftovers:
        with guard_writing(leftover):
            leftover.unlink(missing_ok=True)
    return len(leftovers)
