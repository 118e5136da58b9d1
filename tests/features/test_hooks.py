"""Several modules read out of one forward that stops at the last of them."""

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from propagate.features.hooks import outputs_of
from tests.tiny_models import PROMPT_TOKENS, TEXT_WIDTH, stable_diffusion

BLOCK = "up_blocks.2.attentions.0.transformer_blocks.0"
NAMES = [f"{BLOCK}.{tail}" for tail in ("attn1.to_q", "attn1.to_k", "attn2.to_q", "attn2.to_k")]


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    return stable_diffusion(tmp_path_factory.mktemp("attention")).unet


def run(unet: torch.nn.Module) -> torch.Tensor:
    rng = torch.Generator().manual_seed(5)
    noisy = torch.randn(2, 4, 12, 20, generator=rng)
    text = torch.randn(2, PROMPT_TOKENS, TEXT_WIDTH, generator=rng)
    with torch.inference_mode():
        return unet(noisy, 51, encoder_hidden_states=text).sample


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], NAMES[1:2]])
def test_outputs_are_bit_for_bit_those_of_a_full_forward(
    unet: torch.nn.Module, names: list[str]
) -> None:
    expected = {}
    hooks = [
        unet.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: expected.update({name: output})
        )
        for name in names
    ]
    run(unet)
    for hook in hooks:
        hook.remove()

    outputs = outputs_of(unet, names, lambda: run(unet))

    assert outputs.keys() == set(names)
    for name in names:
        assert torch.equal(outputs[name], expected[name])


def test_nothing_runs_after_the_last_of_the_modules(unet: torch.nn.Module) -> None:
    finished: list[torch.nn.Module] = []
    hook = register_module_forward_hook(lambda module, *_: finished.append(module))
    try:
        outputs_of(unet, NAMES[:2], lambda: run(unet))
    finally:
        hook.remove()
    assert finished[-1] is unet.get_submodule(NAMES[1])
    assert unet.get_submodule(NAMES[0]) in finished
    for later in (f"{BLOCK}.attn1.to_v", f"{BLOCK}.attn1", BLOCK, "conv_out"):
        assert unet.get_submodule(later) not in finished


def test_the_network_afterwards_runs_to_its_end(unet: torch.nn.Module) -> None:
    whole = run(unet)
    outputs_of(unet, NAMES[:1], lambda: run(unet))
    assert torch.equal(run(unet), whole)
    with pytest.raises(RuntimeError, match="mat1"):  # a forward that breaks off leaves no hook
        outputs_of(unet, NAMES[:1], lambda: unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 8, 3)))
    assert torch.equal(run(unet), whole)


def test_a_module_that_never_runs_is_left_out(unet: torch.nn.Module) -> None:
    # A list of modules has no forward of its own.
    outputs = outputs_of(unet, ["up_blocks", "conv_in"], lambda: run(unet))
    assert outputs.keys() == {"conv_in"}


def test_a_module_that_is_not_there_is_an_error(unet: torch.nn.Module) -> None:
    with pytest.raises(AttributeError):
        outputs_of(unet, ["up_blocks.9"], lambda: run(unet))
