"""Cases that the official scorers were run on, and the numbers that they gave.

Some are in `tests/golden/eval`, for every checkout. The others are in `../shared/oracle/eval`.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from propagate.io.masks.rle import decode_mask
from tests.paths import ROOT, SHARED

GOLDEN = ROOT / "tests" / "golden" / "eval"
GOLDEN_CASES = tuple(sorted(path.stem for path in GOLDEN.glob("*.json")))
ORACLE = SHARED / "oracle" / "eval"
needs_oracle = pytest.mark.skipif(
    not ORACLE.is_dir(), reason="the official scorers' outputs (../shared/oracle/eval) are absent"
)
# By scorer, the parts of its result that tests compare.
NUMBERS = {
    "davis2017.semi": ("global", "per_object", "per_frame"),
    "davis2017.unsup": ("global", "per_object", "per_frame"),
    "davis2017_cli.semi": ("csv",),
    "davis2017_cli.unsup": ("csv",),
    "davis_py2.single": ("global", "per_frame"),
    "lvos_python": ("per_object",),
    "mosev2": ("per_object",),
    "sav.skip": ("global", "per_object", "per_frame"),
    "vos_benchmark.skip": ("global",),
}


@cache
def golden(case: str) -> dict[str, Any]:
    """Read a case of `tests/golden/eval`."""
    return json.loads((GOLDEN / f"{case}.json").read_text())


def all_cases() -> list[str]:
    """Name all cases that are here."""
    folder = ORACLE / "cases"
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted({*GOLDEN_CASES, *others})


def official(case: str, scorer: str) -> dict[str, Any]:
    """Look up the numbers that a scorer gave for a case; empty if it gave none."""
    if case in GOLDEN_CASES:
        return golden(case)["official"].get(scorer, {})
    text = (ORACLE / "expected" / case / f"{scorer}.json").read_text()
    found = json.loads(text)
    return found["result"] if found["status"] == "ok" else {}


def params(names: Iterable[str]) -> list[Any]:
    """Make parameters of cases; those that are not golden need the oracle."""
    return [
        pytest.param(name, marks=() if name in GOLDEN_CASES else needs_oracle) for name in names
    ]


def folders_of(case: str, scratch: Path) -> tuple[Path, Path]:
    """Find truth and predictions of a case; a golden one is written into `scratch`."""
    if case not in GOLDEN_CASES:
        return ORACLE / "cases" / case / "DAVIS", ORACLE / "cases" / case / "pred"
    listed = scratch / "DAVIS" / "ImageSets" / "2017" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(golden(case)["sequences"]))
    truth, prediction = scratch / "DAVIS" / "Annotations" / "480p", scratch / "pred"
    for folder, side in ((truth, "truth"), (prediction, "prediction")):
        for sequence, frames in golden(case)[side].items():
            (folder / sequence).mkdir(parents=True)
            for name, frame in frames.items():
                Image.fromarray(ids_of(frame)).save(folder / sequence / f"{name}.png")
    return scratch / "DAVIS", prediction


def ids_of(frame: Any) -> np.ndarray:
    """Decode a frame of a golden case, (H, W) uint8."""
    height, width, runs = frame
    ids = np.zeros((height, width), np.uint8)
    for object_id, counts in runs.items():
        ids[decode_mask(counts, height, width)] = int(object_id)
    return ids
