"""What the tests of the scorers share: masks small enough to count by hand, and the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from propagate.eval.davis import evaluate_davis
from propagate.eval.scores import Scores
from tests.paths import SHARED

ORACLE = SHARED / "oracle" / "eval"
needs_oracle = pytest.mark.skipif(
    not ORACLE.is_dir(), reason="the official scorers' outputs (../shared/oracle/eval) are absent"
)

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


def official(case: str, peer: str) -> dict[str, Any]:
    """What a scorer made of a case of the oracle."""
    return json.loads((ORACLE / "expected" / case / f"{peer}.json").read_text())


def evaluate_case(case: str, **rules: Any) -> Scores:
    return evaluate_davis(
        ORACLE / "cases" / case / "DAVIS", ORACLE / "cases" / case / "pred", **rules
    )
