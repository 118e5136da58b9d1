"""The command as a person meets it: help, version, models, scores, and failures without noise."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from propagate.cli.main import app
from propagate.features.presets import PRESETS
from tests import forked
from tests.paths import ROOT


def commands():
    """Every command with its parameters, by the words that call it."""
    pending: dict[tuple[str, ...], Any] = {(): typer.main.get_command(app)}
    found: dict[tuple[str, ...], Any] = {}
    while pending:
        words, command = pending.popitem()
        found[words] = command
        for name, child in getattr(command, "commands", {}).items():
            pending[*words, name] = child
    return found


COMMANDS = commands()


def python(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, text=True, capture_output=True, timeout=120
    )


def test_the_commands_are_these():
    names = (
        *("run", "prompt", "studio", "batch", "status", "report"),
        *("models", "features", "segment", "find"),
        *("eval", "eval davis", "eval protocols", "eval permis"),
        *("eval permis build", "benchmark", "benchmark davis", "benchmark permis"),
    )
    assert set(COMMANDS) == {(), *(tuple(name.split()) for name in names)}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_explains_every_option_and_gives_an_example(propagate, words):
    finished = propagate(*words, "--help")
    assert finished.status == 0
    assert finished.stderr == ""
    assert "Example: propagate " in finished.stdout
    for parameter in COMMANDS[words].params:
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert name in finished.stdout
        assert getattr(parameter, "help", None), f"{parameter.name} is not explained"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_example_of_a_command_is_one_that_it_accepts(words):
    """Parsed, not run: an option that was renamed shows here."""
    example = COMMANDS[words].help.split("Example: propagate ")[1].splitlines()[0].split()
    assert tuple(example[: len(words)]) == words
    leaf = max((w for w in COMMANDS if tuple(example[: len(w)]) == w), key=len)
    assert leaf
    COMMANDS[leaf].make_context("propagate", example[len(leaf) :])


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ["--help", "run --help", "eval davis --help", "studio --help", "--version"]
)
def test_help_and_version_load_no_heavy_library(arguments):
    script = f"""
import sys
from propagate.cli.main import main
sys.argv = ["propagate", *{arguments.split()}]
try:
    main()
except SystemExit as exit:
    assert not exit.code
heavy = {{"torch", "diffusers", "transformers", "numpy", "av", "PIL", "skimage", "starlette"}}
print("loaded:", sorted(heavy & set(sys.modules)))
"""
    finished = python("-c", script)
    assert finished.stdout.endswith("loaded: []\n"), finished


def test_version_through_python_m():
    finished = python("-m", "propagate", "--version")
    assert finished.returncode == 0
    assert finished.stderr == ""
    assert finished.stdout.startswith("propagate")


def test_without_arguments_the_help_is_shown():
    finished = python("-m", "propagate")
    assert "Usage: " in finished.stdout + finished.stderr
    assert finished.returncode == 2


def test_models_lists_every_preset_and_whether_it_is_here(propagate):
    finished = propagate("models")
    assert finished.status == 0
    lines = {line.split()[0]: line for line in finished.stdout.splitlines()}
    assert set(lines) == {"model", *PRESETS}
    for name, preset in PRESETS.items():
        assert preset.license in lines[name]
        assert preset.description in lines[name]
    assert " yes " in lines["color"]


def write_tree(root, truth):
    for sequence in ("one", "two"):
        (root / sequence).mkdir(parents=True)
        for index, ids in enumerate(truth):
            Image.fromarray(ids).save(root / sequence / f"{index:05d}.png")


def test_eval_davis_scores_a_perfect_tree_one_and_writes_json(propagate, drawn, tmp_path):
    write_tree(tmp_path / "truth", drawn.truth[:5])
    write_tree(tmp_path / "pred", drawn.truth[:5])
    scores = tmp_path / "scores.json"
    finished = propagate(
        *("eval", "davis", "--root", tmp_path / "truth", "--pred", tmp_path / "pred"),
        *("--json", scores),
    )
    assert finished.status == 0, finished.stderr
    assert "100.0" in finished.stdout
    written = json.loads(scores.read_text())
    assert written["global"]["J&F-Mean"] == 1
    assert set(written) >= {"protocol", "global", "per_object", "per_frame"}


@pytest.mark.slow
def test_eval_davis_scores_what_run_wrote(propagate, drawn, tmp_path):
    write_tree(tmp_path / "truth", drawn.truth)
    shutil.rmtree(tmp_path / "truth/two")
    (tmp_path / "truth/one").rename(tmp_path / "truth/clip")
    out = tmp_path / "out"
    given = ("-m", drawn.mask, "-o", out, "--model", "color", "--short-side", 64)
    run = propagate("run", drawn.mp4, *given)
    assert run.status == 0
    scores = tmp_path / "scores.json"
    finished = propagate(
        "eval", "davis", "--root", tmp_path / "truth", "--pred", out, "--json", scores
    )
    assert finished.status == 0, finished.stderr
    expected = []
    for index in range(1, 11):  # the benchmark drops the first and the last frame
        ids = np.asarray(Image.open(out / f"clip/masks/{index:05d}.png"))
        for i in (1, 2):
            one, other = ids == i, drawn.truth[index] == i
            expected.append(np.count_nonzero(one & other) / np.count_nonzero(one | other))
    written = json.loads(scores.read_text())["global"]["J-Mean"]
    assert written == pytest.approx(np.mean(expected), abs=1e-12)


def test_eval_davis_without_a_prediction_is_one_line(propagate, drawn, tmp_path):
    write_tree(tmp_path / "truth", drawn.truth[:5])
    finished = propagate("eval", "davis", "--root", tmp_path / "truth", "--pred", tmp_path / "no")
    assert finished.status == 1
    assert finished.stderr.startswith("propagate: error: ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.slow
def test_debug_shows_the_traceback_of_an_error(drawn, tmp_path):
    arguments = ("run", str(tmp_path / "no.mp4"), "-m", str(drawn.mask), "-o", str(tmp_path))
    line = [sys.executable, "-m", "propagate", "--debug", *arguments, "--model", "color"]
    finished = forked.run(line)
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "propagate.errors.VideoError: " in finished.stderr


@pytest.mark.slow
def test_the_command_as_a_process_is_one_line_and_status_1(drawn, tmp_path):
    arguments = ("run", str(tmp_path / "no.mp4"), "-m", str(drawn.mask), "-o", str(tmp_path))
    finished = python("-m", "propagate", *arguments, "--model", "color")
    assert finished.returncode == 1
    assert finished.stderr == (
        f"propagate: error: {tmp_path / 'no.mp4'}: no such file or folder; check the path\n"
    )


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_traceback():
    """`propagate models | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        finished = subprocess.run(
            [sys.executable, "-m", "propagate", "models"],
            cwd=ROOT,
            text=True,
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("signals", [0, 1, 3])
def test_the_end_of_the_program_waits_for_no_stuck_thread_and_is_not_interrupted(signals):
    """A signal at the end, or a thread that does not come back, aborted the process in C++."""
    script = f"""
import os, signal, threading, time
import propagate.io.decode.prefetch as prefetch
from propagate.cli import main

def stuck():
    while True:
        time.sleep(0.01)
        yield None

prefetch.EXIT_DEADLINE_S = 0.5
main._on_signals(main._interrupt)
kept = prefetch.Prefetcher(stuck(), bytes_limit=1)
for number in range({signals}):
    end = (os.getpid(), signal.SIGTERM)
    threading.Timer(0.1 * (number + 1), os.kill, end).start()
main._end(130)
"""
    finished = python("-c", script)
    assert (finished.returncode, finished.stderr) == (130, "")
