"""What every source of frames offers, and the one-pass iteration they share."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Protocol, Self

from propagate.records import Frame, VideoInfo


class FrameSource(Protocol):
    """Frames of one video in presentation order: forward only, one pass.

    `info.decoder` names the decoder in use. It may change from "decord" to "pyav" when the first
    frame is asked for, never after it.
    """

    @property
    def info(self) -> VideoInfo:
        """What is known of the source."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Return itself: one pass."""
        ...

    def __next__(self) -> Frame:
        """Return the next frame; raise VideoError where the source breaks off."""
        ...

    def close(self) -> None:
        """Release the file or device; reading on then ends at once. May be called twice."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close."""
        ...


class FrameStream:
    """The iteration and closing of a `FrameSource`; a subclass says how frames are read.

    A subclass sets `info` and implements `_read`, whose `finally` releases what it holds, and
    `_release` for what was opened before the first frame was asked for. `_read` yields None as a
    sign of life where it worked or waited and has no frame to show for it.
    """

    info: VideoInfo
    _frames: Generator[Frame | None, None, None] | None = None
    _closed = False

    def _read(self) -> Generator[Frame | None, None, None]:
        raise NotImplementedError

    def _release(self) -> None:
        """Give back files and threads."""

    def __iter__(self) -> Iterator[Frame]:
        """Return itself: one pass."""
        return self

    def __next__(self) -> Frame:
        """Return the next frame; raise VideoError where the source breaks off."""
        return next(frame for frame in self.with_signs() if frame is not None)

    def with_signs(self) -> Iterator[Frame | None]:
        """Go on with the one pass, signs of life included: for who has to tell slow from stuck."""
        while not self._closed:
            if self._frames is None:
                self._frames = self._read()
            try:
                yield next(self._frames)
            except StopIteration:
                return

    def close(self) -> None:
        """Release the file or device; reading on then ends at once. May be called twice."""
        if self._closed:
            return
        self._closed = True
        # ValueError: another thread is inside the generator, stuck in a decoder. Releasing the
        # container under it would crash the process; that thread is a daemon and keeps it.
        with suppress(ValueError):
            if self._frames is not None:
                self._frames.close()
            self._release()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
