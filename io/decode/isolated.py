"""Frames decoded in a child process: what crashes, hangs or eats memory there costs one video.

Frames come through memory that both processes share, `SLOTS` of them at most; what they are comes
as lines of JSON through a pipe, so that nothing a broken child writes is ever run here. PyTorch is
not loaded in the child. `propagate.io.decode.child` is its side. For Linux and macOS.
"""

import json
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

import numpy as np

from propagate.errors import VideoError
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import FrameStream
from propagate.records import Frame, Gap, VideoInfo

# Frames in shared memory: the child fills the next while one is taken out.
SLOTS = 3
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from propagate.io.decode.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
LONGEST_LINE = 2**20


class IsolatedSource(FrameStream):
    """Reads a source in a child process.

    Raises:
        VideoError: What the source raises in the child; when the child crashes or is killed; when
            it makes no progress, and is killed from here. The frames before come first.
    """

    def __init__(
        self,
        source: str | int,
        options: SourceOptions,
        limits: Mapping[str, float],
        *,
        label: str,
        deadline_s: float,
    ) -> None:
        """Start the child, and wait until it has opened the source.

        Args:
            source: What `open_here` takes.
            options: The same. Memory that frames of less than `max_pixels` do not fill is not used.
            limits: Its keyword arguments.
            label: What messages call it.
            deadline_s: Longest time without a frame or a sign of life, in seconds.
        """
        if sys.platform == "win32":
            raise VideoError(
                f"{label}: decoding in a separate process works on Linux and macOS only",
                "pass {isolate=False}",
            )
        self._label = label
        self._slot_bytes = slot_bytes = 3 * options.max_pixels
        self._deadline_s = deadline_s
        self._count = 0
        self._received = b""
        shared = _anonymous_file(SLOTS * slot_bytes)
        replies, replies_there = os.pipe()
        try:
            self._memory = mmap.mmap(shared, SLOTS * slot_bytes)
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-c", START, json.dumps(sys.path)),
                    *(str(shared), str(replies_there)),
                ],
                stdin=subprocess.PIPE,
                stdout=2,  # results go to stdout, and no library's chatter
                pass_fds=(shared, replies_there),
                # Ctrl-C goes to the whole group; the child ends when this process lets it.
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        finally:
            os.close(shared)
            os.close(replies_there)
        self._replies = replies
        self._ending = weakref.finalize(self, _end, self._child, replies)
        spec = {
            "source": source,
            "options": options.to_json(),
            "limits": dict(limits),
            "slot_bytes": slot_bytes,
            "deadline_s": deadline_s,
        }
        try:
            self._tell(json.dumps(spec).encode() + b"\n")
            while "info" not in (message := self._receive()):
                pass
            with self._doubting():
                self.info = _read_info(message["info"])
        except BaseException:
            self._ending()
            raise

    def close(self) -> None:
        """End the child, whatever it is doing, and whoever waits for it."""
        with suppress(ProcessLookupError):
            self._child.kill()
        super().close()

    def _release(self) -> None:
        self._ending()

    def _read(self) -> Generator[Frame | None, None, None]:
        try:
            while "end" not in (message := self._receive()):
                frame = None
                with self._doubting():
                    if "info" in message:
                        self.info = _read_info(message["info"])
                    elif "frame" in message:
                        frame = self._take(message["frame"])
                yield frame
        finally:
            self._ending()

    def _take(self, told: dict[str, Any]) -> Frame:
        """Copy a frame out of its slot, and give the slot back."""
        height, width = told["size"]
        offset = self._count % SLOTS * self._slot_bytes
        if not 0 < height * width * 3 <= self._slot_bytes:
            raise ValueError(f"a frame of {width}x{height}")
        pixels = np.frombuffer(self._memory, np.uint8, height * width * 3, offset)
        image = pixels.reshape(height, width, 3).copy()
        self._count += 1
        self._tell(b".")
        return Frame(image, told["index"], Fraction(told["time"]), told["name"])

    def _tell(self, data: bytes) -> None:
        assert self._child.stdin is not None
        # A child that is gone is noticed where its replies are read.
        with suppress(BrokenPipeError):
            self._child.stdin.write(data)
            self._child.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        """Return the next message of the child; raise its error, or say how it ended."""
        until_s = time.monotonic() + self._deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            while b"\n" not in self._received:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    raise VideoError(
                        self._broken_off(f"its decoder made no progress for {self._deadline_s:g} s")
                    )
                data = os.read(self._replies, 2**16)
                if not data or len(self._received) > LONGEST_LINE:
                    raise VideoError(self._broken_off(self._how_it_ended()))
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        with self._doubting():
            message = dict(json.loads(line))
            parts = message.get("error")
            error = None if parts is None else VideoError(*map(str, parts))
        if error is not None:
            raise error
        return message

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Take what a child sends whose memory was overwritten for what it is."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise VideoError(self._broken_off("its decoder sent nonsense")) from error

    def _how_it_ended(self) -> str:
        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its decoder fell silent"
        if status >= 0:
            return f"its decoder ended with status {status}"
        name = signal.Signals(-status).name
        if name in ("SIGKILL", "SIGTERM"):
            return f"its decoder was killed ({name}), by hand or for want of memory"
        return f"its decoder crashed ({name})"

    def _broken_off(self, what: str) -> str:
        count = self._count
        after = f"after frame {count - 1}" if count else "before the first frame"
        frames = "1 frame was" if count == 1 else f"{count} frames were"
        return (
            f"{self._label}: {what} {after}; {frames} read, get another copy, or re-encode the "
            "part that plays"
        )


def write_info(info: VideoInfo) -> dict[str, Any]:
    """Return plain values for `_read_info`."""
    return {
        "name": info.name,
        "width": info.width,
        "height": info.height,
        "fps": None if info.fps is None else str(info.fps),
        "frame_count": info.frame_count,
        "decoder": info.decoder,
        "gaps": [[gap.after, gap.seconds, gap.reason] for gap in info.gaps],
    }


def _read_info(values: dict[str, Any]) -> VideoInfo:
    fps = None if values["fps"] is None else Fraction(values["fps"])
    gaps = tuple(Gap(*gap) for gap in values["gaps"])
    return VideoInfo(**{**values, "fps": fps, "gaps": gaps})


def _anonymous_file(size: int) -> int:
    """Open a file without a name that takes room for what is written into it only."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("propagate-frames")
    else:
        file, name = tempfile.mkstemp(prefix="propagate-")
        os.unlink(name)
    os.ftruncate(file, size)
    return file


def _end(child: subprocess.Popen[bytes], replies: int) -> None:
    child.kill()
    child.wait()
    os.close(replies)
    with suppress(BrokenPipeError):
        if child.stdin is not None:
            child.stdin.close()
