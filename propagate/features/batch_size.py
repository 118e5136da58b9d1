"""How many frames fit through a backbone at once."""

import torch

from propagate.features.backbone import Backbone

# More gain little: a U-Net at working size keeps a GPU busy with fewer.
MOST_FRAMES = 32
# Of the free memory, for what else comes: the session's own tensors, fragmentation.
LEFT_FREE = 0.2


def choose_batch_size(backbone: Backbone, size: tuple[int, int]) -> int:
    """How many frames of a working size the device's memory has room for.

    Where it does not say how much is free, and on a CPU, where a batch is no faster than its
    frames: 1.

    Args:
        backbone: Run once, on a grey frame, to see what one takes.
        size: (H, W) in pixels, multiples of `backbone.multiple`.

    Raises:
        ModelError: The features are not finite.
    """
    device = backbone.device
    if device.type != "cuda":
        return 1
    grey = torch.full((1, 3, *size), 0.5, device=device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        backbone.extract(grey)
    except torch.OutOfMemoryError:
        # Who extracts features says so, with the frame's size.
        return 1
    per_frame = torch.cuda.max_memory_allocated(device) - before + grey.nbytes
    # What PyTorch keeps for its next tensors counts as taken, and is free.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, _ = torch.cuda.mem_get_info(device)
    return frames_that_fit(free + kept, per_frame)


def frames_that_fit(free: int, per_frame: int) -> int:
    """The largest batch, of 1 to `MOST_FRAMES`, that leaves `LEFT_FREE` of the memory free.

    Args:
        free: Memory that can be had, in bytes.
        per_frame: What one frame takes, in bytes.
    """
    fits = int((1 - LEFT_FREE) * free // per_frame)
    return min(max(fits, 1), MOST_FRAMES)
