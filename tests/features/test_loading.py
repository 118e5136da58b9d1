"""Models as they lie on a disk: whole, incomplete, damaged, of another kind."""

import gc
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import Decoder
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from propagate import Propagator
from propagate.errors import ModelError
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import Reading
from propagate.features.registry import load_backbone
from tests.paths import ROOT
from tests.tiny_models import (
    pixel_unet,
    save_pixel_pipeline,
    save_unet,
    stable_diffusion,
    stable_diffusion_xl,
)

CPU = torch.device("cpu")
ORACLE = ROOT.parent / "shared" / "oracle" / "pdm"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind. Tests that change one copy it."""
    root = tmp_path_factory.mktemp("saved")
    stable_diffusion(root).save_pretrained(root / "latent")
    stable_diffusion_xl(root / "xl-words").save_pretrained(root / "xl")
    return {
        "alone": save_unet(root / "alone", pixel_unet()),
        "pixel": save_pixel_pipeline(root / "pixel", pixel_unet()),
        "latent": root / "latent",
        "xl": root / "xl",
    }


@pytest.fixture
def copies(saved: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {kind: shutil.copytree(path, tmp_path / kind) for kind, path in saved.items()}


def load(folder: Path) -> Any:
    return load_backbone(str(folder), device="cpu", dtype="float32")


def failure(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.startswith(f"model {folder}: ")
    assert "\n" not in message
    return message.removeprefix(f"model {folder}: ")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", ["alone", "pixel", "latent", "xl"])
@pytest.mark.slow
def test_every_kind_of_folder_follows_an_object(saved: dict[str, Path], kind: str) -> None:
    session = Propagator(str(saved[kind]), device="cpu", dtype="float32").session()
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (48, 64, 3), np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 8:40] = 3
    assert np.array_equal(session.step(frame, mask).mask, mask)
    followed = session.step(frame)
    assert followed.scores.keys() == {3}
    # The same picture again: the object is where it was, to a cell.
    assert ((followed.mask == 3) == (mask == 3)).mean() > 0.9


def test_a_unet_alone_and_in_a_pipeline_give_the_same_features(saved: dict[str, Path]) -> None:
    frame = torch.rand(1, 3, 32, 32)
    assert torch.equal(load(saved["alone"]).extract(frame), load(saved["pixel"]).extract(frame))


def test_the_prompt_is_embedded_as_diffusers_embeds_it(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = stable_diffusion(tmp_path)
    expected, _ = pipeline.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)
    assert torch.equal(load(saved["latent"])._prompt, expected)


@pytest.mark.parametrize("kind", ["latent", "xl"])
@pytest.mark.slow
def test_only_what_is_needed_of_a_pipeline_is_kept(saved: dict[str, Path], kind: str) -> None:
    def alive() -> int:
        gc.collect()
        unneeded = (CLIPTextModel, CLIPTextModelWithProjection, Decoder)
        return sum(type(thing) in unneeded for thing in gc.get_objects())

    before = alive()
    backbone = load(saved[kind])
    assert alive() == before
    assert backbone.stride == 8


@pytest.mark.skipif(not ORACLE.is_dir(), reason="../shared/oracle/pdm is not here")
def test_a_pipeline_written_by_an_old_diffusers_loads() -> None:
    backbone = load(ORACLE / "pipeline")
    assert (backbone.stride, backbone.channels) == (8, 32)
    assert backbone.extract(torch.rand(1, 3, 480, 856)).shape == (1, 32, 60, 107)


@pytest.mark.parametrize("kind", ["alone", "pixel", "latent"])
def test_a_folder_may_say_what_to_read(copies: dict[str, Path], kind: str) -> None:
    reading = {"block": "down_blocks.0.resnets.0", "timestep": 7, "scale": 0.5}
    (copies[kind] / "reading.json").write_text(json.dumps(reading))
    assert load(copies[kind]).reading == Reading(**reading)
    # What the caller asks for goes first.
    asked = Reading("up_blocks.0.resnets.0", 9)
    assert load_diffusion("asked", str(copies[kind]), CPU, torch.float32, asked).reading == asked


def test_a_finer_level_adds_its_channels_averaged_over_each_cell(copies: dict[str, Path]) -> None:
    coarse = Reading("up_blocks.0.resnets.0", 7)
    fine = Reading("down_blocks.0.resnets.0", 7)
    frames = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))

    def features(reading: Reading) -> torch.Tensor:
        return load_diffusion("read", str(copies["pixel"]), CPU, torch.float32, reading).extract(
            frames
        )

    beside = features(coarse)
    both = features(replace(coarse, finer=fine.block))
    assert torch.equal(both[:, : beside.shape[1]], beside)
    finer = features(fine)
    times = finer.shape[2] // beside.shape[2]
    assert times > 1
    for y in range(beside.shape[2]):
        for x in range(beside.shape[3]):
            cell = finer[0, :, y * times : (y + 1) * times, x * times : (x + 1) * times]
            mean = both[0, beside.shape[1] :, y, x]
            assert torch.allclose(mean, cell.flatten(1).mean(1), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"block": "up_blocks.0", "timestep": 5, "layer": 3}', "(unknown key layer); it needs"),
        ('{"block": "up_blocks.0"}', "timestep"),
        ('{"block": "up_blocks.0", "timestep": "five"}', "(timestep: an integer"),
        ('{"block": "up_blocks.0", "timestep": 5, "noise": "no"}', "(noise: fixed, none, not"),
        ('{"block": "up_blocks.7", "timestep": 5}', "no module 'up_blocks.7'; name another"),
        (
            '{"block": "up_blocks.0", "timestep": 5, "finer": "down"}',
            "no module 'down'; name another",
        ),
        ('{"block": "up_blocks.0", "timestep": 5, "finer": ""}', "(finer: the dotted name"),
        ('{"block": "up_blocks.0", "timestep": 1000}', "timestep 1000 is outside its schedule"),
        ("[1]", "is no JSON object"),
        ("{", "cannot be read (Expecting"),
    ],
)
def test_a_wrong_reading_is_an_error(copies: dict[str, Path], content: str, message: str) -> None:
    (copies["pixel"] / "reading.json").write_text(content)
    assert message in failure(copies["pixel"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["latent", "xl"])
@pytest.mark.parametrize(
    ("force_upcast", "vae_dtype"),
    [(True, torch.float32), (False, torch.bfloat16), (None, torch.bfloat16)],
)
def test_a_vae_is_in_float32_where_its_config_says_so(
    copies: dict[str, Path], kind: str, force_upcast: bool | None, vae_dtype: torch.dtype
) -> None:
    config = copies[kind] / "vae" / "config.json"
    # Without the key: as models older than it were saved. diffusers would take that for a yes.
    settings = json.loads(config.read_text()) | {"force_upcast": force_upcast}
    config.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    vae: Any = AutoencoderKL.from_pretrained(copies[kind] / "vae", torch_dtype=vae_dtype)
    vae = vae.to(memory_format=torch.channels_last)
    frame = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(7))
    picture = (frame * 2 - 1).to(vae_dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        clean = vae.encode(picture).latent_dist.mode().float() * vae.config.scaling_factor

    # Without noise the first layer's output is that of the latents.
    reading = Reading("conv_in", 0, noise="none")
    backbone = load_diffusion("tested", str(copies[kind]), CPU, torch.bfloat16, reading)

    assert backbone.dtype == torch.bfloat16
    with torch.inference_mode():
        noisy = clean.to(torch.bfloat16, memory_format=torch.channels_last)
        expected = backbone._unet.conv_in(noisy).float()  # pyright: ignore[reportCallIssue]
    assert torch.equal(backbone.extract(frame), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alone", "latent", "xl"])
def test_weights_too_large_for_half_precision_are_an_error(
    copies: dict[str, Path], kind: str
) -> None:
    path = copies[kind] / WEIGHTS if kind == "alone" else copies[kind] / "unet" / WEIGHTS
    weights = load_file(path)
    # float32 has room for such numbers, float16 (up to 65504) has not.
    weights["conv_in.weight"] *= 1e7
    save_file(weights, path, metadata={"format": "pt"})
    assert load(copies[kind]).extract(torch.rand(1, 3, 32, 32)).isfinite().all()
    with pytest.raises(ModelError, match=r"not finite in float16; pass dtype=.float32"):
        load_backbone(str(copies[kind]), device="cpu", dtype="float16")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    assert "has neither model_index.json nor config.json; pass a folder" in failure(tmp_path)


def test_a_file_is_no_folder(saved: dict[str, Path]) -> None:
    assert "is a file; pass the folder of the model" in failure(saved["alone"] / WEIGHTS)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("alone", WEIGHTS),
        ("pixel", "unet/config.json"),
        ("pixel", f"unet/{WEIGHTS}"),
        ("pixel", "scheduler/scheduler_config.json"),
        ("latent", "unet/config.json"),
        ("latent", "vae/config.json"),
        ("latent", f"vae/{WEIGHTS}"),
        ("latent", "text_encoder/config.json"),
        ("latent", "text_encoder/model.safetensors"),
        ("latent", "tokenizer/tokenizer.json"),
        ("xl", "text_encoder/model.safetensors"),
        ("xl", "text_encoder_2/config.json"),
        ("xl", "text_encoder_2/model.safetensors"),
        ("xl", "tokenizer_2/tokenizer.json"),
    ],
)
def test_a_missing_file_is_named(copies: dict[str, Path], kind: str, file: str) -> None:
    path = copies[kind] / file
    path.unlink()
    assert f"{path} is missing; compare the folder" in failure(copies[kind])


@pytest.mark.parametrize(
    "part",
    [
        *("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
        *("text_encoder_2", "tokenizer_2"),
    ],
)
def test_a_missing_part_is_named(copies: dict[str, Path], part: str) -> None:
    shutil.rmtree(copies["xl"] / part)
    assert f"{copies['xl'] / part}" in failure(copies["xl"])


@pytest.mark.parametrize(("kind", "folder"), [("alone", "."), ("latent", "vae"), ("xl", "unet")])
def test_weights_that_could_run_code_are_not_read(
    copies: dict[str, Path], kind: str, folder: str
) -> None:
    path = copies[kind] / folder / WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    message = failure(copies[kind])
    assert f"{path} is missing, and diffusion_pytorch_model.bin is not read" in message
    assert "safe_serialization=True" in message


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("alone", "config.json"),
        ("pixel", "model_index.json"),
        ("pixel", "unet/config.json"),
        ("pixel", "scheduler/scheduler_config.json"),
        ("latent", "vae/config.json"),
        ("latent", "text_encoder/config.json"),
        ("latent", "tokenizer/tokenizer.json"),
        ("xl", "tokenizer_2/tokenizer.json"),
        ("alone", WEIGHTS),
        ("pixel", f"unet/{WEIGHTS}"),
        ("latent", f"vae/{WEIGHTS}"),
        ("latent", "text_encoder/model.safetensors"),
        ("xl", "text_encoder_2/model.safetensors"),
    ],
)
def test_a_file_cut_short_is_an_error_that_says_where(
    copies: dict[str, Path], kind: str, file: str
) -> None:
    path = copies[kind] / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    message = failure(copies[kind])
    assert "fetch the model again" in message
    assert str(path) in message or f"its {path.parent.name}" in message or "its U-Net" in message


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("alone", WEIGHTS),
        ("latent", f"unet/{WEIGHTS}"),
        ("latent", f"vae/{WEIGHTS}"),
        ("latent", "text_encoder/model.safetensors"),
        ("xl", "text_encoder_2/model.safetensors"),
    ],
)
def test_a_weight_that_is_not_in_the_file_is_an_error(
    copies: dict[str, Path], kind: str, file: str
) -> None:
    path = copies[kind] / file
    weights = load_file(path)
    left_out = sorted(weights)[0]
    del weights[left_out]
    save_file(weights, path, metadata={"format": "pt"})
    message = failure(copies[kind])
    part = "U-Net" if kind == "alone" else path.parent.name
    assert f"the file of its {part} lacks 1 of its weights" in message
    assert left_out.removeprefix("text_model.") in message


def test_weights_of_another_size_are_an_error(copies: dict[str, Path]) -> None:
    edit_json(copies["alone"] / "config.json", block_out_channels=[8, 8, 16])
    assert "its U-Net in" in failure(copies["alone"])


def test_a_unet_of_another_class_is_an_error(copies: dict[str, Path]) -> None:
    edit_json(copies["alone"] / "config.json", _class_name="UNet1DModel")
    assert failure(copies["alone"]).startswith("it is built around UNet1DModel; pass a UNet2DModel")
    edit_json(copies["pixel"] / "model_index.json", unet=["diffusers", "UNet3DConditionModel"])
    assert failure(copies["pixel"]).startswith("it is built around UNet3DConditionModel; pass")
    edit_json(copies["pixel"] / "model_index.json", unet=None)
    assert failure(copies["pixel"]).startswith("it is built around no U-Net; pass")


def test_a_text_unet_without_its_pipeline_is_an_error(saved: dict[str, Path]) -> None:
    assert "UNet2DConditionModel alone; pass the whole pipeline" in failure(
        saved["latent"] / "unet"
    )


def test_a_text_encoder_of_another_width_is_an_error(tmp_path: Path) -> None:
    stable_diffusion(tmp_path, cross_attention_dim=24).save_pretrained(tmp_path / "model")
    assert "its text encoder gives 16 numbers per token, its U-Net takes 24" in failure(
        tmp_path / "model"
    )


def test_a_tokenizer_with_more_tokens_than_the_text_encoder_is_an_error(
    copies: dict[str, Path],
) -> None:
    path = copies["latent"] / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("token_embedding.weight"))
    weights[name] = weights[name][:1].clone()
    save_file(weights, path, metadata={"format": "pt"})
    edit_json(path.with_name("config.json"), vocab_size=1)
    assert "its tokenizer knows more tokens than its text encoder (1)" in failure(copies["latent"])


def test_a_unet_with_four_channels_is_an_error(tmp_path: Path) -> None:
    unet = pixel_unet(in_channels=4, out_channels=4)
    assert "its U-Net takes 4 channels; pass one that takes RGB (3)" in failure(
        save_unet(tmp_path, unet)
    )


def test_a_unet_that_wants_class_labels_is_an_error(tmp_path: Path) -> None:
    message = failure(save_unet(tmp_path, pixel_unet(num_class_embeds=10)))
    assert "does not run with an image and an empty prompt (class_labels should be" in message


def test_an_inpainting_unet_is_an_error(copies: dict[str, Path], tmp_path: Path) -> None:
    shutil.rmtree(copies["latent"] / "unet")
    unet: Any = UNet2DConditionModel.from_config(
        stable_diffusion(tmp_path).unet.config, in_channels=9
    )
    unet.save_pretrained(copies["latent"] / "unet")
    assert "does not run with an image and an empty prompt" in failure(copies["latent"])


@pytest.mark.parametrize("kind", ["pixel", "latent", "xl"])
def test_loading_writes_nothing_and_leaves_the_libraries_as_they_were(
    copies: dict[str, Path], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    import diffusers
    import transformers

    # A setting from another version: diffusers remarks on it.
    edit_json(copies[kind] / "unet" / "config.json", of_another_version=True)
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    states = [(it.get_verbosity(), it.is_progress_bar_enabled()) for it in libraries]
    capfd.readouterr()
    load(copies[kind])
    assert capfd.readouterr() == ("", "")
    assert states == [(it.get_verbosity(), it.is_progress_bar_enabled()) for it in libraries]
    assert logging.getLogger().level == logging.WARNING
