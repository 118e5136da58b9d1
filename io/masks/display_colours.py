"""Colours that stand out: one vivid hue for each object of a video, chosen by what is around it.

Mask files keep the colours of DAVIS (`palette`). Those are dark for the first ids: dark red on a
red car is invisible. These colours are for people, and are drawn on pictures.

H, W are the rows and columns of a picture.
"""

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np

from propagate.records import BACKGROUND_ID, VOID_ID

Colour = tuple[int, int, int]

# Vivid hues; two of them are at least 35 apart in CIELAB. Objects take each once before any twice.
HUES: tuple[Colour, ...] = (
    (255, 30, 30),
    (255, 140, 0),
    (255, 235, 0),
    (130, 255, 0),
    (0, 160, 50),
    (0, 255, 200),
    (60, 190, 255),
    (0, 115, 255),
    (160, 85, 255),
    (255, 0, 255),
    (255, 150, 230),
    (255, 0, 120),
)
# The surroundings of an object reach this part of its own size beyond it, and at least 8 pixels.
_AROUND = 0.25
_LEAST_AROUND_PX = 8
# A hue is as far from a region as from this part of its pixels that are nearest to it.
_NEAREST = 0.1
# Pixels of a region that are looked at, spread evenly over it.
_MOST_PIXELS = 600
# From linear sRGB to XYZ, divided by the white of D65.
_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


def cielab(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB to CIELAB under D65, where equal distances look about equally different.

    Args:
        colours: (..., 3) uint8.

    Returns:
        (..., 3) float64: lightness 0..100, a, b.
    """
    share = np.asarray(colours, np.float64) / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    xyz = linear @ _XYZ.T
    bent = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def choose_colours(
    image: np.ndarray, ids: np.ndarray, taken: Mapping[int, Colour] | None = None
) -> dict[int, Colour]:
    """Choose the hue of each object that has none yet, in increasing order of id.

    Of the hues that the fewest objects have, an object gets the one that is farthest, in CIELAB,
    from whatever is nearest to it: the pixels in the object, those around it, and the colours of
    the other objects.

    Args:
        image: (H, W, 3) uint8, RGB.
        ids: (H, W) uint8. Background and void are no objects.
        taken: The colours that objects have already.

    Returns:
        The colours of the objects of `ids` that are not in `taken`.
    """
    others = dict(taken or {})
    chosen: dict[int, Colour] = {}
    for object_id in _objects_in(ids):
        if object_id not in others:
            chosen[object_id] = others[object_id] = _choose(image, ids, object_id, others.values())
    return chosen


class DisplayColours:
    """The colours of the objects of one video: each is chosen once, where the object first shows.

    Attributes:
        colours: By object id, so far.
    """

    def __init__(self, given: Mapping[int, Colour] | None = None) -> None:
        """Take colours that are given and stay as they are."""
        self.colours: dict[int, Colour] = dict(given or {})

    def add(self, image: np.ndarray, ids: np.ndarray) -> Mapping[int, Colour]:
        """Look at the next picture, and return the colours of all objects so far.

        Args:
            image: (H, W, 3) uint8, RGB.
            ids: (H, W) uint8.
        """
        self.colours |= choose_colours(image, ids, self.colours)
        return self.colours


def to_hex(colour: Colour) -> str:
    """Write a colour as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def from_hex(text: str) -> Colour:
    """Read a colour from "#rrggbb".

    Raises:
        ValueError: It is none.
    """
    digits = text.removeprefix("#")
    if len(digits) != 6 or digits == text or not set(digits.lower()) <= set("0123456789abcdef"):
        raise ValueError(f"{text!r} is no colour such as #ff8c00")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


@cache
def contrasting(colour: Colour) -> Colour:
    """Return black or white, whichever differs more from a colour in lightness."""
    lightness = cielab(np.array(colour))[0]
    return (0, 0, 0) if lightness >= 50 else (255, 255, 255)


def _objects_in(ids: np.ndarray) -> list[int]:
    # Counting is ten times as fast as sorting, which `np.unique` does.
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    return [int(i) for i in present if i not in (BACKGROUND_ID, VOID_ID)]


def _choose(image: np.ndarray, ids: np.ndarray, object_id: int, others: Iterable[Colour]) -> Colour:
    others = list(others)
    uses = [others.count(hue) for hue in HUES]
    free = [hue for hue, count in zip(HUES, uses, strict=True) if count == min(uses)]
    hues = cielab(np.array(free))  # (N, 3)
    apart = np.full(len(free), np.inf)  # (N,)
    for region in _regions(image, ids, object_id):
        away = np.linalg.norm(hues[:, None] - cielab(region), axis=2)  # (N, M)
        apart = np.minimum(apart, np.quantile(away, _NEAREST, axis=1))
    # The same hue again is no closer for one hue than for another.
    if different := [colour for colour in others if colour not in free]:
        away = np.linalg.norm(hues[:, None] - cielab(np.array(different)), axis=2)
        apart = np.minimum(apart, away.min(axis=1))
    return free[int(apart.argmax())]


def _regions(image: np.ndarray, ids: np.ndarray, object_id: int) -> list[np.ndarray]:
    """Return the pixels of an object, and those around it that are no object: (M, 3) uint8 each."""
    own = ids == object_id
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    size = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    margin = max(_LEAST_AROUND_PX, round(_AROUND * size))
    box = (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )
    inside = image[box][own[box]]
    around = image[box][(ids[box] == BACKGROUND_ID) | (ids[box] == VOID_ID)]
    return [
        region[:: max(1, len(region) // _MOST_PIXELS)] for region in (inside, around) if len(region)
    ]
