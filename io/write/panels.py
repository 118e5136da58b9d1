"""Pictures side by side with text on them: panels of a frame, and sheets of labelled pictures.

H, W are the rows and columns of a picture.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from propagate.io.write.files import write_atomically

TEXT_PX = 14
LINE_PX = 20
MARGIN_PX = 6
PAPER = (24, 24, 24)
INK = (235, 235, 235)
FAINT_INK = (160, 160, 160)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture of a sheet.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        title: The line under it; shortened where it is too long.
        note: The fainter line under that.
    """

    image: np.ndarray
    title: str
    note: str = ""


def fitted_size(height: int, width: int, limit: tuple[int, int]) -> tuple[int, int]:
    """The largest (H, W) of the same proportions within a limit (H, W); never an enlarged one."""
    scale = min(1.0, limit[0] / height, limit[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def contact_sheet(
    tiles: Sequence[Tile], columns: int = 4, tile: tuple[int, int] = (240, 320)
) -> np.ndarray:
    """Lay pictures out in rows, from left to right, each centred over its two lines of text.

    Every place is as high as the highest picture needs; a margin of 6 pixels goes around each.

    Args:
        tiles: At least one. Pictures that are larger than a place are shrunk, none is enlarged.
        columns: Most pictures in a row.
        tile: Most rows and columns of pixels of a picture.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: There are no tiles.
    """
    if not tiles:
        raise ValueError("tiles: at least one")
    sizes = [fitted_size(t.image.shape[0], t.image.shape[1], tile) for t in tiles]
    columns = min(columns, len(tiles))
    picture = max(height for height, _ in sizes)
    pitch = picture + 2 * LINE_PX + 2 * MARGIN_PX, tile[1] + 2 * MARGIN_PX
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * pitch[1], rows * pitch[0]), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (entry, (height, width)) in enumerate(zip(tiles, sizes, strict=True)):
        top = i // columns * pitch[0] + MARGIN_PX
        left = i % columns * pitch[1] + MARGIN_PX
        small = Image.fromarray(entry.image).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + (tile[1] - width) // 2, top + (picture - height) // 2))
        for line, (text, ink) in enumerate([(entry.title, INK), (entry.note, FAINT_INK)]):
            middle = top + picture + line * LINE_PX + LINE_PX // 2 + 1
            pen.text((left, middle), _shortened(text, tile[1]), ink, _font(), anchor="lm")
    return np.asarray(sheet)


def write_contact_sheet(path: str | Path, tiles: Sequence[Tile], columns: int = 4) -> None:
    """Write a sheet as PNG, whole or not at all.

    Args:
        path: The PNG, in a folder that exists. An old file is replaced.
        tiles, columns: See `contact_sheet`.

    Raises:
        OutputError: It cannot be written there.
    """
    buffer = io.BytesIO()
    Image.fromarray(contact_sheet(tiles, columns)).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def draw_label(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line of text into the upper left corner, light on dark.

    Args:
        image: (H, W, 3) uint8, RGB. Not changed.
        text: Shortened where it is longer than the image is wide.

    Returns:
        (H, W, 3) uint8, RGB, a new array.
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    text = _shortened(text, image.shape[1] - 2 * MARGIN_PX)
    width = math.ceil(_font().getlength(text)) + 2 * MARGIN_PX
    pen.rectangle((0, 0, width - 1, LINE_PX - 1), fill=PAPER)
    pen.text((MARGIN_PX, LINE_PX // 2), text, INK, _font(), anchor="lm")
    return np.array(picture)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT_PX)


def _shortened(text: str, width: int) -> str:
    """Cut the middle out of a text until it fits: names differ at their ends."""
    # The built-in font knows no other letters.
    text = text.encode("latin-1", "replace").decode("latin-1")
    font = _font()
    kept = len(text)
    short = text
    while kept and font.getlength(short) > width:
        kept -= 1
        head = kept // 2
        short = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
    return short if kept else ""
