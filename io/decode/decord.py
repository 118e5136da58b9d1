"""Frames through decord, for the clips that it decodes exactly and that fit in memory.

decord is given a clip whole, and nothing of it is handed on before it has been checked. Two
habits of the library leave no other safe way to use it:

- At the first frame it queues the packets of the whole file and decodes them ahead without limit;
  how far it has run cannot be seen or set from outside. Only a clip that may be held whole is
  safe with it.
- It does not tell the time of a frame that it returns, and may show one frame in place of
  another. PyAV decodes the clip too, without the conversion to RGB, and says how many frames
  there are, when they are shown, and what the keyframes look like.
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
from propagate.io.decode.pyav import LOCAL_OPTIONS, decoded_frames, frame_time, upright_rgb

# By FFmpeg's names. Other containers have no index that decord could count by: of MPEG-TS it
# loses the first frames. Other pixel formats it converts unlike PyAV, or not always alike.
CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
PIXEL_FORMATS = ("yuv420p",)

UNEQUAL = "its frames are not the ones that PyAV decodes"

PROGRESS_DEADLINE_S = 30.0


class DecordUnfitError(Exception):
    """decord does not decode this file exactly; the message is the reason."""


def decode_whole(path: Path, bytes_limit: int) -> Iterator[tuple[np.ndarray, Fraction]]:
    """Decode a clip with decord, check it against PyAV, then hand its frames out one by one.

    Args:
        path: A video file.
        bytes_limit: Most bytes that the decoded clip and its file may take together.

    Returns:
        Images, (H, W, 3) uint8 RGB upright, with exact times in seconds. Each is forgotten when
        it is handed out.

    Raises:
        DecordUnfitError: A kind of file that decord gets wrong, more than `bytes_limit`, frames
            unlike PyAV's, no frame for 30 seconds, or any error of decord.
    """
    try:
        _refuse_early(path, bytes_limit)
        # decord has no deadline of its own and was seen to hang: it runs in a thread that can be
        # left behind.
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
    # Everything decord may raise (its own errors, RuntimeError, AssertionError, a missing
    # library) says the same: it cannot be used here.
    except Exception as error:
        raise DecordUnfitError(f"it failed: {_first_line(error)}") from error
    return _hand_out(images, times)


def _refuse_early(path: Path, bytes_limit: int) -> None:
    """Raise DecordUnfitError for what can be told without decoding: the kind, and the size."""
    with _open(path) as container:
        stream = container.streams.best("video")
        codec = stream.codec_context
        if container.format.name not in CONTAINERS:
            raise DecordUnfitError(f"its frame count is not reliable in {container.format.name}")
        if codec.pix_fmt not in PIXEL_FORMATS:
            raise DecordUnfitError(f"its colours differ for the pixel format {codec.pix_fmt}")
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
    import decord  # late: heavy, and only needed for files that pass the rules

    decord.logging.set_level(decord.logging.QUIET)
    # fault_tol=1: an error instead of a repeated frame where one cannot be decoded.
    # num_threads=1: measured no slower, and each thread of decord holds frames of its own.
    reader = decord.VideoReader(str(path), num_threads=1, fault_tol=1)
    for _ in range(len(reader)):
        yield reader.next().asnumpy()


def _checked_times(path: Path, images: deque[np.ndarray]) -> list[Fraction]:
    """Return the exact time of every frame, having compared decord's frames with PyAV's.

    Compared are the count, every size, and the pixels of every keyframe and of the last frame: a
    lost or repeated frame, another size or other colours show in one of them.
    """
    ordered = list(images)  # a deque is slow to index
    times: list[Fraction] = []
    with _open(path) as container:
        frame = size = None
        for frame in decoded_frames(container, container.streams.best("video")):
            size = size or (frame.width, frame.height)
            time = frame_time(frame)
            if time is None or len(times) == len(ordered) or size != (frame.width, frame.height):
                raise DecordUnfitError(UNEQUAL)
            if frame.key_frame and not np.array_equal(ordered[len(times)], upright_rgb(frame)):
                raise DecordUnfitError(UNEQUAL)
            times.append(time)
        if len(times) != len(ordered) or not np.array_equal(ordered[-1], upright_rgb(frame)):
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
    """Return an error's first line without the clock and source lines that decord puts first."""
    text = str(error) or type(error).__name__
    first = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text).splitlines()[0]
    return textwrap.shorten(first, 100, placeholder=" ...")
