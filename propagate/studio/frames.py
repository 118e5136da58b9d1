"""The frames of a video as JPEGs, each with its exact number.

One thread decodes the video once from the first frame to the last, stores the frames as far as the
store has room, and so learns how many there are and their times. A frame that is not stored is
decoded when it is asked for, by a second thread. Decoding is exact from the first frame only, so
that thread reads forwards: on from where it is, or again from the start.
"""

import threading
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from dataclasses import replace

from propagate.errors import PropagateError, VideoError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import FrameSource, damage_line
from propagate.io.decode.video import frame_names, open_source
from propagate.io.write.encode import encode_image
from propagate.records import Frame
from propagate.studio.answers import Refused
from propagate.studio.frame_store import FrameStore

JPEG_QUALITY = 85
# A frame that the first pass reaches this soon is waited for.
SOON = 64
# Frames around one that is decoded on demand: the next steps back and forth are likely.
BEFORE, AFTER = 48, 16
# The second thread keeps its place for this long.
IDLE_S = 10.0
PATIENCE_S = 300.0
# Eight bytes each are kept in memory.
MOST_FRAMES = 20_000_000


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame as JPEG."""
    return encode_image(frame.image, "JPEG", quality=JPEG_QUALITY)


class Frames:
    """The frames of one video.

    Attributes:
        info: What is known of the source.
        counted: Whether the video was decoded to its end, so that `count` is exact.
        error: Why it was not decoded further, in one line; None if nothing is wrong.
    """

    def __init__(
        self,
        source: str,
        video: str,
        store: FrameStore,
        options: SourceOptions,
    ) -> None:
        """Open the source, and read its first frame.

        Args:
            source: A video file, a folder or an archive of images.
            video: Its name in the store.
            store: Keeps the frames.
            options: How it is opened.

        Raises:
            VideoError: It cannot be opened, or has no frame.
        """
        self._source, self._video, self._store, self._options = source, video, store, options
        self._times = array("d")
        self.counted, self.error = False, None
        self._changed = threading.Condition()
        self._wanted: dict[int, Future[bytes]] = {}
        self._closed = False
        self._seeker: threading.Thread | None = None
        self._seeking: FrameSource | None = None
        self.names = frame_names(source)
        self._passing = open_source(source, options)
        try:
            first = next(iter(self._passing), None)
            if first is None:
                raise VideoError(f"{source}: has no frames", "choose another file")
        except BaseException:
            self._passing.close()
            raise
        self.info = self._passing.info
        height, width, _ = first.image.shape
        self.size = height, width
        self._take(first)

    def start(self, on_counted: Callable[[], None]) -> None:
        """Start to read all frames; call back, in another thread, after the last one."""
        threading.Thread(target=self._pass, args=(on_counted,), name="frames", daemon=True).start()

    # --- what is known ---------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many frames there are; an estimate until `counted`."""
        known = len(self._times)
        return known if self.counted else max(known, self.info.frame_count or 0)

    @property
    def times(self) -> list[float]:
        """Presentation times in seconds, of the frames that were read so far."""
        return self._times.tolist()

    def name_of(self, index: int) -> str:
        """Return the name of a frame, which is that of its mask."""
        if self.names is not None and index < len(self.names):
            return self.names[index]
        return f"{index:05d}"

    def check(self, index: int) -> None:
        """Refuse a frame that does not exist.

        Raises:
            Refused: There is no such frame.
        """
        if not 0 <= index < max(self.count, 1):
            why = f" ({self.error})" if self.error else ""
            raise Refused(404, f"frame {index}: there are only frames 0 to {self.count - 1}{why}")

    # --- frames ----------------------------------------------------------------------------------

    def jpeg(self, index: int) -> bytes:
        """Return a frame, decoded if need be.

        Raises:
            Refused: There is no such frame, or it takes too long.
            VideoError: It cannot be decoded.
        """
        if (data := self._store.get(self._video, index)) is not None:
            return data
        with self._changed:
            if self._closed:
                raise Refused(503, "the studio is ending")
            if self.counted or index < 0:
                self.check(index)
            wanted = self._wanted.setdefault(index, Future())
            # It may have come just before it was wanted.
            if (data := self._store.get(self._video, index)) is not None:
                self._wanted.pop(index, None)
                return data
            comes_soon = len(self._times) <= index < len(self._times) + SOON
            if self.counted or not comes_soon:
                self._seek()
        try:
            return wanted.result(PATIENCE_S)
        except TooLate:
            raise Refused(504, f"frame {index}: took more than {PATIENCE_S:g} s") from None

    def close(self) -> None:
        """End all threads."""
        with self._changed:
            self._closed = True
            self._fail(Refused(503, "the studio is ending"))
            self._changed.notify_all()
        self._passing.close()
        if (seeking := self._seeking) is not None:
            seeking.close()

    # --- the first pass --------------------------------------------------------------------------

    def _pass(self, on_counted: Callable[[], None]) -> None:
        error: PropagateError | None = None
        try:
            with self._passing as frames:
                for frame in frames:
                    if len(self._times) >= MOST_FRAMES:
                        raise VideoError(f"{self._source}: has more than {MOST_FRAMES} frames")
                    self._take(frame)
        except PropagateError as caught:
            error = caught
        with self._changed:
            if self._closed:
                return
            if error is not None:
                self.error = " ".join(str(error).split())
            self.info = self._passing.info
            self.counted = True
            missing = Refused(404, f"there is no such frame: the last one is {self.count - 1}")
            self._fail(error or missing, self.count)
            if self._wanted:
                self._seek()
        on_counted()

    def _take(self, frame: Frame) -> None:
        data = encode_frame(frame)
        self._store.put(self._video, frame.index, data, replace=False)
        with self._changed:
            self._times.append(frame.time_s)
            self._hand_over(frame.index, data)

    @property
    def notes(self) -> list[str]:
        """Lines for a person about what is wrong with the source."""
        damage = damage_line(self.info.damage)
        found = [*self.info.notes, *([f"{self.info.name}: {damage}"] if damage else [])]
        return [*found, *([self.error] if self.error else [])]

    # --- frames on demand ------------------------------------------------------------------------

    def _seek(self) -> None:
        """Let the second thread look at what is wanted; the lock is held."""
        if self._seeker is None:
            self._seeker = threading.Thread(target=self._serve, name="frame", daemon=True)
            self._seeker.start()
        self._changed.notify_all()

    def _serve(self) -> None:
        """Decode wanted frames, until none was wanted for a while."""
        reader = _Reader(self)
        try:
            while (target := self._next_target(reader.position)) is not None:
                try:
                    reader.read_to(target)
                except PropagateError as error:
                    reached = reader.position
                    reader.close()
                    with self._changed:
                        self._fail(error, reached)
        finally:
            reader.close()

    def _next_target(self, position: int) -> int | None:
        """Choose the wanted frame that is nearest ahead, else the first; None: the thread ends."""
        until = time.monotonic() + IDLE_S
        with self._changed:
            while not self._closed:
                wanted = list(self._wanted)
                if not self.counted:  # the first pass is about to bring these
                    passed = len(self._times)
                    wanted = [i for i in wanted if not passed <= i < passed + SOON]
                if wanted:
                    return min((i for i in wanted if i >= position), default=min(wanted))
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._seeker = None
            return None

    def _hand_over(self, index: int, data: bytes) -> None:
        """Give a frame to those who wait for it; the lock is held."""
        wanted = self._wanted.pop(index, None)
        if wanted is not None:
            wanted.set_result(data)

    def _fail(self, error: PropagateError, first: int = 0) -> None:
        """Give an error to all who wait for a frame from `first` on; the lock is held."""
        for index in [index for index in self._wanted if index >= first]:
            self._wanted.pop(index).set_exception(error)


class _Reader:
    """Reads forwards, and starts again from the first frame where it has to go back."""

    def __init__(self, frames: Frames) -> None:
        self._of = frames
        self._source: FrameSource | None = None
        self.position = 0  # the frame that comes next

    def read_to(self, target: int) -> None:
        """Read to a frame and a little further; store what lies around it.

        Raises:
            Refused: There is no such frame.
            VideoError: It cannot be decoded.
        """
        of = self._of
        jumps = of.info.decoder == "images" and target > self.position + BEFORE
        if self._source is None or target < self.position or jumps:
            self._open(max(0, target - BEFORE))
        assert self._source is not None
        for frame in self._frames_for(target):
            self.position = frame.index + 1
            if frame.index >= target - BEFORE:
                data = encode_frame(frame)
                of._store.put(of._video, frame.index, data, replace=True)
                with of._changed:
                    of._hand_over(frame.index, data)
            with of._changed:
                others = any(i < self.position or i > target + AFTER for i in of._wanted)
            if frame.index >= target + (0 if others else AFTER) or of._closed:
                return
        end = self.position
        self.close()
        if end <= target:
            raise Refused(404, f"frame {target}: the last one is {end - 1}")

    def _frames_for(self, target: int) -> Iterator[Frame]:
        """Give the frames of the source.

        Raises:
            Refused: There is none where it was opened.
            VideoError: One of them cannot be decoded.
        """
        assert self._source is not None
        begun = False
        try:
            for frame in self._source:
                begun = True
                yield frame
        except VideoError as error:
            if begun:
                raise
            raise Refused(404, f"frame {target}: {error.message}") from error

    def _open(self, start: int) -> None:
        self.close()
        of = self._of
        # decord would decode the whole clip.
        options = replace(of._options, decoder="pyav", frame_range=FrameRange(start=start))
        self._source = of._seeking = open_source(of._source, options)
        self.position = start
        if of._closed:
            self.close()

    def close(self) -> None:
        if self._source is not None:
            with suppress(OSError):
                self._source.close()
            self._source = self._of._seeking = None
        self.position = 0
