"""Write the files of this folder again from `../shared/oracle/eval`, which not every checkout has.

python -m tests.golden.eval.remake
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from propagate.io.masks.rle import encode_mask
from tests.official_scorers import GOLDEN, NUMBERS, ORACLE

CASES = (
    *("c01_basic", "c02_missing_object", "c03_empty_gt_frames", "c04a_late_predicted"),
    *("c04b_late_unpredicted", "c04d_only_in_first", "c04e_only_in_last", "c05a_extra_pred_id"),
    *("c06_thin", "c07a_borders", "c07b_full_frame", "c08a_853x480", "c08c_one_row"),
    *("c08d_1080p", "c10b_three_frames", "c11_ten_objects", "c12_void", "c15k_sparse_gt"),
    *("c16_noncontiguous_ids", "c17_empty_first_frame", "c18_all_zero", "c18_perfect"),
    *("c19_iou_exactly_half", "c20a_unsup_permuted", "c23_same_box"),
)


def run_lengths(folder: Path) -> dict[str, Any]:
    """Encode the masks in a folder of sequences: by sequence and frame, the size and runs by id."""
    masks: dict[str, Any] = {}
    for path in sorted(folder.glob("*/*.png")):
        with Image.open(path) as image:
            ids = np.asarray(image)
        assert ids.dtype == np.uint8, path
        runs = {int(i): encode_mask(ids == i) for i in np.unique(ids) if i}
        masks.setdefault(path.parent.name, {})[path.stem] = [*ids.shape, runs]
    return masks


def numbers(case: str) -> dict[str, Any]:
    """Read what each official scorer gave for a case, if it gave numbers."""
    found = {}
    for scorer, keys in NUMBERS.items():
        text = (ORACLE / "expected" / case / f"{scorer}.json").read_text()
        result = json.loads(text).get("result")
        if result and any(result.get(key) for key in keys):
            found[scorer] = {key: result[key] for key in keys}
    return found


def golden(case: str) -> dict[str, Any]:
    """Collect the content of one file."""
    folder = ORACLE / "cases" / case
    return {
        "about": json.loads((folder / "case.json").read_text())["doc"],
        "sequences": (folder / "DAVIS" / "ImageSets" / "2017" / "val.txt").read_text().split(),
        "truth": run_lengths(folder / "DAVIS" / "Annotations" / "480p"),
        "prediction": run_lengths(folder / "pred"),
        "official": numbers(case),
    }


def main() -> None:
    """Write all files, one line for each part of a case."""
    for case in CASES:
        parts = (f'"{key}": {json.dumps(part)}' for key, part in golden(case).items())
        (GOLDEN / f"{case}.json").write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    main()
