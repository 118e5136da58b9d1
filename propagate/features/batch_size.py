"""The batch size: how many frames a backbone can take at once."""

from contextlib import suppress
from weakref import WeakKeyDictionary

import torch

from propagate.features.backbone import Backbone

# Larger batches gain little: at working size, fewer frames already keep a GPU busy.
MOST_FRAMES = 32
# Share of the free memory kept for the tensors of the session and for fragmentation.
LEFT_FREE = 0.2
# Of a GPU's memory, what several processes divide among them. The rest is for CUDA itself, which
# keeps some memory for each process.
DIVIDED = 0.95

# Pixels that each backbone takes at once, where more did not fit.
_most_pixels: WeakKeyDictionary[Backbone, int] = WeakKeyDictionary()
# The share of each device that this process may use, where it is less than all.
_shares: dict[torch.device, float] = {}


def batches_matter(device: torch.device) -> bool:
    """Whether features depend on the batch size: by rounding on a GPU, not at all on a CPU."""
    return device.type != "cpu"


def share_memory(device: torch.device, processes: int) -> None:
    """Let this process use its part of a GPU's memory, and no more.

    A process that takes what is free would leave nothing to those that start after it.

    Args:
        device: The device; nothing is done unless it is a GPU with CUDA.
        processes: How many use it at the same time, this one included.
    """
    if device.type == "cuda" and processes > 1:
        _shares[device] = DIVIDED / processes
        torch.cuda.set_per_process_memory_fraction(_shares[device], device)


def choose_batch_size(backbone: Backbone, size: tuple[int, int]) -> int:
    """Choose how many frames of a working size fit into this process's part of the memory.

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
    allocated = torch.cuda.memory_allocated(device)
    # Memory that PyTorch keeps for later tensors is free, although the device counts it as used.
    kept = torch.cuda.memory_reserved(device) - allocated
    free, total = torch.cuda.mem_get_info(device)
    fits = frames_that_fit(
        free_memory(free + kept, total, allocated, _shares.get(device, 1.0)), per_frame
    )
    return min(fits, frames_at_once(backbone, size) or fits)


def free_memory(free: int, total: int, allocated: int, share: float) -> int:
    """Return the bytes that a process may still use: what is free, within its share of all.

    Args:
        free: Of the device, with what this process keeps for later.
        total: Of the device.
        allocated: By this process.
        share: Of the total, for this process.
    """
    return max(0, min(free, int(share * total) - allocated))


def frames_that_fit(free: int, per_frame: int) -> int:
    """Return the largest batch of 1 to `MOST_FRAMES` that leaves `LEFT_FREE` of the memory free.

    Args:
        free: Free memory in bytes.
        per_frame: Memory of one frame in bytes.
    """
    fits = int((1 - LEFT_FREE) * free // per_frame)
    return min(max(fits, 1), MOST_FRAMES)


def remember_batch(backbone: Backbone, frames: int, size: tuple[int, int]) -> None:
    """Remember that more than this many frames of a size did not fit, as long as the model lives.

    Args:
        backbone: The model.
        frames: How many are computed at once from now on.
        size: (H, W) in pixels; the limit holds for other sizes by their number of pixels.
    """
    known, pixels = most_pixels(backbone), frames * size[0] * size[1]
    # An object that cannot be a key is not remembered, and finds its limit each time.
    with suppress(TypeError):
        _most_pixels[backbone] = pixels if known is None else min(known, pixels)


def frames_at_once(backbone: Backbone, size: tuple[int, int]) -> int | None:
    """Return how many frames of a size fit at once, if it is known that more do not."""
    pixels = most_pixels(backbone)
    return None if pixels is None else max(1, pixels // (size[0] * size[1]))


def most_pixels(backbone: Backbone) -> int | None:
    """Return the pixels that a model takes at once, if it is known that more do not fit."""
    with suppress(TypeError):
        return _most_pixels.get(backbone)
    return None
