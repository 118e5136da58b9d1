"""Every sample and every example of the README is run."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import propagate
from propagate.eval.metrics import region_similarity
from tests.paths import ROOT

CLIP = ROOT / "samples" / "clip"
README = (ROOT / "README.md").read_text()


def run_sample(name: str, *args: str, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "samples" / name), *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> Path:
    """The folder that the quickstart sample leaves."""
    folder = tmp_path_factory.mktemp("quickstart")
    assert "90 frames, objects (1, 2, 3)" in run_sample("quickstart.py", cwd=folder)
    return folder / "out" / "clip"


def test_quickstart_leaves_masks_an_overlay_and_a_report(quickstart):
    assert len(list((quickstart / "masks").glob("*.png"))) == 90
    assert (quickstart / "overlay.mp4").stat().st_size > 10_000
    report = json.loads((quickstart / "result.json").read_text())
    assert report["complete"]
    assert report["frames"] == 90


def test_the_cups_of_the_sample_are_told_apart(quickstart):
    """Each of the three look-alikes is whole again once nobody hides it, and to the end."""
    for cup in (1, 2, 3):
        similarities = []
        for path in sorted((CLIP / "truth").glob("*.png")):
            truth = np.asarray(Image.open(path)) == cup
            found = np.asarray(Image.open(quickstart / "masks" / path.name)) == cup
            similarities.append(region_similarity(found, truth))
        assert np.mean(similarities) > 0.88
        # From frame 50 to 84 nothing covers cups 1 and 2, and cup 3 is back from frame 72 on.
        assert min(similarities[72 if cup == 3 else 50 : 85]) > 0.8
        assert similarities[-1] > 0.85


def test_streaming_adds_an_object_in_the_middle(tmp_path):
    lines = run_sample("streaming.py", "31", cwd=tmp_path).splitlines()
    assert "cup 3" not in lines[0]
    assert "cup 1 tracked, cup 2 tracked, cup 3 tracked" in lines[1]


def test_training_runs_and_goes_on_from_its_checkpoint(tmp_path):
    """Three steps on drawn pictures; what comes out is a model that `propagate` reads."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(260):
        pixels = np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    options = ["--data", str(pictures), "--out", "model", "--scenes", "2", "--crops", "2"]
    options += ["--keep", "2", "--device", "cpu"]
    run_sample("train_tiny.py", *options, "--steps", "2", "--every", "1", cwd=tmp_path)
    log = run_sample("train_tiny.py", *options, "--steps", "3", "--every", "1", cwd=tmp_path)
    assert "going on from step 2" in log
    curve = (tmp_path / "model" / "curve.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["step", "1", "2", "3"]
    assert (tmp_path / "model" / "step-00002" / "reading.json").exists()
    propagator = propagate.Propagator(str(tmp_path / "model"), device="cpu")
    assert propagator.backbone.stride == 8
    assert propagator.backbone.channels == 128


def test_the_first_two_shell_blocks_install_and_run():
    install_and_run, install_and_test = blocks("sh")[:2]
    assert "propagate run samples/clip/clip.mp4" in install_and_run
    assert "python -m pytest" in install_and_test
    for block in (install_and_run, install_and_test):
        assert len(block.strip().splitlines()) == 1


def test_the_shell_examples_of_the_readme_parse():
    """Each `propagate ...` line names real commands and options."""
    examples = re.findall(r"^    (propagate .*?)(?:\s+#.*)?$", README, re.M)
    assert len(examples) >= 6
    for example in examples:
        words = shlex.split(example)[1:]
        named = itertools.takewhile(lambda word: word.isidentifier() and word.islower(), words)
        command = list(named) if words[0] in ("eval", "benchmark") else words[:1]
        done = subprocess.run(
            [sys.executable, "-m", "propagate", *command, "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode == 0, example
        for option in (word for word in words if re.match(r"--?[a-z]", word)):
            assert re.search(rf"(^|[\s,]){re.escape(option)}\b", done.stdout), (example, option)


def test_the_first_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    example = blocks("python")[0]
    assert "frame.index == 0" in example
    monkeypatch.chdir(ROOT)
    # The whole clip was followed once already: five frames show that the lines are right.
    shortened = example.replace(
        "    for frame in frames:", "    for frame in __import__('itertools').islice(frames, 5):"
    )
    assert shortened != example
    exec(compile(shortened, "README.md", "exec"), {})
    assert set(json.loads(re.sub(r"(\d+):", r'"\1":', capsys.readouterr().out))) == {"1", "2", "3"}
