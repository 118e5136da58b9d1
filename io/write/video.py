"""Frames written as an H.264 video.

H, W are the rows and columns of a frame.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace

from propagate.errors import OutputError
from propagate.io.write.files import PartialFile, WholeFile

ENCODER = "libx264"
PRESET = "veryfast"
# Fixed, because the encoded bytes depend on it.
ENCODER_THREADS = 2
# Ticks per second: a multiple of every common clock of videos (600, 1000, 12800, 15360, 24000,
# 30000, 60000 and 90000 per second), so that times stay exact.
CLOCK = 5_760_000


class VideoWriter(WholeFile):
    """Writes an H.264 video (yuv420p, mp4) that browsers play.

    The first frame is shown at 0, and every other frame as much later as its time says, exactly. An
    odd number of rows or columns is made even with a copy of the last one, because H.264 halves the
    colour planes.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, fps: Fraction | None = None, crf: int = 20
    ) -> None:
        """Start the file.

        Args:
            path: The mp4 file, in a folder that exists. An existing file is replaced at the end.
            width: Columns of every frame.
            height: Rows of every frame.
            fps: Average frames per second; None: unknown, 25 is used. It sets the encoder's rate
                control and the length of the last frame. When frames are shown, only their times
                decide.
            crf: Quality of x264, 0 (lossless) to 51; smaller is better and larger.

        Raises:
            OutputError: If it cannot be written, or PyAV has no H.264 encoder.
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
            time: Presentation time in seconds. If it is not later than that of the frame before,
                as may happen with live sources, the frame is shown one tick after that frame.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If the image does not have the size of the writer.
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
        """Encode the frames still in the encoder, and move the file to its final name.

        Raises:
            OutputError: If it cannot be written, or there were no frames.
        """
        with self._writing():
            if self._start is None:
                self._container.close()
                raise OutputError(f"{self._partial.final}: a video of no frames cannot be written")
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial.commit()

    def discard(self) -> None:
        """Remove what was written."""
        # Closing writes the index, which fails again on a full disk.
        with suppress(FFmpegError):
            self._container.close()
        self._partial.discard()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Guard one step; every failure of FFmpeg becomes an `OutputError`."""
        try:
            with self._partial.writing():
                yield
        except FFmpegError as error:
            raise OutputError(
                f"{self._partial.final}: the video cannot be encoded ({error})", "leave it out"
            ) from error

    def _add_stream(self, fps: Fraction, crf: int) -> av.VideoStream:
        height, width, _ = self._shape
        # Without cpu-independent, x264's AVX-512 code gives other bytes every time.
        options = {
            "crf": str(crf),
            "preset": PRESET,
            "threads": str(ENCODER_THREADS),
            "x264-params": "cpu-independent=1",
        }
        try:
            # An mp4 stores the rate as two 16-bit numbers; the frames have the exact times.
            stream = self._container.add_stream(ENCODER, fps.limit_denominator(1001), options)
        except UnknownCodecError as error:
            raise OutputError(
                f"{self._partial.final}: PyAV was built without {ENCODER}",
                "install its wheel (pip install --force-reinstall --only-binary av av), or leave "
                "the video out",
            ) from error
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        # Without these, players guess the colour space from the size of the frames.
        context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        return stream
