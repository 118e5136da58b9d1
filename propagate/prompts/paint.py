"""The pixels that prompts speak of, exactly.

H, W are the rows and columns of the frame. The centre of pixel (row, column) is at
x = column + 0.5, y = row + 0.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from propagate.errors import MaskError
from propagate.prompts.records import XY, Box, Point, Polygon, Prompt, Stroke

# A brush of half a pixel's diagonal leaves no gap in a path.
_THINNEST_PX = math.sqrt(0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Paint:
    """What is known of the pixels of one object.

    Attributes:
        object_id: 1..254.
        on: (H, W) bool: pixels of the object.
        off: (H, W) bool: painted pixels that are not of the object.
        boxes: (H, W) bool: pixels that touch a box of the object; None if it has none.
        grows: Whether the object may have more pixels than those painted. An object of which only
            polygons are given has not.
    """

    object_id: int
    on: np.ndarray
    off: np.ndarray
    boxes: np.ndarray | None
    grows: bool


def paint_prompts(prompts: Sequence[Prompt], height: int, width: int) -> tuple[Paint, ...]:
    """Paint prompts in the order given: where two meet, the later one counts.

    Args:
        prompts: Checked, see `check_prompts`.
        height, width: Of the frame.

    Returns:
        One for each object, by increasing id. What is on one object is on no other.

    Raises:
        MaskError: A polygon covers no pixel, paint of an object lies outside its box, or other
            objects cover all of its paint.
    """
    shape = height, width
    objects = sorted({prompt.object_id for prompt in prompts})
    on = np.zeros(shape, np.uint8)  # the object that a pixel is painted with
    off = {i: np.zeros(shape, bool) for i in objects}
    boxes: dict[int, np.ndarray] = {}
    for prompt in prompts:
        i = prompt.object_id
        pixels = pixels_of(prompt, height, width)
        if isinstance(prompt, Box):
            boxes[i] = boxes.get(i, False) | pixels
        elif getattr(prompt, "on", True):
            on[pixels] = i
            off[i] &= ~pixels
        else:
            off[i] |= pixels
            on[pixels & (on == i)] = 0
    for prompt in prompts:
        i = prompt.object_id
        if i in boxes and not isinstance(prompt, Box) and getattr(prompt, "on", True):
            outside = pixels_of(prompt, height, width) & ~boxes[i] & (on == i)
            if outside.any():
                raise MaskError(
                    f"{prompt}: lies outside the box of object {i}", "make the box larger"
                )
    painted = []
    for i in objects:
        own = on == i
        if not own.any() and i not in boxes:
            raise MaskError(f"object {i}: later prompts cover all that is painted of it")
        kinds = {type(p) for p in prompts if p.object_id == i and getattr(p, "on", True)}
        painted.append(Paint(i, own, off[i], boxes.get(i), kinds != {Polygon}))
    return tuple(painted)


def pixels_of(prompt: Prompt, height: int, width: int) -> np.ndarray:
    """Return the pixels of a prompt, (H, W) bool: those that touch a box, or are painted.

    Raises:
        MaskError: A polygon covers the centre of no pixel.
    """
    pixels = np.zeros((height, width), bool)
    if isinstance(prompt, Box):
        rows = slice(math.floor(prompt.y0), math.ceil(prompt.y1))
        pixels[rows, math.floor(prompt.x0) : math.ceil(prompt.x1)] = True
    elif isinstance(prompt, Point):
        pixels[int(prompt.y), int(prompt.x)] = True
    elif isinstance(prompt, Stroke):
        _stroke(pixels, prompt.points, max(prompt.radius, _THINNEST_PX))
    else:
        pixels = fill_polygon(prompt.points, height, width)
        if not pixels.any():
            raise MaskError(f"{prompt}: covers the centre of no pixel", "draw it larger")
    return pixels


def fill_polygon(points: Sequence[XY], height: int, width: int) -> np.ndarray:
    """Mark the pixels whose centres are inside a polygon by the even-odd rule: (H, W) bool.

    A centre on the outline is inside if the outline is to the right of the object there, as usual:
    polygons that share an edge share no pixel.
    """
    # Along each row, every edge that crosses it flips what is left of the crossing.
    flips = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        rows = np.arange(max(0, math.ceil(low - 0.5)), min(height, math.ceil(high - 0.5)))
        crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(flips, (rows, np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)), 1)
    to_the_right = flips.sum(1, keepdims=True) - flips.cumsum(1)  # crossings right of each centre
    return to_the_right[:, :-1] % 2 == 1


def _stroke(pixels: np.ndarray, points: Sequence[XY], radius: float) -> None:
    """Mark, in place, the pixels whose centres are within `radius` of a path."""
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        left, right = (
            max(0, math.floor(min(x0, x1) - radius)),
            math.ceil(max(x0, x1) + radius),
        )
        top, bottom = max(0, math.floor(min(y0, y1) - radius)), math.ceil(max(y0, y1) + radius)
        part = pixels[top:bottom, left:right]
        y, x = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        y, x = y + 0.5 - y0, x + 0.5 - x0
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = np.clip((x * (x1 - x0) + y * (y1 - y0)) / length, 0, 1) if length else 0.0
        part |= (x - along * (x1 - x0)) ** 2 + (y - along * (y1 - y0)) ** 2 <= radius**2
