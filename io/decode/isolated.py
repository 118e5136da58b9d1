"""Decodes frames in a child process: a crash, a hang or a lack of memory costs one video only.

Images come through memory that both processes share, at most `SLOTS` at a time. Their indices and
times come as lines of JSON through a pipe, so nothing that a broken child writes can be executed.
The child does not load PyTorch; its code is in `propagate.io.decode.child`. For Linux and macOS.
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
from propagate.io.decode.source import FrameStream, frames_read
from propagate.records import Damage, Frame, Gap, VideoInfo

# Images in shared memory. The child fills one while another is copied out.
SLOTS = 3
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from propagate.io.decode.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
LONGEST_LINE = 2**20


class IsolatedSource(FrameStream):
    """Reads a source in a child process.

    Raises:
        VideoError: The source raises it in the child; the child crashes or is killed; or it makes
            no progress, and is killed from here. All earlier frames come first.
    """

    def __init__(
        self,
        source: str | int,
        options: SourceOptions,
        limits: Mapping[str, float],
        *,
        display_name: str,
        deadline_s: float,
    ) -> None:
        """Start the child, and wait until it has opened the source.

        Args:
            source: The source, as for `open_here`.
            options: The same. Smaller frames than `max_pixels` use less memory.
            limits: Keyword arguments for `open_here`.
            display_name: Name of the source in messages.
            deadline_s: Longest time without a frame or a sign of life, in seconds.
        """
        if sys.platform == "win32":
            raise VideoError(
                f"{display_name}: decoding in a separate process works on Linux and macOS only",
                "pass {isolate=False}",
            )
        self._display_name = display_name
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
                stdout=2,  # stdout is for results, not for messages of libraries
                pass_fds=(shared, replies_there),
                # Ctrl-C goes to the whole process group, and this process ends the child.
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
            with self._checking_message():
                self.info = _read_info(message["info"])
        except BaseException:
            self._ending()
            raise

    def close(self) -> None:
        """End the child at once, even while a thread waits for it."""
        with suppress(ProcessLookupError):
            self._child.kill()
        super().close()

    def _release(self) -> None:
        self._ending()

    def _read(self) -> Generator[Frame | None, None, None]:
        try:
            while "end" not in (message := self._receive()):
                frame = None
                with self._checking_message():
                    if "info" in message:
                        self.info = _read_info(message["info"])
                    elif "frame" in message:
                        frame = self._take(message["frame"])
                yield frame
        finally:
            self._ending()

    def _take(self, header: dict[str, Any]) -> Frame:
        """Copy a frame out of its slot, and free the slot."""
        height, width = header["size"]
        offset = self._count % SLOTS * self._slot_bytes
        if not 0 < height * width * 3 <= self._slot_bytes:
            raise ValueError(f"a frame of {width}x{height}")
        pixels = np.frombuffer(self._memory, np.uint8, height * width * 3, offset)
        image = pixels.reshape(height, width, 3).copy()
        self._count += 1
        self._tell(b".")
        time, name = Fraction(header["time"]), header["name"]
        return Frame(image, header["index"], time, name, header["in_range"])

    def _tell(self, data: bytes) -> None:
        assert self._child.stdin is not None
        # If the child has ended, reading its replies notices it.
        with suppress(BrokenPipeError):
            self._child.stdin.write(data)
            self._child.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        """Return the next message of the child. Raise its error, or say how it ended."""
        until_s = time.monotonic() + self._deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            while b"\n" not in self._received:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    raise self._broken_off(
                        f"its decoder made no progress for {self._deadline_s:g} s"
                    )
                data = os.read(self._replies, 2**16)
                if not data or len(self._received) > LONGEST_LINE:
                    raise self._broken_off(self._how_it_ended())
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        with self._checking_message():
            message = dict(json.loads(line))
            parts = message.get("error")
            error = None if parts is None else VideoError(*map(str, parts))
        if error is not None:
            raise error
        return message

    @contextmanager
    def _checking_message(self) -> Iterator[None]:
        """Report a message that makes no sense: the memory of the child was overwritten."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken_off("its decoder sent nonsense") from error

    def _how_it_ended(self) -> str:
        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its decoder stopped sending"
        if status >= 0:
            return f"its decoder ended with status {status}"
        name = signal.Signals(-status).name
        if name in ("SIGKILL", "SIGTERM"):
            return f"its decoder was killed ({name}), perhaps because memory ran out"
        return f"its decoder crashed ({name})"

    def _broken_off(self, what: str) -> VideoError:
        count = self._count
        after = f"after frame {count - 1}" if count else "before the first frame"
        return VideoError(
            f"{self._display_name}: {what} {after}",
            f"{frames_read(count)}; get another copy, or re-encode the part that plays",
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
        "damage": [[item.first, item.last, item.kind, item.reason] for item in info.damage],
        "notes": list(info.notes),
    }


def _read_info(values: dict[str, Any]) -> VideoInfo:
    fps = None if values["fps"] is None else Fraction(values["fps"])
    gaps = tuple(Gap(*gap) for gap in values["gaps"])
    damage = tuple(Damage(*item) for item in values["damage"])
    told = {"fps": fps, "gaps": gaps, "damage": damage, "notes": tuple(values["notes"])}
    return VideoInfo(**{**values, **told})


def _anonymous_file(size: int) -> int:
    """Open a file without a name. It uses memory only for what is written into it."""
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
