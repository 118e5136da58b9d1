"""Write the two result files of davis2017-evaluation, byte for byte."""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from propagate.eval.scores import COLUMNS, Scores
from propagate.io.write.files import guard_writing, write_atomically

_OBJECT_COLUMNS = ("J-Mean", "F-Mean")


def write_official_csv(scores: Scores, folder: str | Path, split: str) -> tuple[Path, Path]:
    """Write `global_results-<split>.csv` and `per-sequence_results-<split>.csv`.

    In spite of its name, the second file has one row per object: `bear_1` by true id. If objects
    were matched to proposals, `bear_1` is the object with the lowest matched proposal, which is how
    the official tool counts. Numbers have three decimals; a number that does not exist is an empty
    field.

    Existing files are replaced. The official tool instead prints existing files as its result, even
    if the masks have changed since.

    Args:
        scores: Of any protocol; only those of DAVIS-2017 can equal official files.
        folder: Created if it does not exist.
        split: Part of the file names: "val".

    Returns:
        The two files.

    Raises:
        OutputError: If they cannot be written there.

    Source: davisvideochallenge/davis2017-evaluation:evaluation_method.py (commit ac7c43f).
    """
    folder = Path(folder)
    with guard_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    global_row = [_number(scores.global_[column]) for column in COLUMNS]
    files = (
        (folder / f"global_results-{split}.csv", COLUMNS, [global_row]),
        (
            folder / f"per-sequence_results-{split}.csv",
            ("Sequence", *_OBJECT_COLUMNS),
            _object_rows(scores),
        ),
    )
    for path, header, rows in files:
        write_atomically(path, _csv_text(header, rows).encode())
    return files[0][0], files[1][0]


def _object_rows(scores: Scores) -> Iterator[list[str]]:
    for sequence, object_ids in scores.object_ids.items():
        names = [f"{sequence}_{object_id}" for object_id in object_ids]
        rows = [scores.per_object[name] for name in names]
        if sequence in scores.proposals:
            proposals = scores.proposals[sequence]
            order = sorted(range(len(rows)), key=proposals.__getitem__)
            names = [f"{sequence}_{k}" for k in range(1, len(rows) + 1)]
            rows = [rows[k] for k in order]
        for name, row in zip(names, rows, strict=True):
            yield [name, *(_number(row[column]) for column in _OBJECT_COLUMNS)]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _csv_text(header: Iterable[str], rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
