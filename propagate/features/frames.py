"""From frames of any size to features: the working size, and batches that fit the device."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from propagate.config import Config
from propagate.errors import DeviceError
from propagate.features import Backbone
from propagate.features.pixels import COLOR_CHANNELS, cell_colors
from propagate.records import Frame

log = logging.getLogger(__name__)

Image = Frame | np.ndarray | torch.Tensor


def extract_features(backbone: Backbone, config: Config, frames: Sequence[Image]) -> torch.Tensor:
    """Compute the features of frames of one size: (B, C, h, w), colours last if they are wanted.

    A batch that does not fit into the device's memory is halved until it does.

    Args:
        backbone: Where features come from.
        config: The size at which they are read, and whether colours are.
        frames: (H, W, 3) uint8 RGB each, numpy, torch or `Frame`, all of one size.

    Raises:
        DeviceError: Not even one frame fits.
    """
    height, width = frame_pixels(frames[0]).shape[:2]
    size = working_size(height, width, config, backbone.multiple)
    # Resized one by one: a batch of large frames in float32 would be most of the memory used.
    images = torch.cat([_resized(frame, size, backbone.device) for frame in frames])
    features = _extract(backbone, images)
    if config.matcher.color_weight:
        rows, columns = features.shape[2:]
        features = torch.cat([features, cell_colors(images, (rows, columns))], dim=1)
    return features


def channel_count(backbone: Backbone, config: Config) -> int:
    """How many channels `extract_features` gives."""
    return backbone.channels + (COLOR_CHANNELS if config.matcher.color_weight else 0)


def _resized(frame: Image, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """The frame at working size: (1, 3, H, W) float32 in 0..1."""
    image = frame_pixels(frame).to(device).permute(2, 0, 1)[None].float().div_(255)
    if image.shape[2:] != size:
        image = F.interpolate(image, size, mode="bilinear", antialias=True)
    return image


def _extract(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    try:
        return backbone.extract(images)
    except torch.OutOfMemoryError as error:
        if len(images) == 1:
            raise DeviceError(
                f"one frame of {images.shape[3]}x{images.shape[2]} does not fit into the memory of "
                f"{backbone.device}: use a smaller model or --device cpu"
            ) from error
    # Outside the handler: the failed attempt's tensors live as long as its exception.
    half = (len(images) + 1) // 2
    log.warning("out of memory with %d frames at once; going on with %d", len(images), half)
    return torch.cat([_extract(backbone, part) for part in images.split(half)])


def working_size(height: int, width: int, config: Config, multiple: int) -> tuple[int, int]:
    """The size at which a frame's features are read: (H, W), multiples of `multiple`.

    The short side comes to about `config.short_side_px`, the long one keeps the aspect ratio up to
    `config.max_aspect`. Both are rounded, so that cells tile the frame exactly, without padding.
    """
    short = min(height, width)

    def scaled(side: int) -> int:
        wanted = config.short_side_px * min(side / short, config.max_aspect)
        return multiple * max(1, round(wanted / multiple))

    return scaled(height), scaled(width)


def frame_pixels(frame: Image) -> torch.Tensor:
    """The frame as a (H, W, 3) uint8 tensor.

    Raises:
        ValueError: It is no such array.
    """
    if isinstance(frame, Frame):
        frame = frame.image
    pixels = (
        torch.from_numpy(np.ascontiguousarray(frame)) if isinstance(frame, np.ndarray) else frame
    )
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != torch.uint8:
        raise ValueError(f"frame: (H, W, 3) uint8 RGB, not {tuple(pixels.shape)} {pixels.dtype}")
    return pixels
