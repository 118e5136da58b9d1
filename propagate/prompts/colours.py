"""The Lab colours of a frame.

H, W are the rows and columns of the frame. To convert every pixel of a large one would take most
of the time of a prompt, so it is sampled, and pixels near an outline are converted when needed.
"""

import math
from dataclasses import dataclass

import numpy as np
from skimage.color import rgb2lab

# Frames of up to 4K are converted whole; of a larger one, about half as many pixels.
MOST_WHOLE = 4096 * 2160
SAMPLED = 2160 * 1920


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """The colours of a frame.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        lab: (H', W', 3) float32 Lab: of every pixel, or of every n-th row and column of a frame of
            more than `MOST_WHOLE` pixels.
    """

    image: np.ndarray
    lab: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """H and W."""
        return self.image.shape[0], self.image.shape[1]

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the Lab colours of pixels, (N,) rows and columns: (N, 3) float32."""
        if self.lab.shape == self.image.shape:
            return self.lab[rows, columns]
        return _to_lab(self.image[rows, columns])


def read_colours(image: np.ndarray) -> Colours:
    """Convert a frame, (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    step = 1
    if height * width > MOST_WHOLE:
        # A side shorter than this many steps stays as it is.
        step = min(math.ceil(math.sqrt(height * width / SAMPLED)), max(1, min(height, width) // 64))
    return Colours(image, _to_lab(image[::step, ::step]))


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    return rgb2lab(rgb).astype(np.float32)
