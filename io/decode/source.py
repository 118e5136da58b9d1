"""The interface of every source of frames, and the iteration that they share."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from os import PathLike
from typing import Protocol, Self

from propagate.errors import counted
from propagate.records import Damage, Frame, VideoInfo
from propagate.stage_clock import show_life

# A path of a video file or image folder, the index of a camera, or the address of a stream.
Source = str | PathLike[str] | int


class FrameSource(Protocol):
    """The frames of one video in presentation order. They can be read once.

    `info.decoder` names the decoder in use. It can change when the first frame is read, and is
    fixed after that.
    """

    @property
    def info(self) -> VideoInfo:
        """Name, size, frame rate and length of the source, as far as they are known."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Return itself."""
        ...

    def __next__(self) -> Frame:
        """Return the next frame; raise VideoError if the source breaks off."""
        ...

    def close(self) -> None:
        """Release the file or device. Reading then ends at once. Closing twice is allowed."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close."""
        ...


class FrameStream:
    """The iteration and the closing of a `FrameSource`. A subclass says how frames are read.

    A subclass sets `info` and implements `_read`, a generator that releases its resources in a
    `finally` block. `_release` releases what was opened before the first frame was read. `_read`
    yields None as a sign of life after work or waiting that gave no frame.
    """

    info: VideoInfo
    _frames: Generator[Frame | None, None, None] | None = None
    _closed = False

    def _read(self) -> Generator[Frame | None, None, None]:
        raise NotImplementedError

    def _release(self) -> None:
        """Release files and threads."""

    def __iter__(self) -> Iterator[Frame]:
        """Return itself."""
        return self

    def __next__(self) -> Frame:
        """Return the next frame; raise VideoError if the source breaks off."""
        for frame in self.with_signs():
            # Skipping frames takes long in a long video.
            show_life()
            if frame is not None:
                return frame
        raise StopIteration

    def with_signs(self) -> Iterator[Frame | None]:
        """Yield the remaining frames and the signs of life, which tell slow reading from stuck."""
        while not self._closed:
            if self._frames is None:
                self._frames = self._read()
            try:
                yield next(self._frames)
            except StopIteration:
                return

    def close(self) -> None:
        """Release the file or device. Reading then ends at once. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        # ValueError: another thread is stuck in a decoder inside the generator. The container must
        # not be released under it, as that would crash the process. The thread is a daemon.
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


def damage_line(damage: Sequence[Damage]) -> str:
    """Say which frames were lost and which concealed; empty if there are none.

    >>> damage_line([Damage(12, 14, "lost", "cut"), Damage(20, 20, "lost", "cut")])
    '4 frames lost (12-14, 20)'
    """
    parts = []
    for kind in ("lost", "concealed"):
        ranges = [(item.first, item.last) for item in damage if item.kind == kind]
        count = sum(last - first + 1 for first, last in ranges)
        if count:
            listed = ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in _joined(ranges))
            what = f"{counted(count, 'frame')} {kind}" if not parts else f"{count} {kind}"
            parts.append(f"{what} ({listed})")
    return ", ".join(parts)


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges of frames that follow each other."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined


def frames_read(count: int) -> str:
    """Say how many frames were read, for the hint of an error.

    >>> frames_read(1), frames_read(3)
    ('1 frame was read', '3 frames were read')
    """
    return f"{counted(count, 'frame')} {'was' if count == 1 else 'were'} read"
