"""How many frames a video file can have at most, without decoding it."""

from pathlib import Path

import av
from av.error import FFmpegError


def most_frames(path: str | Path) -> int | None:
    """Count the packets of the video in a file: none of them gives more than one frame.

    The file is read once, and nothing of it is decoded.

    Args:
        path: A video file.

    Returns:
        The count; None if the file cannot be read to its end.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return sum(packet.size > 0 for packet in container.demux(stream))
    except (FFmpegError, IndexError, OSError, ValueError):
        return None
