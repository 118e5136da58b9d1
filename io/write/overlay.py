"""Masks drawn over frames, and the video of them.

H, W are the rows and columns of a frame.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from propagate.io.masks.display_colours import (
    Colour,
    DisplayColours,
    choose_colours,
    contrasting,
)
from propagate.io.write.files import WholeFile
from propagate.io.write.object_labels import draw_labels
from propagate.io.write.video import VideoWriter
from propagate.records import BACKGROUND_ID, VOID_ID

# The outline is one pixel wide for each so many rows (or columns, if they are fewer) of a frame.
OUTLINE_EVERY_PX = 480
# Behind masks that are shown alone.
GROUND = 44


def draw_overlay(
    image: np.ndarray,
    ids: np.ndarray,
    alpha: float = 0.5,
    *,
    colours: Mapping[int, Colour] | None = None,
    labels: Mapping[int, str] | None = None,
) -> np.ndarray:
    """Tint every object with its colour, draw its outline opaque, and a thin edge around it.

    The outline is made of the object's own pixels that have another id above, below, left or right
    of them; in frames of more than 480 rows it is wider in proportion. The edge is as wide, outside
    of all objects, and black or white, whichever differs more from the colour of the object. All
    other pixels of the background and of void do not change.

    Args:
        image: (H, W, 3) uint8, RGB. Not changed.
        ids: (H, W) uint8.
        alpha: Opacity of the colour inside the outline, 0..1.
        colours: By object id; None: those that stand out most in this picture. Objects without one
            are coloured in the same way.
        labels: What is written at an object, by its id; None: nothing is.

    Returns:
        (H, W, 3) uint8, RGB, a new array.

    Raises:
        ValueError: If image and ids differ in size, or alpha is outside 0..1.
    """
    if image.shape != (*ids.shape, 3):
        raise ValueError(f"image: (H, W, 3) with the (H, W) of ids {ids.shape}, not {image.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: 0..1, not {alpha}")
    drawn = image.copy()
    labelled = (ids != BACKGROUND_ID) & (ids != VOID_ID)
    # Objects cover a small part of most frames, so only the box around them is worked on.
    rows, columns = np.flatnonzero(labelled.any(axis=1)), np.flatnonzero(labelled.any(axis=0))
    if not len(rows):
        return drawn
    width = max(1, round(min(ids.shape) / OUTLINE_EVERY_PX))
    box = (
        slice(max(0, rows[0] - width), rows[-1] + 1 + width),
        slice(max(0, columns[0] - width), columns[-1] + 1 + width),
    )
    inside = np.where(labelled[box], ids[box], np.uint8(BACKGROUND_ID))  # (h, w)
    present = np.bincount(inside.ravel(), minlength=256)
    present[BACKGROUND_ID] = 0
    known = dict(colours or {})
    if not set(np.flatnonzero(present)) <= known.keys():
        known |= choose_colours(image, ids, known)
    table, edges = _tables(known)

    part = drawn[box].reshape(-1, 3)  # (hw, 3)
    where = np.flatnonzero(inside)  # (N,)
    opacity = round(256 * alpha)
    tint = (table * opacity + 128).astype(np.uint16)  # 255 * 256 + 128 still fits uint16
    kept = np.uint16(256 - opacity)
    part[where] = (part[where] * kept + tint[inside.reshape(-1)[where]]) >> 8
    line, beside = _outline(inside, width)
    flat = np.flatnonzero(line)
    part[flat] = table[inside.reshape(-1)[flat]]
    flat = np.flatnonzero(beside)
    part[flat] = edges[beside.reshape(-1)[flat]]
    drawn[box] = part.reshape(*inside.shape, 3)
    if labels:
        shown = {i: text for i, text in labels.items() if present[i]}
        draw_labels(drawn, ids, shown, known)
    return drawn


def draw_alone(ids: np.ndarray) -> np.ndarray:
    """Draw a mask without its frame: objects in colours on dark grey, labelled if several.

    Args:
        ids: (H, W) uint8.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    ground = np.full((*ids.shape, 3), GROUND, np.uint8)
    colours = choose_colours(ground, ids)
    return draw_overlay(ground, ids, colours=colours, labels=object_labels(colours, {}))


class OverlayWriter(WholeFile):
    """Writes the video of all frames with their masks drawn over them.

    An object keeps the colour that stands out most on the first frame that shows it. Objects are
    labelled with their ids and names as soon as there is more than one, or a name.
    """

    def __init__(
        self,
        path: str | Path,
        fps: Fraction | None,
        width: int,
        height: int,
        alpha: float = 0.5,
        *,
        colours: DisplayColours | None = None,
        names: Mapping[int, str] | None = None,
        labels: bool = True,
    ) -> None:
        """Start the file.

        Args:
            path: The mp4 file, in a folder that exists. An existing file is replaced at the end.
            fps: Average frames per second; None: unknown (see `VideoWriter`).
            width: Columns of every frame.
            height: Rows of every frame.
            alpha: Opacity of an object's colour inside its outline, 0..1.
            colours: Where the colours are chosen and kept; None: for this file alone.
            names: Of objects, by id.
            labels: Whether objects are labelled.

        Raises:
            OutputError: If it cannot be written, or PyAV has no H.264 encoder.
        """
        self._alpha = alpha
        self._colours = colours or DisplayColours()
        self._names, self._labels = dict(names or {}), labels
        self._video = VideoWriter(path, width, height, fps)

    def write(self, image: np.ndarray, ids: np.ndarray, time: Fraction) -> None:
        """Add a frame: image (H, W, 3) uint8 RGB, ids (H, W) uint8, its time in seconds.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If a size is wrong.
        """
        if image.shape == (*ids.shape, 3):
            self._colours.add(image, ids)
        colours = self._colours.colours
        labels = object_labels(colours, self._names) if self._labels else None
        drawn = draw_overlay(image, ids, self._alpha, colours=colours, labels=labels)
        self._video.write(drawn, time)

    def close(self) -> None:
        """Complete the file and move it to its final name; `OutputError` if that fails."""
        self._video.close()

    def discard(self) -> None:
        """Remove what was written."""
        self._video.discard()


def object_labels(object_ids: Iterable[int], names: Mapping[int, str]) -> dict[int, str]:
    """Say what is written at objects: the id, and the name if there is one; one object needs none.

    Args:
        object_ids: All objects of the video so far.
        names: By id, as far as there are any.
    """
    ids = list(object_ids)
    if len(ids) < 2 and not set(ids) & names.keys():
        return {}
    return {i: f"{i} {names[i]}" if names.get(i) else str(i) for i in ids}


def _tables(colours: Mapping[int, Colour]) -> tuple[np.ndarray, np.ndarray]:
    """Return colours by id, (256, 3) uint16, and those of the edges, (256, 3) uint8."""
    table, edges = np.zeros((256, 3), np.uint16), np.zeros((256, 3), np.uint8)
    for object_id, colour in colours.items():
        table[object_id], edges[object_id] = colour, contrasting(colour)
    return table, edges


def _outline(ids: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the outlines of objects, and the pixels beside them that are no object.

    Args:
        ids: (h, w) uint8, void is 0 too.
        width: Pixels of each.

    Returns:
        (h, w) bool: object pixels at most `width` steps up, down, left or right from another id.
        (h, w) uint8: where no object is, the highest id at most as many steps away; else 0.
    """
    line = np.zeros(ids.shape, dtype=bool)
    vertical = ids[1:] != ids[:-1]
    horizontal = ids[:, 1:] != ids[:, :-1]
    line[1:] |= vertical
    line[:-1] |= vertical
    line[:, 1:] |= horizontal
    line[:, :-1] |= horizontal
    near = ids
    for step in range(width):
        near = _highest_beside(near)
        if step:
            line = _highest_beside(line.view(np.uint8)).view(bool)
    free = ids == BACKGROUND_ID
    return line & ~free, near * free


def _highest_beside(values: np.ndarray) -> np.ndarray:
    """Return the highest of each value and its four neighbours, a new (h, w) array."""
    highest = values.copy()
    for to, source in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        np.maximum(highest[to], values[source], out=highest[to])
    return highest
