"""A U-Net's blocks compiled one by one, so that it can still be read and left early."""

from collections.abc import Collection

import torch

# Where a U-Net spends its time.
COMPILED = ("BasicTransformerBlock", "ResnetBlock2D")
# Compiled code is kept by class: a full-size U-Net has blocks of a dozen widths in each.
VARIANTS = 64


def compile_blocks(unet: torch.nn.Module, read: Collection[str]) -> None:
    """Have the blocks of a U-Net compiled when they run first, in place.

    Not the U-Net as a whole: a forward that is left by an exception, in a hook, cannot be compiled.
    A hook on a module inside compiled code is not called.

    Args:
        unet: The network.
        read: Dotted names of modules that are read. They, and the blocks around them, stay as they
            are.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    for name, module in unet.named_modules():
        is_read = any(f"{inner}.".startswith(f"{name}.") for inner in read)
        if type(module).__name__ in COMPILED and not is_read:
            module.forward = torch.compile(module.forward)


def is_compiler_error(error: BaseException) -> bool:
    """Whether an exception comes from compiling rather than from what was compiled."""
    # Imported here: it takes a second, and is needed only where something failed.
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
