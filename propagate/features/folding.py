"""What is the same for every frame, folded into a U-Net's weights; what is left is less to compute.

Both changes are exact but for rounding. Of `tiny`'s time on a CPU they save an eighth.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D


@torch.no_grad()
def fold_constants(unet: UNet2DModel, timestep: int, read: Collection[str]) -> None:
    """Make a U-Net on pixels compute less, in place, for one timestep and for reading only.

    Args:
        unet: The network. At other timesteps it is wrong from now on.
        timestep: At which it will be run.
        read: Dotted names of modules that are read. The blocks around them stay as they are.
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
    """A residual block whose first convolution adds what the timestep has to say."""

    def __init__(self, block: ResnetBlock2D, embedding: torch.Tensor) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut
        assert block.time_emb_proj is not None  # see `_is_plain_block`
        said = block.time_emb_proj(F.silu(embedding))[0]
        self.conv1.bias = torch.nn.Parameter(self.conv1.bias + said, requires_grad=False)

    def forward(self, cells: torch.Tensor, _embedding: torch.Tensor) -> torch.Tensor:
        # In place where nobody else holds the tensor: each pass over memory counts.
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
    """Nearest-neighbour enlargement by two and a 3 x 3 convolution, as one of 2 x 2 before it.

    Of the three rows that a pixel of the enlarged picture sees, two are copies of one: the kernel's
    rows for these are added up. Which ones depends on whether the pixel's own row is even or odd,
    and so for columns: four kernels, 4/9 of the FLOPs.
    """

    def __init__(self, module: Upsample2D) -> None:
        super().__init__()
        conv = module.conv
        assert isinstance(conv, torch.nn.Conv2d)  # see `_is_plain_enlargement`
        assert conv.bias is not None
        # Added up in half precision, weights would lose some of it.
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
        # Each of (h + 1) x (w + 1) squares of 2 x 2 cells, padded ones at the border included.
        squares = F.conv2d(cells, self.weight, self.bias, padding=1)
        large = cells.new_empty((batch, squares.shape[1] // 4, 2 * height, 2 * width)).contiguous(
            memory_format=torch.channels_last
        )
        for number, kernel in enumerate(squares.chunk(4, dim=1)):
            top, left = divmod(number, 2)
            large[..., top::2, left::2] = kernel[..., top : top + height, left : left + width]
        return large


def _for_even_and_odd(weight: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shrink three rows (or columns) of a kernel to the two that even and odd pixels see."""
    before, own, after = weight.unbind(dim)
    even = torch.stack([before, own + after], dim)
    odd = torch.stack([before + own, after], dim)
    return even, odd
