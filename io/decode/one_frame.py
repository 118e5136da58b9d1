"""Reads one frame of a picture, a video or a folder of images."""

from dataclasses import replace
from pathlib import Path

from propagate.errors import VideoError
from propagate.io.decode.image_folder import SUFFIXES, ImageFolder
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.picture_sequence import is_picture_sequence
from propagate.io.decode.source import FrameSource, Source
from propagate.io.decode.video import open_source
from propagate.records import Frame


def read_frame(source: Source, index: int = 0, options: SourceOptions | None = None) -> Frame:
    """Read one frame by its number.

    Args:
        source: An image, or what `open_video` takes.
        index: Number of the frame, from 0. A picture has one frame.
        options: How the source is opened. Its decoder and its range are ignored.

    Raises:
        VideoError: The source cannot be read, or has no such frame.
        ValueError: The number is negative.
    """
    if index < 0:
        raise ValueError(f"index must be 0 or more, not {index}")
    count = 0
    with _open(source, options or SourceOptions()) as frames:
        for frame in frames:
            if frame.index == index:
                return frame
            count += 1
    raise VideoError(
        f"{source}: has no frame {index}, only frames 0 to {count - 1}"
        if count > 1
        else f"{source}: has no frame {index}, only frame 0",
        "choose one that exists",
    )


def read_picture(path: Path, options: SourceOptions | None = None) -> Frame:
    """Read a file that holds one picture.

    Raises:
        VideoError: It cannot be read, or holds several: a video, an animation or pages.
    """
    with _open(path, options or SourceOptions()) as frames:
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{path}: holds no picture", "give another file")
        if next(frames, None) is not None:
            raise VideoError(
                f"{path}: holds several pictures, as a video does",
                "give pictures; save the frames of a video as pictures first",
            )
        return first


def _open(source: Source, options: SourceOptions) -> FrameSource:
    path = Path(str(source))
    is_picture = path.suffix.lower() in SUFFIXES and path.is_file()
    if is_picture and not is_picture_sequence(path):
        return ImageFolder(path.parent, [path], max_pixels=options.max_pixels)
    # decord would decode the whole clip for this one frame.
    return open_source(source, replace(options, decoder="pyav", frame_range=None))
