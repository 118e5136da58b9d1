"""One frame of anything that holds frames: a picture, a video, a folder of images."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from propagate.errors import VideoError
from propagate.io.decode.image_folder import SUFFIXES, ImageFolder
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import FrameSource
from propagate.io.decode.video import open_source
from propagate.records import Frame


def read_frame(
    source: str | PathLike[str] | int, index: int = 0, options: SourceOptions | None = None
) -> Frame:
    """Read one frame by its number.

    Args:
        source: An image, or what `open_video` takes.
        index: From 0; a picture has one frame.
        options: How it is opened; the decoder and the range do not count.

    Raises:
        VideoError: It cannot be read, or ends before.
        ValueError: The number is negative.
    """
    if index < 0:
        raise ValueError(f"index: 0 or more, not {index}")
    count = 0
    with _open(source, options or SourceOptions()) as frames:
        for frame in frames:
            if frame.index == index:
                return frame
            count += 1
    raise VideoError(
        f"{source}: frame {index} is past the end: there are {count}, 0 to {count - 1}; name one "
        "of them"
    )


def _open(source: str | PathLike[str] | int, options: SourceOptions) -> FrameSource:
    path = Path(str(source))
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return ImageFolder(path.parent, [path], max_pixels=options.max_pixels)
    # decord would decode the whole clip for this one frame.
    return open_source(source, replace(options, decoder="pyav", frame_range=None))
