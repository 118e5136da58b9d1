"""Masks drawn over the frames, and the H.264 video that holds them.

H, W are the rows and columns of a frame.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace

from propagate.errors import OutputError
from propagate.io.masks.png import palette
from propagate.io.write.files import PartialFile
from propagate.records import BACKGROUND_ID, VOID_ID

ENCODER = "libx264"
PRESET = "veryfast"
# x264's result depends on this number, so it does not follow the machine's cores.
ENCODER_THREADS = 2
# Ticks per second. A whole number of them is one period of each clock that videos commonly keep:
# 600, 1000, 12800, 15360, 24000, 30000, 60000 and 90000 per second; so their times stay exact.
CLOCK = 5_760_000


def draw_overlay(image: np.ndarray, ids: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Tint every object with its palette colour and draw its outline in full.

    Background and void keep their pixels. The outline lies on the object's own pixels: those with
    another id above, below, left or right of them.

    Args:
        image: (H, W, 3) uint8, RGB. Not changed.
        ids: (H, W) uint8.
        alpha: Share of the colour inside the outline, 0..1.

    Returns:
        (H, W, 3) uint8, RGB, a new array.

    Raises:
        ValueError: If image and ids differ in size, or alpha is outside 0..1.
    """
    if image.shape != (*ids.shape, 3):
        raise ValueError(f"image: (H, W, 3) with the (H, W) of ids {ids.shape}, not {image.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: 0..1, not {alpha}")
    pixels = image.reshape(-1, 3).copy()  # (HW, 3)
    flat = ids.reshape(-1)
    # Objects cover a small part of most frames: only their pixels (N of them) are worked on.
    labelled = np.flatnonzero((flat != BACKGROUND_ID) & (flat != VOID_ID))  # (N,)
    opacity = np.where(_outline(ids).reshape(-1)[labelled], 256, round(256 * alpha))  # of 256
    opacity = opacity.astype(np.uint16)[:, None]  # (N, 1); 255 * 256 + 128 still fits uint16
    colours = palette()[flat[labelled]]  # (N, 3)
    blended = pixels[labelled] * (256 - opacity) + colours * opacity + 128
    pixels[labelled] = blended >> 8
    return pixels.reshape(image.shape)


class VideoWriter:
    """Writes an H.264 video (yuv420p, mp4) that browsers play, whole or not at all.

    The first frame is shown at 0 and every other one exactly as much later as its time says. A
    side with an odd number of pixels grows by one, a copy of the last, since H.264 halves the
    colour planes.

    Use it in a `with` block; the file appears when the block ends without an error.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, fps: Fraction | None = None, crf: int = 20
    ) -> None:
        """Begin the file.

        Args:
            path: The mp4 file, in a folder that exists. An old file is replaced at the end.
            width: Columns of every frame.
            height: Rows of every frame.
            fps: Average frames per second, for the encoder's rate control and the length of the
                last frame; 25 if not known. The times of the frames decide when they are shown.
            crf: Quality of x264, 0 (lossless) to 51; smaller is better and larger.

        Raises:
            OutputError: If it cannot be written there, or PyAV lacks the H.264 encoder.
        """
        self._shape = (height, width, 3)
        self._duration = round(CLOCK / (fps or 25))
        self._start: Fraction | None = None
        self._last_tick = -1
        self._partial = PartialFile(path)
        with self._writing():
            self._container = av.open(
                str(self._partial.path), "w", format="mp4", options={"movflags": "+faststart"}
            )
            self._stream = self._add_stream(fps or Fraction(25), crf)
            self._container.start_encoding()  # Opens file and encoder now, not at the first frame.

    def write(self, image: np.ndarray, time: Fraction) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8, RGB.
            time: Presentation time in seconds. One that is not later than the last frame's, as a
                live source may give it, is moved just behind that.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If the image has another size than the writer.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"image: {self._shape} uint8, not {image.shape} {image.dtype}")
        height, width, _ = self._shape
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._start is None:
            self._start = time
        tick = max(round((time - self._start) * CLOCK), self._last_tick + 1)
        with self._writing():
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base, frame.duration = tick, Fraction(1, CLOCK), self._duration
            self._container.mux(self._stream.encode(frame))
        self._last_tick = tick

    def close(self) -> None:
        """Encode what is still in the encoder, finish the file and give it its name.

        Raises:
            OutputError: If it cannot be written, or no frame was.
        """
        with self._writing():
            if self._start is None:
                self._container.close()
                raise OutputError(f"{self._partial.final}: a video of no frames cannot be written")
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial.commit()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file, or leave nothing of it if the block failed."""
        if kind is None:
            self.close()
            return
        # Closing writes the index, which fails again on a full disk.
        with suppress(FFmpegError):
            self._container.close()
        self._partial.discard()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Guard one step; failures of FFmpeg that are no `OSError` become `OutputError` too."""
        try:
            with self._partial.writing():
                yield
        except FFmpegError as error:
            raise OutputError(
                f"{self._partial.final}: the video cannot be encoded ({error}): leave it out"
            ) from error

    def _add_stream(self, fps: Fraction, crf: int) -> av.VideoStream:
        height, width, _ = self._shape
        # Without it x264's AVX-512 code makes two encodings of the same frames differ.
        options = {
            "crf": str(crf),
            "preset": PRESET,
            "threads": str(ENCODER_THREADS),
            "x264-params": "cpu-independent=1",
        }
        try:
            # An mp4 holds a rate as two 16-bit numbers; the exact times are in the frames.
            stream = self._container.add_stream(ENCODER, fps.limit_denominator(1001), options)
        except UnknownCodecError as error:
            raise OutputError(
                f"{self._partial.final}: PyAV was built without {ENCODER}: install its wheel "
                "(pip install --force-reinstall --only-binary av av), or leave the video out"
            ) from error
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        # Without these a player guesses the colours from the size of the picture.
        context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        return stream


class OverlayWriter:
    """Writes the video of all frames with their masks drawn over them.

    Use it in a `with` block; the file appears when the block ends without an error.
    """

    def __init__(
        self,
        path: str | Path,
        fps: Fraction | None,
        width: int,
        height: int,
        alpha: float = 0.5,
    ) -> None:
        """Begin the file.

        Args:
            path: The mp4 file, in a folder that exists. An old file is replaced at the end.
            fps: Average frames per second, None if not known (see `VideoWriter`).
            width: Columns of every frame.
            height: Rows of every frame.
            alpha: Share of an object's colour inside its outline, 0..1.

        Raises:
            OutputError: If it cannot be written there, or PyAV lacks the H.264 encoder.
        """
        self._alpha = alpha
        self._video = VideoWriter(path, width, height, fps)

    def write(self, image: np.ndarray, ids: np.ndarray, time: Fraction) -> None:
        """Add a frame: image (H, W, 3) uint8 RGB, ids (H, W) uint8, its time in seconds.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If a size is wrong.
        """
        self._video.write(draw_overlay(image, ids, self._alpha), time)

    def close(self) -> None:
        """Finish the file and give it its name; `OutputError` if that fails."""
        self._video.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file, or leave nothing of it if the block failed."""
        self._video.__exit__(kind, error, traceback)


def _outline(ids: np.ndarray) -> np.ndarray:
    """Mark the pixels with another id above, below, left or right: (H, W) bool."""
    outline = np.zeros(ids.shape, dtype=bool)
    vertical = ids[1:] != ids[:-1]
    horizontal = ids[:, 1:] != ids[:, :-1]
    outline[1:] |= vertical
    outline[:-1] |= vertical
    outline[:, 1:] |= horizontal
    outline[:, :-1] |= horizontal
    return outline
