"""Fold computations that are the same for every frame into a U-Net's weights.

Both changes are exact up to rounding. They save an eighth of the time of `tiny` on a CPU.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D


@torch.no_grad()
def fold_constants(unet: UNet2DModel, timestep: int, read: Collection[str]) -> None:
    """Fold the constants of one timestep into a pixel-space U-Net, in place.

    Args:
        unet: The network. Afterwards its output is wrong at any other timestep.
        timestep: The only timestep at which it will run.
        read: Dotted names of the modules that are read. The blocks around them stay unchanged.
    """
    device = next(unet.parameters()).device
    embedded = unet.time_proj(torch.tensor([timestep], device=device)).to(unet.dtype)
    embedding = unet.time_embedding(embedded)  # (1, D)
    for name, module in list(unet.named_modules()):
        if any(inner.startswith(f"{name}.") for inner in read):
            continue
        if isinstance(module, ResnetBlock2D) and _is_plain_block(module):
            unet.set_submodule(name, _BlockAtTimestep(module, embedding))
        elif isinstance(module, Upsample2D) and _is_plain_enlargement(module):
            unet.set_submodule(name, _Enlarged(module))


def _is_plain_block(block: ResnetBlock2D) -> bool:
    return (
        isinstance(block.nonlinearity, torch.nn.SiLU)
        and block.time_emb_proj is not None
        and block.time_embedding_norm == "default"
        and not block.skip_time_act
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1
    )


class _BlockAtTimestep(torch.nn.Module):
    """A residual block with the embedding of its timestep in the bias of its first convolution."""

    def __init__(self, block: ResnetBlock2D, embedding: torch.Tensor) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut
        assert block.time_emb_proj is not None  # see `_is_plain_block`
        shift = block.time_emb_proj(F.silu(embedding))[0]
        self.conv1.bias = torch.nn.Parameter(self.conv1.bias + shift, requires_grad=False)

    def forward(self, cells: torch.Tensor, _embedding: torch.Tensor) -> torch.Tensor:
        # In place where no other code uses the tensor, to save passes over memory.
        changed = self.conv1(F.silu(self.norm1(cells), inplace=True))
        changed = self.conv2(F.silu(self.norm2(changed), inplace=True))
        return changed.add_(cells if self.conv_shortcut is None else self.conv_shortcut(cells))


def _is_plain_enlargement(module: Upsample2D) -> bool:
    conv = module.conv if module.name == "conv" else None
    return (
        module.norm is None
        and module.interpolate
        and not module.use_conv_transpose
        and isinstance(conv, torch.nn.Conv2d)
        and conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and conv.groups == 1
        and conv.bias is not None
    )


class _Enlarged(torch.nn.Module):
    """Enlargement by two and a 3 x 3 convolution, computed as 2 x 2 convolutions before enlarging.

    After nearest-neighbour enlargement, two of the three rows under the kernel are copies of one
    row, so their weights can be added up. Which two depends on whether the pixel's row is even or
    odd. The same holds for columns. This gives four kernels and 4/9 of the FLOPs.
    """

    def __init__(self, module: Upsample2D) -> None:
        super().__init__()
        conv = module.conv
        assert isinstance(conv, torch.nn.Conv2d)  # see `_is_plain_enlargement`
        assert conv.bias is not None
        # Sums in half precision would lose accuracy.
        precise = conv.weight.to(torch.promote_types(conv.weight.dtype, torch.float32))
        kernels = [
            columns
            for rows in _for_even_and_odd(precise, 2)
            for columns in _for_even_and_odd(rows, 3)
        ]
        weight = torch.cat(kernels).to(conv.weight)  # (4 O, I, 2, 2)
        self.weight = torch.nn.Parameter(
            weight.contiguous(memory_format=torch.channels_last), requires_grad=False
        )
        self.bias = torch.nn.Parameter(conv.bias.repeat(4), requires_grad=False)

    def forward(self, cells: torch.Tensor, output_size: tuple[int, int] | None = None):
        batch, _, height, width = cells.shape
        if output_size not in (None, (2 * height, 2 * width)):
            raise ValueError(f"output_size: twice {height} x {width}, not {output_size}")
        # (h + 1) x (w + 1) squares of 2 x 2 cells, including padding at the border.
        squares = F.conv2d(cells, self.weight, self.bias, padding=1)
        large = cells.new_empty((batch, squares.shape[1] // 4, 2 * height, 2 * width)).contiguous(
            memory_format=torch.channels_last
        )
        for number, kernel in enumerate(squares.chunk(4, dim=1)):
            top, left = divmod(number, 2)
            large[..., top::2, left::2] = kernel[..., top : top + height, left : left + width]
        return large


def _for_even_and_odd(weight: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up the three rows (or columns) of a kernel to two, for even and for odd pixels."""
    before, own, after = weight.unbind(dim)
    even = torch.stack([before, own + after], dim)
    odd = torch.stack([before + own, after], dim)
    return even, odd
