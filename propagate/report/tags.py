"""The ids and names of objects on a small picture, written beside the objects.

In an overlay of full size a tag may lie on its object. In a small picture it would hide it, so it
stands in the nearest place where it hides little of any object, and no other tag.

H, W are the rows and columns of the picture.
"""

from collections.abc import Mapping

import numpy as np

from propagate.io.masks.display_colours import Colour
from propagate.io.write.object_labels import draw_labels

# To hide all of an object is as bad as to stand so many times its own height away.
_HIDING = 20.0
# Pixels between the places that are compared.
_STEP = 2


def draw_tags(
    image: np.ndarray, ids: np.ndarray, labels: Mapping[int, str], colours: Mapping[int, Colour]
) -> None:
    """Write the tags of objects into a picture, in increasing order of id.

    Args:
        image: (H, W, 3) uint8, RGB; drawn into.
        ids: (H, W) uint8.
        labels: Text by id; objects without a pixel get none.
        colours: By id.
    """
    areas = np.bincount(ids.ravel(), minlength=256)
    hides = np.zeros(256)
    # Of each object's pixels together, 1; the background may be hidden.
    objects = [i for i in labels if areas[i]]
    hides[objects] = 1 / areas[objects]
    cost = _HIDING * hides[ids]  # (H, W): of a tag on each pixel
    for object_id in sorted(objects):
        tag = _tag(labels[object_id], object_id, image.shape[:2], colours)
        top, left = place(ids == object_id, cost, tag.shape[:2])
        part = slice(top, top + tag.shape[0]), slice(left, left + tag.shape[1])
        image[part] = tag
        # No tag hides another: each of its pixels costs as much as a whole object.
        cost[part] = _HIDING


def place(own: np.ndarray, cost: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Find the place of a tag: near its object, and where it hides little.

    Args:
        own: (H, W) bool: the object, not empty.
        cost: (H, W): what it costs to hide each pixel, in heights of the tag.
        size: Rows and columns of the tag; H and W at most.

    Returns:
        Row and column of its upper left corner.
    """
    tall, wide = size
    sums = np.pad(cost, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    tops = np.arange(0, own.shape[0] - tall + 1, _STEP)
    lefts = np.arange(0, own.shape[1] - wide + 1, _STEP)
    t, left = tops[:, None], lefts[None]
    hidden = (
        sums[t + tall, left + wide] - sums[t, left + wide] - sums[t + tall, left] + sums[t, left]
    )
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    down = _gap(tops, tall, rows[0], rows[-1] + 1)[:, None]
    across = _gap(lefts, wide, columns[0], columns[-1] + 1)[None]
    # Of places that are as good, the one over the middle of the object.
    aside = np.abs(left + wide / 2 - columns.mean()) / own.shape[1]
    value = hidden + np.hypot(down, across) / tall + 0.1 * aside
    best = np.unravel_index(int(value.argmin()), value.shape)
    return int(tops[best[0]]), int(lefts[best[1]])


def _gap(starts: np.ndarray, length: int, first: int, end: int) -> np.ndarray:
    """Distance of stretches from a stretch first..end along an axis; 0 where they meet."""
    return np.maximum(0, np.maximum(first - (starts + length), starts - end))


def _tag(
    text: str, object_id: int, size: tuple[int, int], colours: Mapping[int, Colour]
) -> np.ndarray:
    """Draw a tag as the overlay draws it: (h, w, 3) uint8, no larger than the picture."""
    # The overlay centres a tag on an object that fills its picture; what it changes is the tag.
    blank = np.full((*size, 3), [255 - c for c in colours[object_id]], np.uint8)
    drawn = blank.copy()
    draw_labels(drawn, np.full(size, object_id, np.uint8), {object_id: text}, colours)
    changed = (drawn != blank).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
