"""A mask as a caller gives it, in any of the usual forms."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Union

import numpy as np
from PIL import Image

from propagate.errors import MaskError
from propagate.io.masks.files import mask_of_image, read_mask
from propagate.io.masks.ids import join_objects, mask_from_array
from propagate.records import MAX_OBJECT_ID, Mask

if TYPE_CHECKING:
    import torch

Array = Union[np.ndarray, "torch.Tensor"]  # a string cannot be joined by |
GivenMask = Mask | Array | Mapping[int, Array] | Image.Image | str | PathLike[str]


def as_mask(given: GivenMask, source: str) -> Mask:
    """Make the mask of one frame from any of these forms.

    Args:
        given: A `Mask`; an (H, W) array or tensor of ids or of booleans, see `mask_from_array`; a
            mapping from ids to (H, W) bool arrays or tensors; a PIL image or the path of one, see
            `read_mask`.
        source: Where it came from, for messages.

    Raises:
        MaskError: It cannot be used as a mask.
        TypeError: It has another type.
        ValueError: An array has another shape.
    """
    if isinstance(given, Mask):
        return given
    if isinstance(given, str | PathLike):
        return read_mask(str(given))
    if isinstance(given, Image.Image):
        return mask_of_image(given, source)
    if isinstance(given, Mapping):
        return mask_from_objects(given, source)
    return mask_from_array(_as_array(given, source), source)


def mask_from_objects(objects: Mapping[int, Array], source: str = "mask") -> Mask:
    """Make a mask from one mask for each object.

    Args:
        objects: Id 1..254 -> (H, W) bool.
        source: Where the masks came from, for messages.

    Raises:
        MaskError: There is no object, an id is out of range, an object has no pixel, or objects
            differ in size or overlap.
        TypeError: A mask is not bool.
    """
    layers: dict[int, np.ndarray] = {}
    for object_id, given in objects.items():
        if isinstance(object_id, bool) or not isinstance(object_id, int | np.integer):
            raise TypeError(f"{source}: object ids are integers, not {object_id!r}")
        if not 1 <= object_id <= MAX_OBJECT_ID:
            raise MaskError(f"{source}: the id {object_id} is not one of 1..{MAX_OBJECT_ID}")
        pixels = _as_array(given, source)
        if pixels.dtype != bool or pixels.ndim != 2:
            raise TypeError(
                f"{source}: object {object_id} must be (H, W) bool, not {pixels.shape} "
                f"{pixels.dtype}"
            )
        if not pixels.any():
            raise MaskError(f"{source}: object {object_id} has no pixel", "leave it out")
        layers[int(object_id)] = pixels
    if not layers:
        raise MaskError(f"{source}: no object in this mask", "give at least one")
    return Mask(ids=join_objects(layers, source), source=source)


def _as_array(given: Array, source: str) -> np.ndarray:
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "detach"):  # a tensor, without an import of torch
        return given.detach().cpu().numpy()
    raise TypeError(
        f"{source}: must be an (H, W) array or tensor of ids, a mapping from ids to (H, W) bool "
        f"arrays, a PIL image or a path, not {type(given).__name__}"
    )
