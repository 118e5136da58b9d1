"""CleanDIFT: another U-Net's weights in a Stable Diffusion pipeline, read without noise."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from propagate.errors import ModelError
from propagate.features.pixel_unet import load_diffusion
from propagate.features.presets import PRESETS, is_present
from propagate.features.reading import Reading
from propagate.features.recipes import RECIPES
from propagate.features.registry import load_backbone
from tests.tiny_hub import GATED, Hub, downloaded_files, serving
from tests.tiny_models import stable_diffusion

CPU = torch.device("cpu")
PRESET = PRESETS["cleandift"]
assert PRESET.source is not None
assert PRESET.unet_weights is not None
BASE, WEIGHTS = PRESET.source, PRESET.unet_weights


def other_unet(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """Train the U-Net on, so to speak."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=rng)
    return pipeline


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that has the other U-Net in it."""
    folder = tmp_path_factory.mktemp("trained")
    other_unet(stable_diffusion(folder)).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(
    trained: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A hub with tiny models under the names of the real ones."""
    stable_diffusion(tmp_path).save_pretrained(tmp_path / "base")
    weights = tmp_path / "weights"
    weights.mkdir()
    unet = load_file(trained / "unet" / "diffusion_pytorch_model.safetensors")
    save_file(unet, weights / WEIGHTS.file)
    (weights / "cleandift_sd21_full.safetensors").write_bytes(b"x" * 1000)
    with serving({BASE: tmp_path / "base", WEIGHTS.source: weights}, cache, monkeypatch) as hub:
        yield hub


def frame() -> torch.Tensor:
    return torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(7))


def load(model: str = "cleandift", **settings: Any) -> Any:
    return load_backbone(model, device="cpu", dtype="float32", **settings)


@pytest.mark.slow
def test_features_are_those_of_the_clean_frame_in_the_other_unet(hub: Hub, trained: Path) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(trained, safety_checker=None)
    caught = []
    pipeline.unet.up_blocks[1].register_forward_hook(
        lambda _module, _inputs, output: caught.append(output)
    )
    with torch.inference_mode():
        clean = pipeline.vae.encode(frame() * 2 - 1).latent_dist.mode()
        prompt, _ = pipeline.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)
        pipeline.unet(clean * pipeline.vae.config.scaling_factor, 261, encoder_hidden_states=prompt)
    torch.testing.assert_close(load().extract(frame()), caught[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_another_recipe_may_be_asked_for(hub: Hub) -> None:
    assert load().reading.noise == "none"
    assert load(recipe="default").reading.noise == RECIPES["default"].reading.noise == "fixed"
    # The model that it shares its parts with is read as ever.
    assert load(BASE).reading.noise == "fixed"


def test_of_both_models_only_what_is_loaded_is_downloaded(hub: Hub, cache: Path) -> None:
    assert not is_present(PRESET)
    load()
    files = downloaded_files(cache)
    assert WEIGHTS.file in files
    assert "unet/config.json" in files
    assert "text_encoder/model.safetensors" in files
    assert "unet/diffusion_pytorch_model.safetensors" not in files
    assert "cleandift_sd21_full.safetensors" not in files
    assert is_present(PRESET)
    asked = len(hub.requests)
    load()
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_the_pipeline_without_its_own_unet_is_not_taken_for_whole(hub: Hub) -> None:
    load()
    assert not is_present(PRESETS["sd21"])
    assert load("sd21").reading.noise == "fixed"
    assert is_present(PRESETS["sd21"])


def failure() -> str:
    with pytest.raises(ModelError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_hub_without_the_file_is_an_error(hub: Hub) -> None:
    (hub.models[WEIGHTS.source] / WEIGHTS.file).unlink()
    assert f"{WEIGHTS.file} is missing; fetch the model again" in failure()


def test_weights_that_do_not_fit_the_unet_are_an_error(hub: Hub) -> None:
    path = hub.models[WEIGHTS.source] / WEIGHTS.file
    weights = load_file(path)
    weights["conv_in.weight"] = torch.zeros(4, 4, 3, 3)
    save_file(weights, path)
    message = failure()
    assert message.startswith(f"model cleandift: its U-Net ({WEIGHTS.file}) in ")
    assert "size mismatch for conv_in.weight" in message


def test_a_weight_that_is_not_in_the_file_is_an_error(hub: Hub) -> None:
    path = hub.models[WEIGHTS.source] / WEIGHTS.file
    weights = load_file(path)
    del weights["conv_in.weight"]
    save_file(weights, path)
    assert "the file of its U-Net lacks 1 of its weights, for example conv_in.weight" in failure()


def test_a_gated_file_is_an_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = replace(PRESET, unet_weights=replace(WEIGHTS, source=GATED))
    monkeypatch.setitem(PRESETS, "cleandift", gated)
    assert failure().startswith(
        f"model cleandift ({GATED}): its owner asks for consent: give it on the model's page"
    )


@pytest.mark.slow
def test_a_folder_with_such_a_unet_says_so_itself(trained: Path, tmp_path: Path, hub: Hub) -> None:
    stored = {"block": "up_blocks.1", "timestep": 261, "noise": "none"}
    (trained / "reading.json").write_text(json.dumps(stored))
    own = load(str(trained))
    (trained / "reading.json").unlink()
    assert own.reading == Reading("up_blocks.1", 261, noise="none")
    assert torch.equal(own.extract(frame()), load().extract(frame()))


@pytest.mark.slow
def test_without_noise_the_level_changes_only_what_the_unet_is_told(trained: Path) -> None:
    def features(timestep: int, noise: Any) -> torch.Tensor:
        reading = Reading("conv_in", timestep, noise=noise)
        backbone = load_diffusion("tested", str(trained), CPU, torch.float32, reading)
        return backbone.extract(frame())

    # The first layer sees the latents alone, not the timestep.
    assert torch.equal(features(261, "none"), features(900, "none"))
    assert not torch.allclose(features(261, "fixed"), features(900, "fixed"))
    assert not torch.allclose(features(261, "fixed"), features(261, "none"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "some"}, "noise: fixed, none, not 'some'"),
        ({"noise": "none", "ensemble": 2}, "noise: fixed with an inversion or an ensemble"),
        (
            {"noise": "none", "inversion": RECIPES["paper"].reading.inversion},
            "noise: fixed with an inversion or an ensemble",
        ),
    ],
)
def test_nonsense_is_refused_as_a_noise(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reading("up_blocks.1", 261, **settings)
