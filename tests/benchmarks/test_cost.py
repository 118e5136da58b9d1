"""The cost benchmark against PyTorch's own counts; the full-size models against the released."""

import json
import sys
from pathlib import Path

import pytest
import torch

from propagate.features.inversion import Inversion
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import FIRST_ATTENTION, UP_BLOCK, Reading
from tests import full_size_models
from tests.benchmarks import cost
from tests.tiny_models import pixel_unet, save_pixel_pipeline, stable_diffusion

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Stable Diffusion of four levels in place of a full-size one."""
    folder = tmp_path_factory.mktemp("models")
    stable_diffusion(folder / "words", levels=4).save_pretrained(folder / "sd21")
    return folder


@pytest.mark.parametrize(
    ("reading", "whole", "early", "last"),
    [
        (Reading(UP_BLOCK, 51), 0, 1, "up_blocks.2"),
        (Reading(UP_BLOCK, 51, ensemble=3), 0, 3, "up_blocks.2"),
        (
            # 3 steps up, 2 forwards each, and 2 steps down to the cleanest level.
            Reading(FIRST_ATTENTION, 1, tensor="q", inversion=Inversion(3, iterations=2)),
            8,
            1,
            "up_blocks.3.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
    ],
)
@pytest.mark.slow
def test_flops_of_the_parts_add_up_to_those_of_the_whole_extraction(
    models: Path, reading: Reading, whole: int, early: int, last: str
) -> None:
    backbone = load_diffusion("tested", str(models / "sd21"), CPU, torch.float32, reading)
    forwards = cost.count_forwards(backbone)
    assert (forwards.whole, forwards.early, forwards.last) == (whole, early, last)
    found = cost.cost_of_recipe(backbone, forwards, (64, 96), 1, {})
    assert (found["whole_forwards"], found["early_forwards"]) == (whole, early)
    assert found["working_size"] == "96x64"
    with cost.flop_counter() as counter:
        backbone.extract(torch.rand(1, 3, 64, 96))
    assert round(found["gflops"] * 1e9) == counter.get_total_flops()
    assert 0 < found["vae_gflops"] < found["gflops"]


def test_a_unet_on_pixels_has_no_encoder_to_count(tmp_path: Path) -> None:
    folder = save_pixel_pipeline(tmp_path, pixel_unet(attention=True))
    backbone = load_diffusion("tested", str(folder), CPU, torch.float32)
    forwards = cost.count_forwards(backbone)
    assert (forwards.whole, forwards.early, len(forwards.encoder)) == (0, 1, 0)
    assert cost.cost_of_recipe(backbone, forwards, (64, 96), 1, {})["vae_gflops"] == 0


def test_attention_is_counted_as_two_products_of_matrices() -> None:
    # PyTorch's counter alone leaves out what a CPU computes attention with.
    query, key = torch.rand(2, 3, 10, 4), torch.rand(2, 3, 7, 4)
    with cost.flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
    assert counter.get_total_flops() == 2 * 3 * (2 * 10 * 4 * 7 + 2 * 10 * 7 * 4)


@pytest.mark.slow
def test_the_command_prints_two_tables_and_writes_them_as_json(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "cost.json"
    options = ["--models", models, "--names", "sd21", "--recipes", "default", "dift"]
    settings = [
        "--size",
        "48x48",
        "--dtype",
        "float32",
        "--repeats",
        "1",
        "--threads",
        "1",
        "--json",
        file,
    ]
    monkeypatch.setattr(sys, "argv", [str(part) for part in ("cost", *options, *settings)])
    threads = torch.get_num_threads()
    try:
        cost.main()
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert [(row["recipe"], row["early_forwards"]) for row in report["recipes"]] == [
        ("default", 1),
        ("dift", 8),
    ]
    # The same one early forward, so that the eight are timed once.
    default, dift = report["recipes"]
    vae, early = default["seconds_of_one"].values()
    assert default["seconds_of_one"] == dift["seconds_of_one"]
    assert dift["cpu_s"] == pytest.approx(vae["cpu"] + 8 * early["cpu"])
    # The ratio is of recipes with one forward.
    assert [row["recipe"] for row in report["extractor"]] == ["default"]
    assert report["machine"]["threads"] == 1
    for text in ("8 early", "480x480", "ceiling", torch.__version__):
        assert text in printed


# Weights in the files of the released models, in millions.
RELEASED = {
    "sd15": {"unet": 859.520964, "vae": 83.653863, "text_encoder": 123.060480},
    "sd21": {"unet": 865.910724, "vae": 83.653863, "text_encoder": 340.387840},
    "sdxl-turbo": {
        "unet": 2567.463684,
        "vae": 83.653863,
        "text_encoder": 123.060480,
        "text_encoder_2": 694.659840,
    },
}


@pytest.mark.parametrize("name", full_size_models.ARCHITECTURES)
@pytest.mark.slow
def test_full_size_models_have_as_many_weights_as_the_released(name: str) -> None:
    with torch.device("meta"):
        parts = full_size_models.parts(name)
    found = {part: count_weights(model) / 1e6 for part, model in parts.items()}
    assert found == RELEASED[name]


def count_weights(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
