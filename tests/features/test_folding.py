"""A U-Net with its constants folded in computes what it did before, with fewer operations."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from propagate.features.folding import fold_constants
from tests.tiny_models import pixel_unet

TIMESTEP = 30


def unet_of(**settings: Any) -> UNet2DModel:
    """In double precision, so that only a wrong formula can differ by more than 1e-9."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "add_attention": False,
    }
    unet = UNet2DModel(sample_size=16, **shape | settings).double().eval()
    rng = torch.Generator().manual_seed(3)
    for name, weight in unet.named_parameters():
        if "norm" in name or name.endswith("bias"):  # these begin as ones and zeros
            weight.data += torch.rand(weight.shape, generator=rng, dtype=weight.dtype)
    return unet


@torch.inference_mode()
def run(unet: UNet2DModel, timestep: int = TIMESTEP) -> torch.Tensor:
    rng = torch.Generator().manual_seed(5)
    frames = torch.randn(2, 3, 24, 40, generator=rng, dtype=torch.float64)
    return unet(frames, timestep).sample  # pyright: ignore


def names_of(unet: torch.nn.Module, kind: type[torch.nn.Module]) -> list[str]:
    return [name for name, module in unet.named_modules() if isinstance(module, kind)]


@pytest.mark.parametrize("attention", [False, True])
def test_a_folded_network_computes_the_same(attention: bool) -> None:
    unet = unet_of(add_attention=attention, attention_head_dim=4)
    expected = run(unet)
    fold_constants(unet, TIMESTEP, ["conv_out"])
    assert not names_of(unet, ResnetBlock2D)
    assert not names_of(unet, Upsample2D)
    torch.testing.assert_close(run(unet), expected, rtol=0, atol=1e-9)
    # It is folded for one timestep: were nothing of it in the weights, another would change much.
    assert torch.equal(run(unet, 900), run(unet))


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 4)])
def test_an_enlargement_is_four_small_kernels_on_the_small_grid(size: tuple[int, int]) -> None:
    unet = pixel_unet()
    plain: Any = unet.get_submodule("up_blocks.0.upsamplers.0")
    fold_constants(unet, TIMESTEP, [])
    folded: Any = unet.get_submodule("up_blocks.0.upsamplers.0")
    # 4 x 2 x 2 for each small cell, where the plain one has 4 x 3 x 3.
    assert folded.weight.numel() / plain.conv.weight.numel() == 16 / 9
    cells = torch.rand(2, 8, *size, generator=torch.Generator().manual_seed(1))
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = cells.contiguous(memory_format=layout)
        torch.testing.assert_close(folded(laid_out), plain(laid_out), rtol=0, atol=1e-6)


def test_an_enlargement_to_another_size_is_refused() -> None:
    unet = pixel_unet()
    fold_constants(unet, TIMESTEP, [])
    enlarged = unet.get_submodule("up_blocks.0.upsamplers.0")
    cells = torch.rand(1, 8, 5, 7)
    assert enlarged(cells, (10, 14)).shape == (1, 8, 10, 14)
    with pytest.raises(ValueError, match=r"twice 5 x 7, not \(9, 14\)"):
        enlarged(cells, (9, 14))


def test_what_lies_around_a_module_that_is_read_stays() -> None:
    unet = unet_of()
    block, inside = "up_blocks.1.resnets.1", "down_blocks.0.resnets.0.conv1"
    expected = run(unet)
    fold_constants(unet, TIMESTEP, [block, inside])
    assert names_of(unet, ResnetBlock2D) == ["down_blocks.0.resnets.0"]
    torch.testing.assert_close(run(unet), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "staying"),
    [
        ({"resnet_time_scale_shift": "scale_shift"}, 8),
        ({"act_fn": "gelu"}, 8),
        ({"up_block_types": ("ResnetUpsampleBlock2D", "UpBlock2D")}, 1),
        ({"down_block_types": ("ResnetDownsampleBlock2D", "DownBlock2D")}, 1),
        ({"mid_block_scale_factor": 2.0, "block_out_channels": (8, 8)}, 2),
    ],
)
def test_blocks_of_other_kinds_stay_and_the_network_computes_the_same(
    settings: dict[str, Any], staying: int
) -> None:
    unet = unet_of(**settings)
    expected = run(unet)
    fold_constants(unet, TIMESTEP, ["conv_out"])
    assert len(names_of(unet, ResnetBlock2D)) == staying
    torch.testing.assert_close(run(unet), expected, rtol=0, atol=1e-9)
