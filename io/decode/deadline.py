"""A deadline for progress, for a source that is decoded in this process."""

from collections.abc import Generator, Iterator
from contextlib import closing

from propagate.errors import VideoError, counted
from propagate.io.decode.prefetch import Prefetcher
from propagate.io.decode.source import FrameStream
from propagate.records import Frame


class WatchedSource(FrameStream):
    """Reads a source in a thread, so that a decoder that is stuck can be left behind.

    The thread is one frame ahead. A stuck thread cannot be ended, and keeps its memory until the
    process ends. A process that runs for long should use `propagate.io.decode.isolated`.

    Raises:
        VideoError: While reading: the source raises it, or makes no progress.
    """

    def __init__(self, source: FrameStream, display_name: str, deadline_s: float) -> None:
        """Take over a source that was not read from yet.

        Args:
            source: The source. It is closed with this one.
            display_name: Name of the source in messages.
            deadline_s: Longest time without a frame or a sign of life, in seconds.
        """
        self._source = source
        self._display_name = display_name
        self._deadline_s = deadline_s
        self.info = source.info

    def _read(self) -> Generator[Frame | None, None, None]:
        frames = Prefetcher(_frames_of(self._source), bytes_limit=1, deadline_s=self._deadline_s)
        count = 0
        with frames:
            try:
                for frame in frames:
                    # Reading the first frame may have changed the decoder.
                    self.info = self._source.info
                    count += 1
                    yield frame
                self.info = self._source.info
            except TimeoutError as error:
                raise VideoError(
                    f"{self._display_name}: no progress for {self._deadline_s:g} s after "
                    f"{counted(count, 'frame')}",
                    "get another copy of it, or decode in a separate process ({isolate=True})",
                ) from error

    def _release(self) -> None:
        self._source.close()


def _frames_of(source: FrameStream) -> Iterator[Frame | None]:
    """Close the source in the thread that reads it."""
    with closing(source):
        yield from source.with_signs()
