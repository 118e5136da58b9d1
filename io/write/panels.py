"""Images side by side with text: labels on panels, and contact sheets.

H, W are the rows and columns of an image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from propagate.io.write.encode import encode_image
from propagate.io.write.files import write_atomically

TEXT_PX = 14
LINE_PX = 20
MARGIN_PX = 6
PAPER = (24, 24, 24)
INK = (235, 235, 235)
FAINT_INK = (160, 160, 160)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One image of a contact sheet.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        title: The line under it; shortened if it is too long.
        note: The fainter line under that.
    """

    image: np.ndarray
    title: str
    note: str = ""


def fitted_size(height: int, width: int, limit: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (H, W) of the same proportions within a limit (H, W); never enlarge."""
    scale = min(1.0, limit[0] / height, limit[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def contact_sheet(
    panels: Sequence[Panel], columns: int = 4, limit: tuple[int, int] = (240, 320)
) -> np.ndarray:
    """Lay out images in rows, from left to right, each centred above its two lines of text.

    All panels are as high as the highest image needs, with a margin of 6 pixels.

    Args:
        panels: At least one. Images above the limit are shrunk; no image is enlarged.
        columns: The most panels in a row.
        limit: The most rows and columns of pixels of an image.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: If there are no panels.
    """
    if not panels:
        raise ValueError("panels needs at least one picture")
    sizes = [fitted_size(p.image.shape[0], p.image.shape[1], limit) for p in panels]
    columns = min(columns, len(panels))
    highest = max(height for height, _ in sizes)
    pitch = highest + 2 * LINE_PX + 2 * MARGIN_PX, limit[1] + 2 * MARGIN_PX
    rows = math.ceil(len(panels) / columns)
    sheet = Image.new("RGB", (columns * pitch[1], rows * pitch[0]), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (panel, (height, width)) in enumerate(zip(panels, sizes, strict=True)):
        top = i // columns * pitch[0] + MARGIN_PX
        left = i % columns * pitch[1] + MARGIN_PX
        small = Image.fromarray(panel.image).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + (limit[1] - width) // 2, top + (highest - height) // 2))
        for line, (text, ink) in enumerate([(panel.title, INK), (panel.note, FAINT_INK)]):
            middle = top + highest + line * LINE_PX + LINE_PX // 2 + 1
            pen.text((left, middle), _shortened(text, limit[1]), ink, _font(), anchor="lm")
    return np.asarray(sheet)


def write_contact_sheet(path: str | Path, panels: Sequence[Panel], columns: int = 4) -> None:
    """Write a contact sheet as PNG; it appears complete or not at all.

    Args:
        path: The PNG, in a folder that exists. An existing file is replaced.
        panels, columns: See `contact_sheet`.

    Raises:
        OutputError: If it cannot be written.
    """
    write_atomically(path, encode_image(contact_sheet(panels, columns), "PNG"))


def draw_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line of text into the upper left corner, light on dark.

    Args:
        image: (H, W, 3) uint8, RGB. Not changed.
        text: Shortened if it is longer than the image is wide.

    Returns:
        (H, W, 3) uint8, RGB, a new array.
    """
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    text = _shortened(text, image.shape[1] - 2 * MARGIN_PX)
    width = math.ceil(_font().getlength(text)) + 2 * MARGIN_PX
    pen.rectangle((0, 0, width - 1, LINE_PX - 1), fill=PAPER)
    pen.text((MARGIN_PX, LINE_PX // 2), text, INK, _font(), anchor="lm")
    return np.array(drawn)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT_PX)


def _shortened(text: str, width: int) -> str:
    """Cut the middle out of a text until it fits, because names differ at their ends."""
    # The built-in font has only these letters.
    text = text.encode("latin-1", "replace").decode("latin-1")
    font = _font()
    kept = len(text)
    short = text
    while kept and font.getlength(short) > width:
        kept -= 1
        head = kept // 2
        short = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
    return short if kept else ""
