"""One frame of anything that holds frames: a picture, a video, a folder of images."""

from os import PathLike
from pathlib import Path

from propagate.errors import VideoError
from propagate.io.image_folder import SUFFIXES, ImageFolder
from propagate.io.source import FrameSource
from propagate.io.video import open_video
from propagate.records import Frame


def read_frame(source: str | PathLike[str] | int, index: int = 0) -> Frame:
    """Read one frame by its number.

    Args:
        source: An image, or what `open_video` takes.
        index: From 0; a picture has one frame.

    Raises:
        VideoError: It cannot be read, or ends before.
        ValueError: The number is negative.
    """
    if index < 0:
        raise ValueError(f"index: 0 or more, not {index}")
    count = 0
    with _open(source) as frames:
        for frame in frames:
            if frame.index == index:
                return frame
            count += 1
    raise VideoError(
        f"{source}: frame {index} is past the end: there are {count}, 0 to {count - 1}; name one "
        "of them"
    )


def _open(source: str | PathLike[str] | int) -> FrameSource:
    path = Path(str(source))
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return ImageFolder(path.parent, [path])
    # decord would decode the whole clip for this one frame.
    return open_video(source, decoder="pyav")
