"""Processes of Python that begin with the libraries imported: forks of one process that did so.

PyTorch and what goes with it take seconds to import, which most tests of a process are not about.
`start` and `run` take a command line as `subprocess` does. What they start is a process of its own,
with its own id, signals, streams and status; this process is its parent and waits for it. It is
made by a helper that imports the libraries once and forks for each command line.
"""

import atexit
import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.paths import ROOT

# What `propagate run` and `propagate batch` import. Importing uses no model and starts no thread of
# ours, so that the forks are free to.
IMPORTS = (
    *("propagate.cli.main", "propagate.pipeline", "propagate.run", "propagate.two_way"),
    *("propagate.features.registry", "propagate.features.colors", "propagate.saved_state"),
    *("propagate.io.masks.references", "propagate.prompts.parse", "pydantic", "rich.progress"),
    *("propagate.batch.schedule", "propagate.io.decode.video", "propagate.io.write.overlay"),
)
# And with these imported, models of diffusers begin quickly too.
DIFFUSION = ("propagate.features.pixel_unet",)
PR_SET_CHILD_SUBREAPER = 36


class _Reader(threading.Thread):
    """Reads a pipe until every process that may write to it has ended."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self._descriptor, self.data = descriptor, b""
        self.start()

    def run(self) -> None:
        while more := os.read(self._descriptor, 1 << 16):
            self.data += more
        os.close(self._descriptor)


class Process:
    """A process that was started.

    Attributes:
        args: Its command line.
        pid: Its id.
        returncode: How it ended, as in `subprocess`; None until `poll` or `wait` saw it end.
    """

    def __init__(self, args: list[str], pid: int, readers: list[_Reader]) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._readers = readers

    def poll(self) -> int | None:
        """Return the status, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the status."""
        end_s = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end_s is not None and time.monotonic() > end_s:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.005)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, also of its children that may print, and return stdout and stderr."""
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.printed()

    def printed(self) -> tuple[str, str]:
        """What was printed until now to stdout and stderr."""
        stdout, stderr = (reader.data.decode() for reader in self._readers)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def start(
    args: Sequence[object],
    *,
    cwd: Path | str = ROOT,
    env: Mapping[str, str] | None = None,
    diffusion: bool = False,
) -> Process:
    """Start `[sys.executable, "-c" or "-m" or a file, ...]`; its output is read as it comes.

    Args:
        args: The command line.
        cwd: The folder it works in.
        env: Its environment; None: that of this process. What libraries read when they are imported
            is read from this process.
        diffusion: Whether diffusers is imported too.
    """
    words = [str(word) for word in args]
    assert words[0] == sys.executable, words
    request = {"args": words[1:], "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
    pipes = [os.pipe() for _ in range(2)]
    channel = _helper(IMPORTS + DIFFUSION if diffusion else IMPORTS)
    libc = ctypes.CDLL(None, use_errno=True)
    # The fork of the helper becomes a child of this process when the one between them ends.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        data = json.dumps(request).encode()
        channel.sendall(len(data).to_bytes(4, "big"))
        socket.send_fds(channel, [b"."], [writing for _, writing in pipes])
        channel.sendall(data)
        pid = int.from_bytes(_receive(channel, 4), "big")
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        for _, writing in pipes:
            os.close(writing)
    return Process(words, pid, [_Reader(reading) for reading, _ in pipes])


def run(
    args: Sequence[object], *, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, as `start` does."""
    with start(args, **options) as process:
        try:
            stdout, stderr = process.communicate(timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)


# The helper


@cache
def _helper(modules: tuple[str, ...]) -> socket.socket:
    """Start a helper that has imported these modules; the socket to ask it by."""
    ours, theirs = socket.socketpair()
    code = f"import tests.forked; tests.forked._serve({theirs.fileno()}, {modules!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _receive(channel: socket.socket, count: int) -> bytes:
    """Receive so many bytes; fewer at the end of the stream."""
    data = b""
    while len(data) < count and (more := channel.recv(count - len(data))):
        data += more
    return data


def _serve(number: int, modules: tuple[str, ...]) -> None:
    """Import, then fork for each request until the other end is closed."""
    for module in modules:
        __import__(module)
    channel = socket.socket(fileno=number)
    while len(head := _receive(channel, 4)) == 4:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 2)
        request = json.loads(_receive(channel, int.from_bytes(head, "big")))
        reader, writer = os.pipe()
        between = os.fork()
        if not between:
            pid = os.fork()
            if pid:
                os.write(writer, pid.to_bytes(4, "big"))
                os._exit(0)
            for descriptor in (reader, writer):
                os.close(descriptor)
            channel.close()
            for standard, descriptor in zip((1, 2), descriptors, strict=True):
                os.dup2(descriptor, standard)
                os.close(descriptor)
            _become(**request)
        os.waitpid(between, 0)
        channel.sendall(os.read(reader, 4))
        for descriptor in (reader, writer, *descriptors):
            os.close(descriptor)


def _become(args: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
    """Be the process of this command line, and end as Python does."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    # Where the tests run in the background of a shell, the helper was started with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind, *rest = args
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = args
        sys.path[0] = str(Path(kind).parent)
        script = sys.modules["__main__"] = types.ModuleType("__main__")
        script.__file__ = kind
        exec(compile(Path(kind).read_text(), kind, "exec"), script.__dict__)
    sys.exit()
