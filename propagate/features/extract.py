"""Features of frames of any size: the working size, the channels, the batch that fits."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import cast

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from propagate.config import Config
from propagate.errors import DeviceError, is_out_of_memory
from propagate.features.backbone import Backbone, SemanticBackbone
from propagate.features.batch_size import frames_at_once, remember_batch
from propagate.features.colors import COLOR_CHANNELS, cell_colors
from propagate.features.fork import refuse_fork
from propagate.io.decode.image_folder import FOLDER_FPS
from propagate.records import Frame

log = logging.getLogger(__name__)

Image = Frame | np.ndarray | torch.Tensor | PIL.Image.Image


def extract_features(backbone: Backbone, config: Config, frames: Sequence[Image]) -> torch.Tensor:
    """Compute the features that a session matches: (B, C, h, w).

    The channels are those of the backbone, then one semantic map for each of
    `config.named_classes` (PDM, eq. 6), then colours if the matcher uses them.

    A batch that does not fit into the device's memory is halved until it does. The model remembers
    how many fit, so that the next batch is divided at once.

    Args:
        backbone: Computes the features.
        config: The working size, the named classes, and whether colours are added.
        frames: (H, W, 3) uint8 RGB each, numpy, torch or `Frame`, all of one size.

    Raises:
        DeviceError: A single frame does not fit.
        ModelError: The process was forked after a model was used.
    """
    refuse_fork(backbone.name)
    height, width = frame_pixels(frames[0]).shape[:2]
    size = working_size(height, width, config, backbone.multiple)
    try:
        return _at_size(backbone, config, frames, size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"a frame of {size[1]}x{size[0]} does not fit into memory",
            "choose a smaller {short_side_px}",
        ) from error


def _at_size(
    backbone: Backbone, config: Config, frames: Sequence[Image], size: tuple[int, int]
) -> torch.Tensor:
    # Resize one by one, because a float32 batch of full-size frames would fill the memory.
    images = torch.cat([_resized(frame, size, backbone.device) for frame in frames])
    extract = backbone.extract
    if config.class_names:
        # With class names, `load_backbone` always returns a SemanticBackbone.
        named = cast(SemanticBackbone, backbone)
        extract = partial(_extract_with_maps, named, config.named_classes)
    features = _extract(backbone, extract, images)
    if config.matcher.cells.color_weight:
        rows, columns = features.shape[2:]
        features = torch.cat([features, cell_colors(images, (rows, columns))], dim=1)
    return features


def _extract_with_maps(
    backbone: SemanticBackbone, names: Sequence[str], images: torch.Tensor
) -> torch.Tensor:
    appearance, semantic = backbone.extract_both(images)
    known = backbone.class_tokens()
    tokens = torch.stack([known[name] for name in names])  # (N, S)
    return torch.cat([appearance, torch.einsum("bshw,ns->bnhw", semantic, tokens)], dim=1)


def channel_count(backbone: Backbone, config: Config) -> int:
    """Return the number of channels that `extract_features` computes."""
    colors = COLOR_CHANNELS if config.matcher.cells.color_weight else 0
    return backbone.channels + colors + len(config.named_classes)


def _resized(frame: Image, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Resize the frame to working size: (1, 3, H, W) float32 in 0..1."""
    image = frame_pixels(frame).to(device).permute(2, 0, 1)[None].float().div_(255)
    if image.shape[2:] != size:
        image = F.interpolate(image, size, mode="bilinear", antialias=True)
    return image


def _extract(
    backbone: Backbone, extract: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    size = (images.shape[2], images.shape[3])
    most = frames_at_once(backbone, size)
    if most is not None and len(images) > most:
        return torch.cat([_extract(backbone, extract, part) for part in images.split(most)])
    try:
        return extract(images)
    except torch.OutOfMemoryError as error:
        if len(images) == 1:
            raise DeviceError(
                f"one frame of {images.shape[3]}x{images.shape[2]} does not fit into the memory of "
                f"{backbone.device}",
                "use a smaller model or {device=cpu}",
            ) from error
    # Outside the handler, because the exception keeps the tensors of the failed attempt alive.
    half = (len(images) + 1) // 2
    log.warning("out of memory with %d frames at once; continuing with %d", len(images), half)
    remember_batch(backbone, half, size)
    return torch.cat([_extract(backbone, extract, part) for part in images.split(half)])


def working_size(height: int, width: int, config: Config, multiple: int) -> tuple[int, int]:
    """Return the size at which a frame's features are computed: (H, W), multiples of `multiple`.

    The short side becomes about `config.short_side_px`; the long side keeps the aspect ratio, up to
    `config.max_aspect`. Both are rounded, so that cells tile the frame without padding.
    """
    short = min(height, width)

    def scaled(side: int) -> int:
        wanted = config.short_side_px * min(side / short, config.max_aspect)
        return multiple * max(1, round(wanted / multiple))

    return scaled(height), scaled(width)


def frame_pixels(frame: Image) -> torch.Tensor:
    """Return the frame as an (H, W, 3) uint8 tensor.

    Args:
        frame: (H, W, 3) or, as torchvision and torchcodec give it, (3, H, W) uint8 RGB; a PIL
            image; or a `Frame`.

    Raises:
        TypeError: The frame has another type.
        ValueError: The frame has another shape or dtype.
    """
    if isinstance(frame, Frame):
        frame = frame.image
    elif isinstance(frame, PIL.Image.Image):
        frame = np.array(frame.convert("RGB"))
    elif not isinstance(frame, np.ndarray | torch.Tensor):
        raise TypeError(
            f"frame must be an array, a tensor, a PIL image or a Frame, not {type(frame).__name__}"
        )
    shape, dtype = tuple(frame.shape), str(frame.dtype).removeprefix("torch.")
    channels_first = len(shape) == 3 and shape[2] != 3
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or 0 in shape or dtype != "uint8":
        raise ValueError(f"frame must be (H, W, 3) or (3, H, W) uint8 RGB, not {shape} {dtype}")
    if isinstance(frame, np.ndarray):
        # Read-only arrays are copied: PyTorch has no such tensors, and warns.
        frame = torch.from_numpy(np.require(frame, requirements=["C", "W"]))
    return frame.permute(1, 2, 0) if channels_first else frame


def numbered_frames(pictures: Iterable[Image]) -> Iterator[Frame]:
    """Make frames of plain pictures, 25 in a second as those of a folder; frames stay as they are.

    Raises:
        TypeError, ValueError: One is no picture, see `frame_pixels`.
    """
    for index, picture in enumerate(pictures):
        if isinstance(picture, Frame):
            yield picture
        else:
            yield Frame(frame_pixels(picture).cpu().numpy(), index, Fraction(index, FOLDER_FPS))
