"""Small labels at objects: an id, and a name.

A label stands where the middle of its object is, so it moves as the object does. At an object too
small to bear it, it stands above.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from propagate.io.masks.display_colours import Colour, contrasting

# The letters are this part of the rows (or columns, if they are fewer) of a frame.
_TEXT_SHARE = 1 / 30
_LEAST_TEXT_PX = 11
# An object with so many times the area of its label bears it; any other has it above.
_ROOM = 6
_MOST_LETTERS = 24


def draw_labels(
    image: np.ndarray, ids: np.ndarray, labels: Mapping[int, str], colours: Mapping[int, Colour]
) -> None:
    """Draw the labels of objects into a frame, in increasing order of id.

    A label that would cover an earlier one moves below it, and all stay inside the frame.

    Args:
        image: (H, W, 3) uint8, RGB; drawn into.
        ids: (H, W) uint8.
        labels: Text by id, of objects that have pixels.
        colours: By id.
    """
    height, width, _ = image.shape
    text_px = max(_LEAST_TEXT_PX, round(min(height, width) * _TEXT_SHARE))
    middles = _middles(ids, labels)
    placed: list[tuple[int, int, int, int]] = []
    for object_id, text in sorted(labels.items()):
        label = _label(str(object_id), text, text_px, colours[object_id])
        label = label[:height, :width]
        tall, wide, _ = label.shape
        area, y, x, spread = middles[object_id]
        top = round(y - tall / 2) if area >= _ROOM * tall * wide else round(y - spread - tall - 1)
        top, left = _clamped(top, height - tall), _clamped(round(x - wide / 2), width - wide)
        for other in placed:
            beside = left >= other[3] or left + wide <= other[1]
            if not beside and top < other[2] and other[0] < top + tall:
                top = _clamped(other[2], height - tall)
        placed.append((top, left, top + tall, left + wide))
        image[top : top + tall, left : left + wide] = label


def _clamped(value: int, most: int) -> int:
    return min(max(value, 0), most)


def _middles(
    ids: np.ndarray, object_ids: Iterable[int]
) -> dict[int, tuple[float, float, float, float]]:
    """Return the area of objects, their middles (y, x), and half their heights if they were discs.

    Every second pixel of every second row is enough, unless an object has none of these.
    """
    wanted = list(object_ids)
    for step in (2, 1):
        y, x = np.nonzero(ids[::step, ::step])
        found = ids[::step, ::step][y, x]
        area = np.bincount(found, minlength=256)
        if all(area[i] for i in wanted):
            break
    area = np.maximum(area, 1)
    mean_y = np.bincount(found, y, 256) / area
    mean_x = np.bincount(found, x, 256) / area
    variance = np.maximum(np.bincount(found, y * y, 256) / area - mean_y**2, 0)
    return {
        i: (
            float(area[i]) * step * step,
            float(mean_y[i]) * step,
            float(mean_x[i]) * step,
            2 * float(variance[i]) ** 0.5 * step,
        )
        for i in wanted
    }


@lru_cache(maxsize=512)
def _label(object_id: str, text: str, text_px: int, colour: Colour) -> np.ndarray:
    """Draw a label in the object's colour, with a thin edge: (h, w, 3) uint8, read-only."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        # The built-in font has only these letters.
        text = object_id
    if len(text) > _MOST_LETTERS:
        text = text[: _MOST_LETTERS - 3] + "..."
    font = ImageFont.load_default(text_px)
    ink = contrasting(colour)
    _, top, _, bottom = font.getbbox(text, anchor="ls")
    pad = max(2, text_px // 5)
    high = font.getbbox("0", anchor="ls")
    wide = round(font.getlength(text)) + 2 * pad
    tall = round(max(bottom, high[3]) - min(top, high[1])) + 2 * pad
    label = Image.new("RGB", (wide, tall), colour)
    pen = ImageDraw.Draw(label)
    pen.rectangle((0, 0, wide - 1, tall - 1), outline=ink)
    pen.text((pad, pad - round(min(top, high[1]))), text, ink, font, anchor="ls")
    pixels = np.asarray(label)
    pixels.setflags(write=False)
    return pixels
