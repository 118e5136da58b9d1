"""Masks that the tests of the scorers draw, small enough to count their pixels by hand."""

from pathlib import Path

import numpy as np
from PIL import Image

# J of 8x8 squares shifted by 1, 2 and 3 pixels.
DRIFT_J = [56 / 72, 48 / 80, 40 / 88]


def save(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def frame(*, shift: int = 0, object_id: int = 1) -> np.ndarray:
    """A square of 8x8 pixels in a frame of 24 rows and 32 columns."""
    ids = np.zeros((24, 32), dtype=np.uint8)
    ids[8:16, 8 + shift : 16 + shift] = object_id
    return ids


def draw_trees(folder: Path) -> tuple[Path, Path]:
    """Truth and predictions of two sequences of five frames; the prediction drifts to the right."""
    truth, pred = folder / "truth", folder / "pred"
    for name in ("ant", "bee"):
        for index in range(5):
            save(truth / name / f"{index:05d}.png", frame())
            save(pred / name / f"{index:05d}.png", frame(shift=index))
    return truth, pred
