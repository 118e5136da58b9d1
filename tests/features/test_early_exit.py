"""A forward that stops early: the same tensors as a whole one, and nothing computed beyond them."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import Decoder
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_module_registration_hook,
)
from transformers import CLIPTextModel
from transformers.models.clip.modeling_clip import CLIPTextEmbeddings

from propagate.features.hooks import outputs_of, project_prompt_once
from propagate.features.networks import UNetPart
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import CROSS_QUERIES, MODULES, Reading, attention_in, find_block
from propagate.features.recipes import RECIPES
from propagate.features.unet import DiffusionBackbone
from tests.tiny_models import TEXT_WIDTH, pixel_unet, stable_diffusion

CPU = torch.device("cpu")
ENCODED_TOKENS = 5


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    stable_diffusion(folder, levels=4).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def text_unet(latent_folder: Path) -> tuple[torch.nn.Module, Callable[[], Any]]:
    """A tiny U-Net of Stable Diffusion's four levels, and a forward of it."""
    unet = UNet2DConditionModel.from_pretrained(latent_folder / "unet")
    noisy, text = drawn(1, 4, 16, 24), drawn(1, ENCODED_TOKENS, TEXT_WIDTH)
    return unet, partial(unet, noisy, torch.tensor([51]), encoder_hidden_states=text)


@pytest.fixture(scope="module")
def plain_unet() -> tuple[torch.nn.Module, Callable[[], Any]]:
    unet = pixel_unet(attention=True)
    return unet, partial(unet, drawn(1, 3, 16, 24), torch.tensor([20]))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def modules_of(recipe: str, unet: torch.nn.Module, semantic: bool) -> list[str]:
    """What a recipe reads, with PDM's semantic features or without."""
    reading = RECIPES[recipe].reading
    block = find_block(unet, reading.block)
    tails = [".".join(filter(None, (block, tail))) for tail in MODULES[reading.tensor]]
    return [*tails, f"{attention_in(unet, block)}.{CROSS_QUERIES}"] if semantic else tails


@torch.inference_mode()
def whole_forward(
    unet: torch.nn.Module, forward: Callable[[], Any]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Every module's output, and the modules in the order in which they end."""
    names = {module: name for name, module in unet.named_modules()}
    outputs: dict[str, torch.Tensor] = {}

    def keep(module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        outputs[names[module]] = output[0] if isinstance(output, tuple) else output

    handle = register_module_forward_hook(keep)
    try:
        forward()
    finally:
        handle.remove()
    return outputs, list(outputs)


@torch.inference_mode()
def early_forward(
    unet: torch.nn.Module, names: list[str], forward: Callable[[], Any]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    known = {module: name for name, module in unet.named_modules()}
    ended: list[str] = []
    handle = register_module_forward_hook(lambda module, *_: ended.append(known[module]))
    try:
        return outputs_of(unet, names, forward), ended
    finally:
        handle.remove()


def assert_stops_early_without_a_change(
    unet: torch.nn.Module, names: list[str], forward: Callable[[], Any]
) -> None:
    expected, order = whole_forward(unet, forward)
    found, ended = early_forward(unet, names, forward)
    assert found.keys() == set(names)
    for name in names:
        assert torch.equal(found[name], expected[name]), name
    # A module may run several times, as activations do: it counts when it ends first.
    last = max(order.index(name) for name in names)
    first_ends = list(dict.fromkeys(ended))
    assert first_ends == order[: last + 1]
    assert len(first_ends) < len(order)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("semantic", [False, True])
def test_what_a_recipe_reads_is_bit_for_bit_that_of_a_whole_forward(
    text_unet: tuple[torch.nn.Module, Callable[[], Any]], recipe: str, semantic: bool
) -> None:
    unet, forward = text_unet
    assert_stops_early_without_a_change(unet, modules_of(recipe, unet, semantic), forward)


@pytest.mark.parametrize(
    "names",
    [
        ["up_blocks.0.resnets.1"],
        ["up_blocks.1"],
        ["mid_block.attentions.0.to_q", "mid_block.attentions.0.to_k"],
        ["up_blocks.1.attentions.0.to_k", "down_blocks.0.resnets.0"],
    ],
)
def test_modules_of_a_pixel_unet_are_bit_for_bit_those_of_a_whole_forward(
    plain_unet: tuple[torch.nn.Module, Callable[[], Any]], names: list[str]
) -> None:
    assert_stops_early_without_a_change(plain_unet[0], names, plain_unet[1])


# The module after which each recipe stops, in Stable Diffusion's four levels: written down here,
# so that a recipe that starts to compute more is seen.
STOPS = {
    "default": "up_blocks.2",
    "dift": "up_blocks.2",
    "dift-semantic": "up_blocks.1",
    "paper": "up_blocks.3.attentions.0.transformer_blocks.0.attn1.to_k",
    "official": "up_blocks.3.attentions.1.transformer_blocks.0.attn1.to_k",
}


def test_every_recipe_is_looked_at() -> None:
    assert STOPS.keys() == RECIPES.keys()


@pytest.mark.parametrize("recipe", STOPS)
def test_an_extraction_ends_with_the_last_module_that_is_read(
    latent_folder: Path, recipe: str
) -> None:
    # An inversion's forwards run to the end; the one that is read comes last, and without them.
    backbone = load(latent_folder, replace(RECIPES[recipe].reading, inversion=None))
    ended: list[torch.nn.Module] = []
    handle = register_module_forward_hook(lambda module, *_: ended.append(module))
    try:
        backbone.extract(torch.rand(1, 3, 64, 64))
    finally:
        handle.remove()
    inside = [module for module in ended if not isinstance(module, UNetPart)]
    assert inside[-1] is backbone._unet.get_submodule(STOPS[recipe])


@pytest.mark.slow
def test_decoder_and_text_encoder_are_not_kept(latent_folder: Path) -> None:
    made: list[weakref.ref[torch.nn.Module]] = []

    def note(_parent: torch.nn.Module, _name: str, child: torch.nn.Module | None) -> None:
        if isinstance(child, Decoder | CLIPTextEmbeddings):
            made.append(weakref.ref(child))

    handle = register_module_module_registration_hook(note)
    try:
        backbone = load(latent_folder)
    finally:
        handle.remove()
    gc.collect()
    assert len(made) == 2
    assert [ref() for ref in made] == [None, None]
    backbone.extract(torch.rand(1, 3, 64, 64))


def test_the_text_is_encoded_once_however_many_frames_follow(latent_folder: Path) -> None:
    encoded: list[torch.nn.Module] = []

    def count(module: torch.nn.Module, *_: Any) -> None:
        if isinstance(module, CLIPTextModel):
            encoded.append(module)

    handle = register_module_forward_hook(count)
    try:
        backbone = load(latent_folder)
        for _ in range(3):
            backbone.extract(torch.rand(2, 3, 64, 64))
    finally:
        handle.remove()
    assert len(encoded) == 1


def load(folder: Path, reading: Reading | None = None) -> DiffusionBackbone:
    return load_diffusion("tested", str(folder), CPU, torch.float32, reading)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_prompt_is_projected_to_is_computed_once_and_changes_no_value(
    latent_folder: Path, dtype: torch.dtype
) -> None:
    unet: Any = UNet2DConditionModel.from_pretrained(latent_folder / "unet", torch_dtype=dtype)
    text, noisy = drawn(1, ENCODED_TOKENS, TEXT_WIDTH).to(dtype), drawn(3, 4, 16, 24).to(dtype)

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        told = text.expand(len(noisy), -1, -1)
        return unet(noisy, torch.tensor([51]), encoder_hidden_states=told).sample

    before = forward()
    weights = sum(parameter.numel() for parameter in unet.parameters())
    project_prompt_once(unet, text)
    # Down 3, in the middle 1, up 6 attentions, of 8 channels; the keys and values of each.
    assert weights - sum(p.numel() for p in unet.parameters()) == 10 * 2 * TEXT_WIDTH * 8
    assert torch.equal(forward(), before)
