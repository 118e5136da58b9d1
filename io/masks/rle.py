"""COCO's compressed run lengths of a mask, without its size, as BURST's JSON holds them.

They are checked before use, because pycocotools (2.0.11) does not check them: on run lengths that
do not fill the frame some of its functions hang, and others return memory outside the mask.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco

from propagate.records import BACKGROUND_ID, VOID_ID


def encode_mask(mask: np.ndarray) -> str:
    """Encode a mask as COCO's compressed run lengths.

    Args:
        mask: (H, W) bool.

    Returns:
        The run lengths without their size.
    """
    rle: Any = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return rle["counts"].decode("ascii")


def decode_mask(counts: str, height: int, width: int) -> np.ndarray:
    """Decode COCO's compressed run lengths.

    Args:
        counts: As `encode_mask` returns them.
        height: Pixels.
        width: Pixels.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: If these are not run lengths, or they do not fill the frame exactly.
    """
    runs = run_lengths(counts, height, width)
    inside = np.arange(runs.size) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T  # COCO counts down the columns.


def mask_area_px(counts: str, height: int, width: int) -> int:
    """Count the pixels of an encoded mask without decoding it.

    Args:
        counts: As `encode_mask` returns them.
        height: Pixels.
        width: Pixels.

    Returns:
        Pixels.

    Raises:
        ValueError: As `decode_mask`.
    """
    return int(run_lengths(counts, height, width)[1::2].sum())


def run_lengths(counts: str, height: int, width: int) -> np.ndarray:
    """Unpack COCO's compressed run lengths.

    A number is a group of characters of 5 bits each, lowest bits first. A sixth bit means that
    another character follows; the highest bit of the last character is the sign. From the fourth
    number on, each is the difference to the run two places before.

    Args:
        counts: As `encode_mask` returns them.
        height: Pixels.
        width: Pixels.

    Returns:
        (R,) int64: pixels outside and inside the object in turn, outside first.

    Raises:
        ValueError: If these are not run lengths, or they do not fill the frame exactly.
    """
    characters = np.frombuffer(counts.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64)
    characters -= ord("0")
    # No frame needs a number of more than 30 bits; a longer group would overflow.
    last = np.flatnonzero(characters & 0x20 == 0)
    starts = np.concatenate(([0], last[:-1] + 1))
    if (
        last.size == 0
        or last[-1] != characters.size - 1
        or characters.min() < 0
        or characters.max() > 0x3F
        or (last - starts).max() > 5
    ):
        raise ValueError("the RLE is not COCO's compressed run lengths")
    place = np.arange(characters.size) - np.repeat(starts, last - starts + 1)
    runs = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    runs -= np.where(characters[last] & 0x10, 1 << (5 * (last - starts + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    total, pixels = int(runs.sum()), height * width
    if runs.min() < 0 or total != pixels:
        raise ValueError(
            f"the RLE covers {total} pixels, the frame of {width}x{height} has {pixels}"
        )
    return runs


def encode_rle(ids: np.ndarray) -> list[dict[str, Any]]:
    """Encode every object of a map of ids as COCO run lengths.

    Args:
        ids: (H, W) uint8; background and void are left out.

    Returns:
        One entry per object, in order of id: `id`, `segmentation` with `size` [H, W] and
        `counts` as text, `area` in pixels, `bbox` [x, y, w, h] in pixels.
    """
    columns = np.asfortranarray(ids)  # COCO counts down the columns.
    entries: list[dict[str, Any]] = []
    for object_id in np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist():
        if object_id in (BACKGROUND_ID, VOID_ID):
            continue
        rle: Any = coco.encode((columns == object_id).view(np.uint8))
        entries.append(
            {
                "id": object_id,
                "segmentation": {"size": list(ids.shape), "counts": rle["counts"].decode("ascii")},
                "area": int(coco.area(rle)),
                "bbox": [int(side) for side in coco.toBbox(rle)],
            }
        )
    return entries
