"""Compile a U-Net block by block, so that its modules can still be read and it can stop early."""

from collections.abc import Collection

import torch

# A U-Net spends most of its time in these.
COMPILED = ("BasicTransformerBlock", "ResnetBlock2D")
# PyTorch limits recompilations per class, and a full-size U-Net has blocks of a dozen widths.
VARIANTS = 64


def compile_blocks(unet: torch.nn.Module, read: Collection[str]) -> None:
    """Let the blocks of a U-Net be compiled on their first run, in place.

    The U-Net is not compiled as a whole: a forward that a hook leaves by an exception cannot be
    compiled, and hooks on modules inside compiled code are not called.

    Args:
        unet: The network.
        read: Dotted names of the modules that are read. They and the blocks around them stay
            unchanged.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    for name, module in unet.named_modules():
        is_read = any(f"{inner}.".startswith(f"{name}.") for inner in read)
        if type(module).__name__ in COMPILED and not is_read:
            module.forward = torch.compile(module.forward)


def is_compiler_error(error: BaseException) -> bool:
    """Return whether an exception comes from the compiler, not from the compiled code."""
    # This import takes a second and is needed only after a failure.
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
