"""The Lab colours of a frame.

H, W are the rows and columns of the frame. To convert every pixel of a large one would take most
of the time of a prompt, so it is sampled, and pixels near an outline are converted when needed.
"""

import math
from dataclasses import dataclass

import numpy as np
from skimage.color import rgb2lab

from propagate.prompts.settings import PromptSettings


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """The colours of a frame.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        lab: (H', W', 3) float32 Lab: of every pixel, or of every n-th row and column of a frame of
            more than `PromptSettings.most_whole_px`.
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


def read_colours(image: np.ndarray, s: PromptSettings) -> Colours:
    """Convert a frame, (H, W, 3) uint8 RGB, or some of its pixels if it is large."""
    height, width = image.shape[:2]
    step = 1
    if height * width > s.most_whole_px:
        # Cells need pixels: 64 rows and columns stay at least.
        wanted = math.ceil(math.sqrt(height * width / s.sampled_px))
        step = min(wanted, max(1, min(height, width) // 64))
    return Colours(image, _to_lab(image[::step, ::step]))


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    return rgb2lab(rgb).astype(np.float32)
