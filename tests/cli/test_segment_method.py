"""`propagate segment --method paper|official`: what the methods bring, and what overrides it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.config import Config
from propagate.features.inversion import Inversion
from propagate.features.recipes import RECIPES
from propagate.features.registry import load_backbone
from propagate.features.unet import DiffusionBackbone
from propagate.images.segment import Segmenter
from tests.tiny_models import stable_diffusion


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny Stable Diffusion on the disk, two square pictures, and a mask of the first."""
    folder = tmp_path_factory.mktemp("method")
    stable_diffusion(folder).save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:40, 8:32] = 1
    for name, at in (("reference", 8), ("target", 28)):
        image = rng.integers(90, 110, (64, 64, 3), np.uint8)
        image[16:40, at : at + 24] = rng.integers(150, 255, (24, 24, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / "mask.png")
    return SimpleNamespace(
        model=folder / "model",
        reference=folder / "reference.png",
        target=folder / "target.png",
        mask=folder / "mask.png",
    )


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def run(propagate: Any, scene: Any, out: Path, *options: object, mask: bool = True) -> Any:
    """Run the command; what it said, the mask that it wrote, and its report."""
    given = ("-m", scene.mask) if mask else ()
    finished = propagate(
        *("segment", scene.reference, scene.target, *given, "-o", out),
        *("--model", scene.model, "-d", "cpu", *options),
    )
    assert finished.status == 0, finished.stderr
    return SimpleNamespace(
        said=finished.stderr,
        mask=pixels(out / "target.png"),
        report=json.loads((out / "result.json").read_bytes()),
    )


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the picture batches that are read, and nothing else is changed."""
    shapes: list[tuple[int, ...]] = []
    read = DiffusionBackbone._read

    def counted(self: DiffusionBackbone, images: torch.Tensor, modules: Any) -> Any:
        shapes.append(tuple(images.shape))
        return read(self, images, modules)

    monkeypatch.setattr(DiffusionBackbone, "_read", counted)
    return shapes


def shorten(monkeypatch: pytest.MonkeyPatch, name: str, inversion: Inversion) -> None:
    """Give a recipe another inversion, which takes fewer forwards."""
    recipe = RECIPES[name]
    reading = replace(recipe.reading, inversion=inversion)
    monkeypatch.setitem(RECIPES, name, replace(recipe, reading=reading))


def check_against_an_import(
    found: Any, scene: Any, method: Any, short_side: int, size: tuple[int, int]
) -> None:
    """Compare masks and scores with those of a `Segmenter` whose settings are written out."""
    backbone = load_backbone(str(scene.model), device="cpu", dtype="float32", recipe=method)
    segmenter = Segmenter(
        *(backbone, pixels(scene.reference), pixels(scene.mask)),
        method=method,
        config=Config(short_side_px=short_side),
    )
    expected = segmenter.segment(pixels(scene.target))
    assert expected.maps[1].shape == size
    assert np.array_equal(found.mask, expected.mask)
    objects = found.report["pictures"]["target"]["objects"]
    assert objects["1"]["score"] == expected.scores[1]


@pytest.mark.slow
def test_paper_equals_an_import_at_512_in_float32_with_its_recipe(
    propagate: Any,
    scene: Any,
    tmp_path: Path,
    forwards: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten(monkeypatch, "paper", Inversion(steps=1, iterations=2))  # 3 forwards, not 17
    found = run(propagate, scene, tmp_path / "out", "--method", "paper")
    assert forwards == [(1, 3, 512, 512)] * 2
    report = found.report
    assert (report["recipe"], report["dtype"], report["prompt"]) == ("paper", "float32", "")
    assert report["config"]["short_side_px"] == 512
    assert "method paper: short side 512 px, float32, recipe paper, prompt ''\n" in found.said
    check_against_an_import(found, scene, "paper", 512, (64, 64))


@pytest.mark.slow
def test_official_equals_an_import_in_float32_with_its_recipe(
    propagate: Any,
    scene: Any,
    tmp_path: Path,
    forwards: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a small size: features/test_recipes.py is about 512 px and all hundred forwards."""
    shorten(monkeypatch, "official", Inversion(steps=4))  # 7 forwards, not 100
    found = run(propagate, scene, tmp_path / "out", "--method", "official", "--short-side", 64)
    # The reference and the target, each read once.
    assert forwards == [(1, 3, 64, 64)] * 2
    report = found.report
    assert (report["recipe"], report["dtype"]) == ("official", "float32")
    assert report["prompt"] == "A photo"
    assert "float32, recipe official, prompt 'A photo'; not as published: --short" in found.said
    check_against_an_import(found, scene, "official", 64, (8, 8))


@pytest.mark.slow
def test_official_reads_pictures_at_512_with_any_recipe(
    propagate: Any, scene: Any, tmp_path: Path, forwards: list[tuple[int, ...]]
) -> None:
    found = run(propagate, scene, tmp_path / "out", "--method", "official", "--recipe", "default")
    assert forwards == [(1, 3, 512, 512)] * 2
    assert "method official: short side 512 px, float32, recipe default, prompt ''" in found.said
    assert found.said.splitlines()[0].endswith("; not as published: --recipe default")


def test_each_option_overrides_what_the_method_brings_and_is_said(
    propagate: Any, scene: Any, tmp_path: Path, forwards: list[tuple[int, ...]]
) -> None:
    options = ("--short-side", 64, "--recipe", "default", "--dtype", "bfloat16")
    found = run(propagate, scene, tmp_path / "out", "--method", "official", *options)
    assert {shape[2:] for shape in forwards} == {(64, 64)}
    assert "not as published: --short-side 64, --dtype bfloat16, --recipe default\n" in found.said
    assert (found.report["recipe"], found.report["dtype"]) == ("default", "bfloat16")


@pytest.mark.slow
def test_the_default_method_brings_nothing_and_says_nothing(
    propagate: Any, scene: Any, tmp_path: Path, forwards: list[tuple[int, ...]]
) -> None:
    found = run(propagate, scene, tmp_path / "out")
    assert {shape[2:] for shape in forwards} == {(480, 480)}
    assert "propagate: method" not in found.said
    assert found.report["dtype"] == "auto"


def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the text encoder is given."""
    from propagate.features import text

    given: list[str] = []
    tokenize = text._tokenize

    def listened(model: str, of: Any, *others: Any) -> Any:
        given.append(of.compose()[0])
        return tokenize(model, of, *others)

    monkeypatch.setattr(text, "_tokenize", listened)
    return given


SMALL = ("--short-side", 64, "--recipe", "official", "--method", "official")


@pytest.mark.slow
def test_a_class_name_leaves_the_prompt_of_the_released_code_alone(
    propagate: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, "official", Inversion(steps=4))
    given = prompts(monkeypatch)
    plain = run(propagate, scene, tmp_path / "plain", *SMALL)
    named = run(propagate, scene, tmp_path / "named", *SMALL, "--name", "a")
    assert given == ["A photo", "A photo"]
    assert "class 'a': not used" in named.said
    # The tiny model's prompts have no room for the usual template.
    monkeypatch.setattr("propagate.cli.segment_method.TEMPLATE", "a {name}")
    assert np.array_equal(plain.mask, named.mask)
    found = run(propagate, scene, tmp_path / "found", *SMALL, "--name", "a", mask=False)
    assert given[2:] == ["a a", "A photo"]
    assert "class 'a': used only to find it in the reference" in found.said
    own = run(propagate, scene, tmp_path / "own", *SMALL, "--name", "a", "--template", "a {name}")
    assert given[4:] == ["a a"]
    assert "not as published: --short-side 64, --template 'a {name}'" in own.said


def test_models_without_what_the_recipe_reads_keep_their_own_features(
    propagate: Any, drawn: Any, tmp_path: Path
) -> None:
    for method in ("paper", "official"):
        finished = propagate(
            *("segment", drawn.folder / "img_100.png", drawn.folder / "img_104.png"),
            *("-m", drawn.mask, "-o", tmp_path / method, "--method", method, "--model", "tiny"),
            *("-d", "cpu", "--short-side", 64),
        )
        assert finished.status == 0, finished.stderr
        said = "the features of model tiny, no Stable Diffusion; not as published: --short-side 64"
        assert said in finished.stderr
