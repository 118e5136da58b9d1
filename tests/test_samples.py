"""Every sample and every example of the READMEs is run."""

import importlib
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import propagate
from propagate.eval.metrics import region_similarity
from tests.paths import ROOT

CLIP = ROOT / "samples" / "clip"
README = (ROOT / "README.md").read_text()
READMES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(
        p
        for top in ("propagate", "io", "eval", "samples", "tests")
        for p in (ROOT / top).rglob("*.md")
    ),
]


@pytest.fixture
def sample(monkeypatch):
    """Imports a sample by its name, as a script would find the modules beside it."""
    monkeypatch.syspath_prepend(str(ROOT / "samples"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> Path:
    """The folder that the quickstart sample leaves."""
    folder = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, str(ROOT / "samples/quickstart.py")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "90 frames, objects (1, 2, 3)" in done.stdout
    return folder / "out" / "clip"


@pytest.mark.slow
def test_quickstart_leaves_masks_an_overlay_and_a_report(quickstart):
    assert len(list((quickstart / "masks").glob("*.png"))) == 90
    assert (quickstart / "overlay.mp4").stat().st_size > 10_000
    report = json.loads((quickstart / "result.json").read_text())
    assert report["complete"]
    assert report["frames"] == 90


@pytest.mark.slow
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


@pytest.mark.slow
def test_streaming_adds_an_object_in_the_middle(sample, capsys):
    sample("streaming").main(max_frames=11)
    lines = capsys.readouterr().out.splitlines()
    assert "cup 3" not in lines[0]
    assert "cup 1 tracked, cup 2 tracked, cup 3 tracked" in lines[1]


@pytest.mark.slow
def test_the_preview_shows_followed_frames_side_by_side(sample, tmp_path, monkeypatch):
    script = sample("make_preview")
    monkeypatch.setattr(script, "CAPTIONS", {0: "given", 2: "found"})
    monkeypatch.setattr("sys.argv", ["make_preview.py", "--out", str(tmp_path / "preview.jpg")])
    script.main()
    with Image.open(tmp_path / "preview.jpg") as picture:
        joined = np.asarray(picture).astype(int)
    frame = np.asarray(Image.open(CLIP / "first.png"))
    height, width = frame.shape
    assert joined.shape == (height + script.CAPTION_HEIGHT, 2 * width + script.GAP, 3)
    for left in (0, width + script.GAP):
        panel = joined[:height, left : left + width]
        for object_id, colour in script.COLOURS.items():
            # The badge around the number, deep inside the object.
            off = np.abs(panel[frame == object_id] - colour).sum(1)
            assert (off < 60).sum() > 300


@pytest.mark.slow
def test_training_runs_and_resumes_from_its_checkpoint(sample, tmp_path, monkeypatch, capsys):
    """Three steps on drawn pictures; what comes out is a model that `propagate` reads."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    script, out = sample("train_tiny"), tmp_path / "model"
    monkeypatch.setattr(script, "VALIDATION_IMAGES", 8)
    options = ["--data", str(pictures), "--out", str(out), "--scenes", "2", "--crops", "2"]
    options += ["--keep", "2", "--every", "1", "--device", "cpu"]
    for steps in ("2", "3"):
        monkeypatch.setattr("sys.argv", ["train_tiny.py", *options, "--steps", steps])
        script.main()
    assert "resuming from step 2" in capsys.readouterr().out
    curve = (out / "curve.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["step", "1", "2", "3"]
    assert (out / "step-00002" / "reading.json").exists()
    propagator = propagate.Propagator(str(out), device="cpu")
    assert propagator.backbone.stride == 8
    assert propagator.backbone.channels == 128


def test_the_first_two_shell_blocks_install_and_run():
    install_and_run, install_and_test = blocks("sh")[:2]
    assert "propagate run samples/clip/clip.mp4" in install_and_run
    assert "python -m pytest" in install_and_test
    for block in (install_and_run, install_and_test):
        assert len(block.strip().splitlines()) == 1


def test_the_shell_examples_of_the_readmes_parse(propagate):
    """Each `propagate ...` line names real commands and options."""
    text = "\n".join(path.read_text() for path in READMES)
    examples = re.findall(r"^    (propagate .*?)(?:\s+#.*)?$", text, re.M)
    assert len(examples) >= 6
    helps = {}
    for example in examples:
        words = shlex.split(example)[1:]
        named = itertools.takewhile(lambda word: word.isidentifier() and word.islower(), words)
        command = tuple(named) if words[0] in ("eval", "benchmark") else (words[0],)
        if command not in helps:
            finished = propagate(*command, "--help")
            assert finished.status == 0, example
            helps[command] = finished.stdout
        for option in (word for word in words if re.match(r"--?[a-z]", word)):
            assert re.search(rf"(^|[\s,]){re.escape(option)}\b", helps[command]), (example, option)


def test_every_link_of_the_readmes_leads_somewhere():
    for path in READMES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / link).exists(), (path, link)


def test_the_readme_is_short():
    assert len(README.split()) <= 700


@pytest.mark.slow
def test_the_example_of_segmenter_and_finder_runs(monkeypatch, capsys):
    """Each cup is found in the clip with the score of an identical picture."""
    text = (ROOT / "propagate" / "images" / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(ROOT)
    names = {}
    # A frame a second shows that the lines are right.
    shortened = example.replace('clip.mp4")\nfor', 'clip.mp4", every_s=1)\nfor')
    assert shortened != example
    exec(compile(shortened, "README.md", "exec"), names)
    with Image.open(max((CLIP / "truth").glob("*.png"))) as image:
        truth = np.asarray(image)
    assert names["found"].mask.shape == truth.shape
    scores, *rows = capsys.readouterr().out.splitlines()
    assert scores.startswith("{1: 0.")
    assert [row.split()[:2] for row in rows] == [["1", "1.0"], ["2", "1.0"], ["3", "1.0"]]


@pytest.mark.slow
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
