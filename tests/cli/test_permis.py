"""`propagate eval permis`: the commands and their tables."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from propagate.cli.tables import format_images, format_list, format_permis, format_retrieval
from propagate.eval.permis.images import evaluate_permis_images
from propagate.eval.permis.list import read_permis_list, write_permis_list
from propagate.eval.permis.retrieval import evaluate_permis_retrieval
from propagate.eval.permis.video import evaluate_permis
from tests.drawn_permis import (
    SPLITS,
    build,
    similarities,
    swapped,
    write_annotations,
    write_predictions,
    write_table,
)


def text_of(table: object) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_tables_say_the_protocol_in_words(tmp_path: Path):
    permis = build(tmp_path, SPLITS)
    predictions = write_predictions(tmp_path, permis, swapped)
    video = text_of(format_permis(evaluate_permis(permis, predictions)))
    assert "PerMIS-video (sequences: 3, objects: 6, frames: 7)" in video
    assert f"List: sha256 {permis.sha256}." in video
    assert "Switches" in video
    assert "every annotated frame but the first" in video
    images = text_of(format_images(evaluate_permis_images(permis, predictions)))
    assert "PerMIS-image (sequences: 2, pairs: 4)" in images
    assert "all pairs, pooled" in images
    table = write_table(tmp_path / "t.csv", *similarities(permis))
    retrieval = text_of(format_retrieval(evaluate_permis_retrieval(permis, table)))
    assert "PerMIR retrieval (queries: 2, gallery: 6)" in retrieval
    assert "Recall@50" in retrieval
    assert "left out: source dropped" in text_of(format_list(permis))


def test_the_commands_build_a_list_and_score_it(tmp_path: Path, propagate: Callable[..., Any]):
    paths = write_annotations(tmp_path, SPLITS)
    out, scores = tmp_path / "list.json", tmp_path / "scores.json"
    images = tmp_path / "images"
    built = propagate(
        *("eval", "permis", "build", "--images", images, "-o", out),
        *(word for path in paths for word in ("--annotations", path)),
    )
    assert (built.status, built.stderr) == (0, f"propagate: {out}: 3 videos\n")
    assert "objects" in built.stdout
    permis = read_permis_list(out)
    pred = write_predictions(tmp_path, permis, swapped)
    call = ("eval", "permis", "--list", out, "--pred")
    assert " 100.0 " in propagate(*call, pred, "--json", scores).stdout
    assert json.loads(scores.read_text())["identity"]["total"]["switches"] == 6
    assert "bIoU" in propagate(*call, pred, "--task", "images").stdout
    table = write_table(tmp_path / "t.csv", *similarities(permis))
    assert "mAP" in propagate(*call, table, "--task", "retrieval").stdout


def test_the_commands_say_what_is_missing(tmp_path: Path, propagate: Callable[..., Any]):
    no_list = propagate("eval", "permis", "--pred", tmp_path)
    assert no_list.status == 2
    assert "--list" in no_list.stderr
    gone = propagate("eval", "permis", "--list", tmp_path / "gone.json", "--pred", tmp_path)
    assert gone.status == 1
    assert gone.stderr.count("\n") == 1
    assert "gone.json: no such list; make it with `propagate eval permis build`" in gone.stderr


def test_predictions_that_the_list_does_not_have_are_named(tmp_path: Path, propagate: Any):
    permis = build(tmp_path, SPLITS)
    write_permis_list(tmp_path / "list.json", permis)
    pred = write_predictions(tmp_path, permis, swapped)
    call = ("eval", "permis", "--list", tmp_path / "list.json", "--pred", pred)
    assert propagate(*call).stderr == ""
    first = permis.videos[0].name
    shutil.copytree(pred / first, pred / "other")
    mask = next((pred / first).iterdir())
    shutil.copy(mask, mask.with_name("zzz.png"))
    finished = propagate(*call)
    assert finished.status == 0
    assert "1 sequence of the predictions not in the list, not scored: other" in finished.stderr
    assert (
        f"1 frame of the predictions not in the truth, not scored: {first}/zzz" in finished.stderr
    )
    (pred / first).rename(pred / first.upper())
    finished = propagate(*call)
    assert finished.status == 1
    assert f"{first} is missing; there is {first.upper()}" in finished.stderr
