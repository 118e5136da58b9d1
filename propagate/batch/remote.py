"""Results at a URL: made in a local folder, and uploaded when complete.

A run needs renames and locks, which object stores lack. The report is uploaded last, so a folder
that has one is complete. Retries are left to fsspec and to the batch, which tries a failed video
again. The local folder is in the folder for temporary files, not in one that `platformdirs` would
give: it is removed after the upload.
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from propagate.errors import OutputError, PropagateError, hide_secrets
from propagate.io.write.layout import (
    INCOMPLETE,
    MASKS,
    OVERLAY,
    PAGE,
    REFINED,
    REPORT,
    RUN_LENGTHS,
)
from propagate.io.write.lock import take_lock
from propagate.stage_clock import show_life

if TYPE_CHECKING:
    from propagate.run_summary import RunSummary

# Files that are uploaded together.
UPLOADED_AT_ONCE = 64
# The files of a run; the last one may be left from an attempt that failed.
_OF_RUNS = (MASKS, REFINED, RUN_LENGTHS, OVERLAY, PAGE, REPORT, INCOMPLETE)


def is_url(out: str | Path) -> TypeGuard[str]:
    """Whether results go to a URL such as s3://bucket/folder, not to a local folder."""
    return isinstance(out, str) and "://" in out


def scratch_of(out: str | Path, *parts: object) -> Path:
    """Name the local folder for results that go to a URL; a folder stands for itself.

    Args:
        out: A URL or a folder.
        parts: What else the name of the local folder depends on.
    """
    if not is_url(out):
        return Path(out)
    key = hashlib.sha256(repr((str(out).rstrip("/"), *parts)).encode()).hexdigest()[:16]
    return _private_folder() / key


def _private_folder() -> Path:
    """Return this user's folder among the temporary files, which nobody else can read or prepare.

    Its name can be guessed, and everybody may make folders beside it.

    Raises:
        OutputError: Somebody else has made it, or it cannot be made.
    """
    user = os.getuid() if hasattr(os, "getuid") else None
    folder = Path(tempfile.gettempdir()) / ("propagate" if user is None else f"propagate-{user}")
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror})", "set TMPDIR to a folder of yours"
        ) from error
    is_ours = user is None or (found.st_uid == user and not found.st_mode & 0o022)
    if not stat.S_ISDIR(found.st_mode) or not is_ours:
        raise OutputError(
            f"{folder}: not a folder of yours alone, so somebody else could change results",
            "remove it, or set TMPDIR to a folder of yours",
        )
    if user is not None and found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


class RemoteOutput:
    """A folder at a URL.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        """Find the file system for the URL.

        Raises:
            OutputError: None that is installed knows it.
        """
        self.url = url.rstrip("/")
        try:
            import fsspec

            self._store, root = fsspec.url_to_fs(url)
        except ValueError as error:
            raise OutputError(
                f"{url}: cannot be written to ({error})",
                "give a folder, or an address such as s3://bucket/folder",
            ) from error
        except ImportError as error:
            raise OutputError(
                f"{url}: cannot be written to ({error})",
                'pip install "propagate-video[cluster]" and what fsspec needs for this kind of URL',
            ) from error
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Read a file; return None if there is none.

        Raises:
            OutputError: It cannot be read.
        """
        with self._guarded(name):
            try:
                return self._store.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small file.

        Raises:
            OutputError: It cannot be written.
        """
        with self._guarded(name):
            self._store.makedirs(self._store._parent(self._path(name)), exist_ok=True)
            self._store.pipe_file(self._path(name), data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OutputError: It cannot be removed.
        """
        with self._guarded(name):
            self._store.invalidate_cache()
            if self._store.exists(self._path(name)):
                self._store.rm_file(self._path(name))

    def files(self, folder: str) -> list[str]:
        """List all files in a folder, such as "masks/00000.png".

        Raises:
            OutputError: It cannot be read.
        """
        with self._guarded(folder):
            self._store.invalidate_cache()
            start = len(self._path(folder)) + 1
            return sorted(path[start:] for path in self._store.find(self._path(folder)))

    def upload(self, source: Path, folder: str) -> None:
        """Replace a run by the one in a local folder; the report goes last.

        Args:
            source: The local folder. Files that begin with a dot are not uploaded.
            folder: Where to put the files. Files of another run there are removed.

        Raises:
            OutputError: Something cannot be written.
        """
        paths = [path for path in source.rglob("[!.]*") if path.is_file()]
        names = sorted(path.relative_to(source).as_posix() for path in paths)
        self.remove(f"{folder}/{REPORT}")
        for name in self.files(folder):
            if name.split("/")[0] in _OF_RUNS and name not in names:
                self.remove(f"{folder}/{name}")
        names.sort(key=lambda name: name == REPORT)
        with self._guarded(folder):
            for parent in sorted({self._store._parent(self._path(f"{folder}/{n}")) for n in names}):
                self._store.makedirs(parent, exist_ok=True)
            before_report = [name for name in names if name != REPORT]
            parts = [
                before_report[start : start + UPLOADED_AT_ONCE]
                for start in range(0, len(before_report), UPLOADED_AT_ONCE)
            ]
            for part in [*parts, [name for name in names if name == REPORT]]:
                show_life()
                if part:
                    self._store.put(
                        [str(source / name) for name in part],
                        [self._path(f"{folder}/{name}") for name in part],
                        callback=_signs_of_life(),
                    )

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        # Every kind of store raises errors of its own.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OutputError(
                f"{self.url}/{name}: cannot be reached or written ({reason[:300]})",
                "check the address and your permissions, and run it again",
            ) from error


def _signs_of_life() -> Any:
    """Make a callback for fsspec that shows life with each part of a file that is sent."""
    from fsspec.callbacks import Callback

    context = copy_context()

    class Signs(Callback):
        def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
            # In a thread of the store, which must go on: if the work is to end, it does so at the
            # next sign of life here.
            with suppress(BaseException):
                context.copy().run(show_life)

        def branched(self, path_1: str, path_2: str, **kwargs: Any) -> "Signs":
            return self

    return Signs()


def run_and_upload(
    run: Callable[..., "RunSummary"],
    url: str,
    name: str,
    key: object,
    overwrite: bool,
) -> "RunSummary":
    """Run a video in a local folder, and upload the results.

    A run that is finished at the URL is left as it is. An interrupted run continues if it is tried
    again on this machine.

    Args:
        run: `Propagator.run` without `out` and `overwrite`.
        url: Where results go.
        name: Of the video's folder.
        key: Everything that decides the masks.
        overwrite: Whether to replace a run that is there.

    Raises:
        PropagateError: The run failed (its frames so far are uploaded), or the upload did.
    """
    output = RemoteOutput(url)
    report = output.read(f"{name}/{REPORT}")
    if overwrite:
        output.remove(f"{name}/{REPORT}")
    elif report is not None and _is_whole(report):
        return _compare(run, output, name, report)
    scratch = scratch_of(url, key)
    folder = scratch / name
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        summary = run(out=scratch, overwrite=overwrite)
    except PropagateError:
        if (folder / INCOMPLETE).exists():
            output.upload(folder, name)
        raise
    with take_lock(folder):
        output.upload(folder, name)
    shutil.rmtree(scratch, ignore_errors=True)
    # If it was finished before, only its upload had been interrupted.
    return replace(summary, was_finished=False)


def _is_whole(report: bytes) -> bool:
    """Whether a report is complete: in some stores, files do not appear at once."""
    try:
        return isinstance(json.loads(report), dict)
    except ValueError:
        return False


def _compare(
    run: Callable[..., "RunSummary"], output: RemoteOutput, name: str, report: bytes
) -> "RunSummary":
    """Let a run compare its settings with the report: it looks only at that and at file names."""
    with tempfile.TemporaryDirectory(prefix="propagate-") as place:
        folder = Path(place) / name
        folder.mkdir()
        (folder / REPORT).write_bytes(report)
        for file in output.files(name):
            if file.split("/")[0] not in _OF_RUNS or ".." in file:
                continue
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        try:
            return run(out=Path(place), overwrite=False)
        except OutputError as error:
            shown = hide_secrets(output.url)
            raise OutputError(error.message.replace(place, shown), error.hint) from error
