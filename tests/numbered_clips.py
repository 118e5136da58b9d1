"""Clips whose frames carry their number as flat black and white squares, which survive a JPEG."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SIDE, COLUMNS, ROWS = 16, 6, 3
WIDTH, HEIGHT = SIDE * COLUMNS, SIDE * ROWS
# Bits of the number; then white, and black above white, so that a turned frame is noticed.
BITS = COLUMNS * ROWS - 3


def numbered(number: int) -> np.ndarray:
    """Draw the frame of a number: (48, 96, 3) uint8."""
    bits = [number >> bit & 1 for bit in range(BITS)] + [1, 0, 1]
    squares = np.array(bits, np.uint8).reshape(ROWS, COLUMNS) * 255
    return np.repeat(squares.repeat(SIDE, 0).repeat(SIDE, 1)[..., None], 3, axis=2)


def number_on(image: np.ndarray) -> int:
    """Read the number of a frame, (48, 96, 3)."""
    assert image.shape == (HEIGHT, WIDTH, 3)
    middles = image[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE].mean(axis=2).ravel()
    assert ((middles < 64) | (middles > 191)).all(), middles
    bits = [int(value > 127) for value in middles]
    assert bits[BITS:] == [1, 0, 1]
    return sum(bit << place for place, bit in enumerate(bits[:BITS]))


def number_in_jpeg(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        return number_on(np.asarray(image.convert("RGB")))


def write_numbered(
    path: Path,
    count: int,
    *,
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    turn: int = 0,
) -> Path:
    """Encode a numbered clip in H.264.

    Args:
        path: The file.
        count: How many frames.
        options: Of the encoder, such as B-frames.
        times: Of the frames, in thousandths of a second; None: 25 a second.
        turn: How often the drawing is turned by 90 degrees before it is encoded.
    """
    with av.open(str(path), "w") as container:
        chosen = {"crf": "12", "g": "12", **(options or {})}
        stream: Any = container.add_stream("libx264", rate=25, options=chosen)
        image = np.rot90(numbered(0), turn)
        stream.height, stream.width, _ = image.shape
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            image = np.ascontiguousarray(np.rot90(numbered(number), turn))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = 40 * number if times is None else times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def without_first(source: Path, path: Path, hidden: int) -> Path:
    """Copy a clip so that an edit list hides its first frames: their times lie below zero."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        of: Any = old.streams.video[0]
        stream = new.add_stream_from_template(of)
        shift = int(Fraction(hidden, 25) / of.time_base)
        for packet in old.demux(of):
            if packet.dts is None:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = stream
            new.mux(packet)
    return path


def turned_by_header(mp4: bytes, angle: int) -> bytes:
    """Write a rotation of a quarter turn into the track header: it shows turned clockwise."""
    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}

    def matrix(a: int, b: int, c: int, d: int) -> bytes:
        values = (a, b, 0, c, d, 0)
        fixed = b"".join((value << 16).to_bytes(4, "big", signed=True) for value in values)
        return fixed + bytes(8) + (1 << 30).to_bytes(4, "big")

    start = mp4.index(matrix(1, 0, 0, 1), mp4.index(b"tkhd"))
    return mp4[:start] + matrix(*turns[angle]) + mp4[start + 36 :]
