"""Masks drawn over frames, and the video of them.

H, W are the rows and columns of a frame.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np

from propagate.io.masks.palette import palette
from propagate.io.write.files import WholeFile
from propagate.io.write.video import VideoWriter
from propagate.records import BACKGROUND_ID, VOID_ID


def draw_overlay(
    image: np.ndarray,
    ids: np.ndarray,
    alpha: float = 0.5,
    colours: np.ndarray | None = None,
) -> np.ndarray:
    """Tint every object with its colour, and draw its outline opaque.

    Background and void pixels do not change. The outline is made of the object's own pixels that
    have another id above, below, left or right of them.

    Args:
        image: (H, W, 3) uint8, RGB. Not changed.
        ids: (H, W) uint8.
        alpha: Opacity of the colour inside the outline, 0..1.
        colours: (256, 3) uint8, RGB by id; None: those of DAVIS.

    Returns:
        (H, W, 3) uint8, RGB, a new array.

    Raises:
        ValueError: If image and ids differ in size, or alpha is outside 0..1.
    """
    if image.shape != (*ids.shape, 3):
        raise ValueError(f"image: (H, W, 3) with the (H, W) of ids {ids.shape}, not {image.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: 0..1, not {alpha}")
    pixels = image.reshape(-1, 3).copy()  # (HW, 3)
    flat = ids.reshape(-1)
    # Objects cover a small part of most frames, so only their N pixels are computed.
    labelled = np.flatnonzero((flat != BACKGROUND_ID) & (flat != VOID_ID))  # (N,)
    opacity = np.where(_outline(ids).reshape(-1)[labelled], 256, round(256 * alpha))  # of 256
    opacity = opacity.astype(np.uint16)[:, None]  # (N, 1); 255 * 256 + 128 still fits uint16
    tint = (palette() if colours is None else colours)[flat[labelled]]  # (N, 3)
    blended = pixels[labelled] * (256 - opacity) + tint * opacity + 128
    pixels[labelled] = blended >> 8
    return pixels.reshape(image.shape)


class OverlayWriter(WholeFile):
    """Writes the video of all frames with their masks drawn over them."""

    def __init__(
        self,
        path: str | Path,
        fps: Fraction | None,
        width: int,
        height: int,
        alpha: float = 0.5,
        colours: np.ndarray | None = None,
    ) -> None:
        """Start the file.

        Args:
            path: The mp4 file, in a folder that exists. An existing file is replaced at the end.
            fps: Average frames per second; None: unknown (see `VideoWriter`).
            width: Columns of every frame.
            height: Rows of every frame.
            alpha: Opacity of an object's colour inside its outline, 0..1.
            colours: (256, 3) uint8, RGB by id; None: those of DAVIS.

        Raises:
            OutputError: If it cannot be written, or PyAV has no H.264 encoder.
        """
        self._alpha, self._colours = alpha, colours
        self._video = VideoWriter(path, width, height, fps)

    def write(self, image: np.ndarray, ids: np.ndarray, time: Fraction) -> None:
        """Add a frame: image (H, W, 3) uint8 RGB, ids (H, W) uint8, its time in seconds.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If a size is wrong.
        """
        self._video.write(draw_overlay(image, ids, self._alpha, self._colours), time)

    def close(self) -> None:
        """Complete the file and move it to its final name; `OutputError` if that fails."""
        self._video.close()

    def discard(self) -> None:
        """Remove what was written."""
        self._video.discard()


def _outline(ids: np.ndarray) -> np.ndarray:
    """Mark the pixels with another id above, below, left or right: (H, W) bool."""
    outline = np.zeros(ids.shape, dtype=bool)
    vertical = ids[1:] != ids[:-1]
    horizontal = ids[:, 1:] != ids[:, :-1]
    outline[1:] |= vertical
    outline[:-1] |= vertical
    outline[:, 1:] |= horizontal
    outline[:, :-1] |= horizontal
    return outline
