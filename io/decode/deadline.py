"""A deadline on progress for a source that is decoded in this process."""

from collections.abc import Generator, Iterator
from contextlib import closing

from propagate.errors import VideoError
from propagate.io.decode.prefetch import Prefetcher
from propagate.io.decode.source import FrameStream
from propagate.records import Frame


class WatchedSource(FrameStream):
    """Reads a source in a thread, so that a decoder that is stuck can be left behind.

    The thread is one frame ahead. It cannot be ended while it is stuck, and keeps what the decoder
    holds until the process ends: `propagate.io.decode.isolated` is for who has to go on for long.

    Raises:
        VideoError: From the iteration: what the source raises, and when it makes no progress.
    """

    def __init__(self, source: FrameStream, label: str, deadline_s: float) -> None:
        """Take over a source of which nothing was read yet.

        Args:
            source: Closed with this one.
            label: What messages call it.
            deadline_s: Longest time without a frame or a sign of life, in seconds.
        """
        self._source = source
        self._label = label
        self._deadline_s = deadline_s
        self.info = source.info

    def _read(self) -> Generator[Frame | None, None, None]:
        frames = Prefetcher(_frames_of(self._source), bytes_limit=1, deadline_s=self._deadline_s)
        count = 0
        with frames:
            try:
                for frame in frames:
                    # Which decoder reads the file may be settled with its first frame.
                    self.info = self._source.info
                    count += 1
                    yield frame
            except TimeoutError as error:
                raise VideoError(
                    f"{self._label}: no progress for {self._deadline_s:g} s after {count} frames",
                    "get another copy of it, or decode in a separate process: {isolate=True}",
                ) from error

    def _release(self) -> None:
        self._source.close()


def _frames_of(source: FrameStream) -> Iterator[Frame | None]:
    """Close the source in the thread that reads it."""
    with closing(source):
        yield from source.with_signs()
