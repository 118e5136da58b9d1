"""The batch size: how many frames a backbone can take at once."""

import torch

from propagate.features.backbone import Backbone

# Larger batches gain little: at working size, fewer frames already keep a GPU busy.
MOST_FRAMES = 32
# Share of the free memory kept for the tensors of the session and for fragmentation.
LEFT_FREE = 0.2


def choose_batch_size(backbone: Backbone, size: tuple[int, int]) -> int:
    """Choose how many frames of a working size fit into the device's memory.

    1 unless the device is a GPU with CUDA: on a CPU a batch is no faster than single frames, and
    other devices do not report their free memory.

    Args:
        backbone: It is run once, on a grey frame, to measure the memory of one frame.
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
        # `extract_features` reports this with the size of the frame.
        return 1
    per_frame = torch.cuda.max_memory_allocated(device) - before + grey.nbytes
    # Memory that PyTorch keeps for later tensors is free, although the device counts it as used.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, _ = torch.cuda.mem_get_info(device)
    return frames_that_fit(free + kept, per_frame)


def frames_that_fit(free: int, per_frame: int) -> int:
    """Return the largest batch of 1 to `MOST_FRAMES` that leaves `LEFT_FREE` of the memory free.

    Args:
        free: Free memory in bytes.
        per_frame: Memory of one frame in bytes.
    """
    fits = int((1 - LEFT_FREE) * free // per_frame)
    return min(max(fits, 1), MOST_FRAMES)
