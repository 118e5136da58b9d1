"""Decodes clips with decord, if it decodes them exactly and they fit in memory.

decord decodes a whole clip, which is checked before any frame of it is used. Two properties of the
library leave no other safe way:

- At the first frame it queues the packets of the whole file and decodes them ahead without limit.
  Nothing outside can see or set how far ahead it is. So the whole clip must fit in memory.
- It does not report the time of a frame, and may return one frame in place of another. So PyAV
  decodes the clip too, without the conversion to RGB, and gives the number of frames, their times
  and the pixels of the keyframes.
"""

import re
import textwrap
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from propagate.io.decode.prefetch import Prefetcher
from propagate.io.decode.pyav import LOCAL_OPTIONS, accounts_of, decoded_frames, frame_time
from propagate.io.decode.rgb import RgbConverter

# In FFmpeg's names. decord cannot count frames in other containers, and loses the first frames of
# MPEG-TS.
CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Whole chroma. decord converts to RGB itself and offers no flags: where chroma is halved (yuv420p
# and the like), its pictures are 1.1 levels too dark on average, and single pixels at edges of
# colours are off by over 100.
PIXEL_FORMATS = ("yuv444p", "yuvj444p", "gbrp", "rgb24", "bgr0", "gray")

UNEQUAL = "its frames differ from those that PyAV decodes"

PROGRESS_DEADLINE_S = 30.0


class DecordUnfitError(Exception):
    """decord does not decode this file exactly; the message is the reason."""


def decode_whole(path: Path, bytes_limit: int) -> Iterator[tuple[np.ndarray, Fraction]]:
    """Decode a clip with decord, check it against PyAV, then return its frames one by one.

    Args:
        path: A video file.
        bytes_limit: Most bytes for the decoded clip and its file together.

    Returns:
        Upright images (H, W, 3), uint8 RGB, with exact times in seconds. Each is dropped when it is
        returned.

    Raises:
        DecordUnfitError: decord gets this kind of file wrong, the clip needs more than
            `bytes_limit`, its frames differ from PyAV's, no frame came for 30 seconds, or decord
            failed.
    """
    try:
        _refuse_early(path, bytes_limit)
        # decord has no deadline and can hang, so it runs in a thread that can be left behind.
        with Prefetcher(
            _decord_images(path),
            bytes_limit=bytes_limit,
            size_of=lambda image: image.nbytes,
            deadline_s=PROGRESS_DEADLINE_S,
        ) as decoded:
            images = deque(decoded)
        times = _checked_times(path, images)
    except DecordUnfitError:
        raise
    except TimeoutError as error:
        raise DecordUnfitError(f"it gave no frame for {PROGRESS_DEADLINE_S:.0f} s") from error
    # Whatever decord raises (its own errors, RuntimeError, AssertionError, a missing library), it
    # cannot be used for this file.
    except Exception as error:
        raise DecordUnfitError(f"it failed: {_first_line(error)}") from error
    return _hand_out(images, times)


def _refuse_early(path: Path, bytes_limit: int) -> None:
    """Raise DecordUnfitError if container, pixel format or size rule decord out."""
    with _open(path) as container:
        stream = container.streams.best("video")
        codec = stream.codec_context
        if container.format.name not in CONTAINERS:
            raise DecordUnfitError(f"its frame count is not reliable in {container.format.name}")
        if codec.pix_fmt not in PIXEL_FORMATS:
            raise DecordUnfitError(
                f"its colours are not exact for the pixel format {codec.pix_fmt}"
            )
        frames_limit = (bytes_limit - path.stat().st_size) // (codec.width * codec.height * 3)
        packets = 0
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packets > frames_limit:
                raise DecordUnfitError(
                    "it reads ahead without limit, and this clip takes more than "
                    f"{bytes_limit / 2**20:.0f} MiB decoded"
                )
            if packet.is_discard:
                raise DecordUnfitError("it shows the frames that the file's edit list hides")


def _decord_images(path: Path) -> Iterator[np.ndarray]:
    import decord  # slow to import, and needed only for files that pass the checks

    decord.logging.set_level(decord.logging.QUIET)
    # fault_tol=1 gives an error, not a repeated frame, if a frame cannot be decoded.
    # num_threads=1 is no slower, and each thread of decord would hold frames.
    reader = decord.VideoReader(str(path), num_threads=1, fault_tol=1)
    for _ in range(len(reader)):
        yield reader.next().asnumpy()


def _checked_times(path: Path, images: deque[np.ndarray]) -> list[Fraction]:
    """Return the exact time of every frame, after a comparison of decord's frames with PyAV's.

    The number of frames, every size, and the pixels of every keyframe and of the last frame must
    be equal. A lost or repeated frame, another size or other colours change one of them.
    """
    ordered = list(images)  # a deque is slow to index
    times: list[Fraction] = []
    to_rgb = RgbConverter()
    with _open(path) as container:
        frame = size = None
        stream = container.streams.best("video")
        accounts = accounts_of(container, stream, path.name)
        for frame in decoded_frames(container, stream, accounts=accounts):
            accounts.take_frame(frame)
            size = size or (frame.width, frame.height)
            time = frame_time(frame)
            if time is None or len(times) == len(ordered) or size != (frame.width, frame.height):
                raise DecordUnfitError(UNEQUAL)
            if frame.key_frame and not np.array_equal(ordered[len(times)], to_rgb(frame)):
                raise DecordUnfitError(UNEQUAL)
            times.append(time)
        if len(times) != len(ordered) or not np.array_equal(ordered[-1], to_rgb(frame)):
            raise DecordUnfitError(UNEQUAL)
    return times


def _hand_out(
    images: deque[np.ndarray], times: list[Fraction]
) -> Iterator[tuple[np.ndarray, Fraction]]:
    for time in times:
        yield images.popleft(), time


def _open(path: Path) -> Any:
    return av.open(str(path), metadata_errors="replace", options=LOCAL_OPTIONS)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error, without the time and source line in front of it."""
    text = str(error) or type(error).__name__
    first = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text).splitlines()[0]
    return textwrap.shorten(first, 100, placeholder=" ...")
