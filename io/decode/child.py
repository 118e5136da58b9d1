"""The child process that decodes one source for `isolated.py`."""

import json
import mmap
import os
import resource
import signal
import sys
import time
from contextlib import closing, suppress
from typing import Any

import numpy as np

from propagate.errors import VideoError, shown_address
from propagate.io.decode.isolated import SLOTS, write_info
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import FrameStream
from propagate.io.decode.video import open_here
from propagate.records import Frame

# Most memory of the child: twice as many frames of the largest size as a codec may keep for
# reference, and never less than the libraries need.
MEMORY_FRAMES = 32
MEMORY_BYTES = 6 * 2**30
SIGN_EVERY_S = 1.0


def main(shared: int, replies: int) -> None:
    """Read a request from stdin, and send the frames of the source that it names.

    Args:
        shared: File descriptor of the shared memory.
        replies: File descriptor of the pipe for messages.
    """
    # The parent reacts to Ctrl-C and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec = json.loads(sys.stdin.buffer.readline())
    memory_bytes = max(MEMORY_BYTES, MEMORY_FRAMES * spec["slot_bytes"])
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, most))
    channel = _Channel(shared, replies, spec["slot_bytes"], spec["deadline_s"])
    try:
        channel.arm()
        options = SourceOptions.from_json(spec["options"])
        with closing(open_here(spec["source"], options, **spec["limits"])) as frames:
            _send_all(channel, frames)
    except VideoError as error:
        channel.send(error=[" ".join(part.split()) for part in (error.message, error.hint)])
    except MemoryError:
        limit = f"{memory_bytes / 2**30:.0f} GiB"
        name = shown_address(str(spec["source"]))
        channel.send(error=[f"{name}: takes more than {limit} of memory to decode", ""])


def _send_all(channel: "_Channel", frames: FrameStream) -> None:
    info = frames.info
    channel.send(info=write_info(info))
    for frame in frames.with_signs():
        channel.arm()
        if frames.info is not info:
            info = frames.info
            channel.send(info=write_info(info))
        if frame is None:
            channel.show_life()
        else:
            channel.send_frame(frame)
    if frames.info is not info:
        channel.send(info=write_info(frames.info))
    channel.send(end=True)


class _Channel:
    """The child's ends of the shared memory and of the pipes."""

    def __init__(self, shared: int, replies: int, slot_bytes: int, deadline_s: float) -> None:
        self._memory = mmap.mmap(shared, SLOTS * slot_bytes)
        self._slot_bytes = slot_bytes
        self._replies = replies
        self._deadline_s = deadline_s
        self._sent = 0
        self._free = SLOTS
        self._last_sign_s = 0.0

    def arm(self) -> None:
        """Have the kernel end this process after a long time without progress.

        The parent ends it earlier. This is for the case that the parent was killed.
        """
        signal.setitimer(signal.ITIMER_REAL, self._deadline_s + 10)

    def send(self, **message: Any) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._replies, data) :]

    def show_life(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_sign_s > SIGN_EVERY_S:
            self._last_sign_s = now_s
            self.send()

    def send_frame(self, frame: Frame) -> None:
        """Put a frame into the next slot. Wait, however long, until the slot is free."""
        if not self._free:
            signal.setitimer(signal.ITIMER_REAL, 0)
            freed = os.read(0, SLOTS)
            if not freed:
                sys.exit()  # the parent is gone
            self._free += len(freed)
            self.arm()
        height, width, _ = frame.image.shape
        offset = self._sent % SLOTS * self._slot_bytes
        pixels = np.frombuffer(self._memory, np.uint8, frame.image.nbytes, offset)
        pixels.reshape(frame.image.shape)[:] = frame.image
        self._sent += 1
        self._free -= 1
        header = {"size": [height, width], "index": frame.index, "name": frame.name}
        self.send(frame={**header, "time": str(frame.time), "in_range": frame.in_range})
