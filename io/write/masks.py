"""Masks in and out: index PNGs as people make them, palette PNGs and COCO RLE as tools read them.

H, W are the rows and columns of the frame. An id is the value of a pixel: 0 background, 1..254
objects, 255 void, which is neither.
"""

import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image, ImageFilter
from pycocotools import mask as coco

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import MAX_PIXELS, TooLargeError, open_image
from propagate.io.write.files import PartialFile, write_atomically
from propagate.io.write.rle import decode_mask
from propagate.records import BACKGROUND_ID, MAX_OBJECT_ID, VOID_ID, Mask

_RLE_FORMAT = "propagate-rle"
# Flat regions leave little to search for: zlib's run-length strategy takes a third of the time of
# its default one, for files a quarter larger.
_ZLIB_RLE = 3
_SAVE_AS_INDEX = "save it as an 8-bit index (palette) or grey PNG whose values are object ids"
_THRESHOLD = "threshold it, so that every pixel holds one object id, or 0 and 255 for one object"


def read_mask(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Mask:
    """Read the mask of one frame from an image of mode P, L, LA or 1.

    The values are ids, as `mask_from_array` takes them; a palette's colours and an alpha channel
    mean nothing.

    Args:
        path: A PNG, or another lossless format that Pillow reads.
        max_pixels: Most pixels.

    Returns:
        The mask; its `source` is the path.

    Raises:
        MaskError: If there is no such image, if it is too large, if its pixels hold no ids (RGB,
            16-bit, JPEG), or for one of the reasons of `mask_from_array`.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise MaskError(f"{path}: no such mask: check the path")
    try:
        with open_image(path, max_pixels) as image:
            image.load()
    except TooLargeError as error:
        raise MaskError(f"{path}: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MaskError(f"{path}: no readable image ({error}): {_SAVE_AS_INDEX}") from error
    if image.format == "JPEG":
        raise MaskError(f"{path}: a JPEG, which changes the ids it stores: {_SAVE_AS_INDEX}")
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode.startswith(("I", "F")):
        raise MaskError(f"{path}: a mask of 16 bits or more (mode {image.mode}): {_SAVE_AS_INDEX}")
    if image.mode not in ("1", "L", "P"):
        raise MaskError(f"{path}: colours instead of ids (mode {image.mode}): {_SAVE_AS_INDEX}")
    return mask_from_array(np.asarray(image), source=str(path))


def mask_from_array(array: np.ndarray, source: str = "mask") -> Mask:
    """Make the mask of one frame from an array of ids.

    A mask of nothing but 0 and 255, and one of booleans, is black and white: one object, id 1.
    In any other mask 255 is void.

    Args:
        array: (H, W) bool, or any integer dtype with values 0..255. Not kept: it is copied.
        source: Where it came from, for messages.

    Returns:
        The mask, `binary` if it was black and white.

    Raises:
        MaskError: If the mask holds no object, an id outside 0..255, or soft edges.
        TypeError: If the array is neither bool nor integer.
        ValueError: If it is not (H, W).
    """
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"mask: bool or integer ids, not {array.dtype}; threshold it first")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"mask: (H, W), not {array.shape}")
    if array.dtype == bool:
        ids, binary = array.astype(np.uint8), True
    else:
        ids, binary = _checked_ids(array, source)
    mask = Mask(ids=ids, binary=binary, source=source)
    if not mask.object_ids:
        raise MaskError(f"{source}: no object in this mask: label at least one pixel 1..254")
    return mask


def check_size(mask: Mask, height: int, width: int) -> None:
    """Refuse a mask that does not fit its frame.

    Args:
        mask: Any mask.
        height: Rows of the frame.
        width: Columns of the frame.

    Raises:
        MaskError: If the sizes differ.
    """
    mask_height, mask_width = mask.ids.shape
    if (mask_height, mask_width) != (height, width):
        raise MaskError(
            f"{mask.source}: the mask is {mask_width}x{mask_height}, the frame {width}x{height}: "
            f"resize the mask to {width}x{height} by nearest neighbour, or take the frame it fits"
        )


def read_references(
    path: str | Path, *, frame: int = 0, max_pixels: int = MAX_PIXELS
) -> dict[int, Mask]:
    """Read the labelled frames of a video: one mask, or a folder of `<frame number>.png`.

    The frame number of a file in a folder is the last group of digits of its stem: 12 for
    `00012.png` and for `clip2_0012.png`. Files that are not PNGs are left alone.

    Args:
        path: An image, or a folder of PNGs.
        frame: The frame that a single image labels.
        max_pixels: Most pixels of a mask.

    Returns:
        The masks by frame number, in increasing order.

    Raises:
        MaskError: If a mask cannot be used (see `read_mask`), the folder holds none, or a file
            has no number or the number of another one.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return {frame: read_mask(path, max_pixels=max_pixels)}
    numbered: dict[int, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() != ".png" or file.name.startswith("."):
            continue
        digits = re.findall(r"[0-9]+", file.stem)
        if not digits:
            raise MaskError(f"{file}: no frame number in this name: call it like 00012.png")
        number = int(digits[-1])
        if number in numbered:
            raise MaskError(
                f"{file}: frame {number} has a second mask, {numbered[number].name}: keep one"
            )
        numbered[number] = file
    if not numbered:
        raise MaskError(f"{path}: no mask in this folder: put <frame number>.png files there")
    return {
        number: read_mask(numbered[number], max_pixels=max_pixels) for number in sorted(numbered)
    }


@cache
def palette() -> np.ndarray:
    """Compute the PASCAL VOC palette, in which DAVIS and YouTube-VOS masks are drawn.

    The bits of an id are dealt out to red, green and blue in turn, three at a time, from the most
    significant bit of each colour down.

    Returns:
        (256, 3) uint8, RGB by id; read-only.
    """
    ids = np.arange(256, dtype=np.uint8)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    colours.setflags(write=False)
    return colours


def write_mask(path: str | Path, ids: np.ndarray) -> None:
    """Write a palette PNG in the DAVIS style, whole or not at all.

    Args:
        path: The PNG, in a folder that exists. An old file is replaced.
        ids: (H, W) uint8.

    Raises:
        OutputError: If it cannot be written there.
        ValueError: If `ids` is not (H, W) uint8.
    """
    _check_ids(ids)
    image = Image.fromarray(ids)
    image.putpalette(palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_type=_ZLIB_RLE)
    write_atomically(path, buffer.getvalue())


class RleWriter:
    """Writes `masks.json`: COCO run lengths of every frame and object, whole or not at all.

    One JSON object, with one frame on each line:

        {"format": "propagate-rle", "version": 1, "size": [H, W], "frames": [
        {"index": 0, "name": "00000", "time_s": 0.0, "objects": [
            {"id": 1, "segmentation": {"size": [H, W], "counts": "..."},
             "area": 57, "bbox": [x, y, w, h], "score": 0.93}]},
        ...]}

    `segmentation` is what `pycocotools.mask.decode` takes; `area` and `bbox` are in pixels; `score`
    is missing where none was given. An object that is not in a frame is not in its list, since
    COCO scorers count an empty mask as a wrong one. Frames go to the disk as they come: memory
    does not grow with the video.

    Use it in a `with` block; the file appears when the block ends without an error.
    """

    def __init__(self, path: str | Path, height: int, width: int) -> None:
        """Begin the file.

        Args:
            path: The JSON file, in a folder that exists. An old file is replaced at the end.
            height: Rows of every frame.
            width: Columns of every frame.

        Raises:
            OutputError: If it cannot be written there.
        """
        self._shape = (height, width)
        self._separator = "\n"
        self._partial = PartialFile(path)
        head = json.dumps({"format": _RLE_FORMAT, "version": 1, "size": [height, width]})
        with self._partial.writing():
            self._file = self._partial.path.open("x", encoding="ascii", newline="\n")
            self._file.write(head.removesuffix("}") + ', "frames": [')

    def write(
        self,
        ids: np.ndarray,
        *,
        index: int,
        name: str,
        time_s: float,
        scores: Mapping[int, float] | None = None,
    ) -> None:
        """Add the masks of one frame.

        Args:
            ids: (H, W) uint8.
            index: Position of the frame in the video, from 0.
            name: Stem of its mask file.
            time_s: Presentation time in seconds.
            scores: Confidence by object id, for as many as have one.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If `ids` is not uint8 of the writer's size.
        """
        _check_ids(ids)
        if ids.shape != self._shape:
            raise ValueError(f"ids: {self._shape}, not {ids.shape}")
        objects = encode_rle(ids)
        for entry in objects:
            if scores is not None and entry["id"] in scores:
                entry["score"] = float(scores[entry["id"]])
        frame = {"index": index, "name": name, "time_s": time_s, "objects": objects}
        with self._partial.writing():
            self._file.write(self._separator + json.dumps(frame, allow_nan=False))
        self._separator = ",\n"

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: If it cannot be written.
        """
        with self._partial.writing():
            self._file.write("\n]}\n")
            self._file.close()
            self._partial.commit()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file, or leave nothing of it if the block failed."""
        if kind is None:
            self.close()
            return
        # Closing flushes, which fails again on a full disk.
        with suppress(OSError):
            self._file.close()
        self._partial.discard()


def encode_rle(ids: np.ndarray) -> list[dict[str, Any]]:
    """Encode every object of a mask as COCO run lengths.

    Args:
        ids: (H, W) uint8; background and void are left out.

    Returns:
        One entry per object, by increasing id: `id`, `segmentation` with `size` [H, W] and
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


def read_rle(path: str | Path) -> Iterator[tuple[int, np.ndarray]]:
    """Read the masks of a file that `RleWriter` wrote.

    Args:
        path: The JSON file.

    Yields:
        Frame index and its ids, (H, W) uint8.

    Raises:
        MaskError: If there is no such file, it is not one of ours, or it is damaged.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise MaskError(f"{path}: no readable JSON of masks ({error}): check the path") from error
    if not isinstance(content, dict) or content.get("format") != _RLE_FORMAT:
        raise MaskError(f"{path}: not a {_RLE_FORMAT} file: give the masks.json of a run")
    height, width = content["size"]
    if height * width > MAX_PIXELS:
        raise MaskError(f"{path}: masks of {width}x{height} pixels: give the masks.json of a run")
    for frame in content["frames"]:
        ids = np.zeros((height, width), dtype=np.uint8)
        for entry in frame["objects"]:
            try:
                region = decode_mask(entry["segmentation"]["counts"], *content["size"])
            except ValueError as error:
                raise MaskError(
                    f"{path}: frame {frame['name']}, object {entry['id']}: {error}: run it again"
                ) from error
            ids[region] = entry["id"]
        yield frame["index"], ids


def _checked_ids(array: np.ndarray, source: str) -> tuple[np.ndarray, bool]:
    """Return the ids as uint8, and whether the mask was black and white."""
    lowest, highest = int(array.min()), int(array.max())
    if lowest < BACKGROUND_ID or highest > VOID_ID:
        wrong = lowest if lowest < BACKGROUND_ID else highest
        raise MaskError(
            f"{source}: holds the id {wrong}, and objects have 1..{MAX_OBJECT_ID}: "
            "renumber them, or split them over several runs"
        )
    ids = array.astype(np.uint8)
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    if present.tolist() == [BACKGROUND_ID, VOID_ID]:
        return ids // VOID_ID, True
    if _is_soft(ids):
        raise MaskError(
            f"{source}: a soft mask, {len(present)} grey levels with blurred edges: {_THRESHOLD}"
        )
    return ids, False


def _is_soft(ids: np.ndarray) -> bool:
    """Tell grey levels along blurred edges from ids, however many ids there are.

    The greys of a blurred edge lie on a slope: within two pixels of one there is both a lower and
    a higher value. An object has an inside, where all values are its own, and mostly borders on
    background alone. So a mask is soft if more than half of its values (0 and 255 apart) have
    more than half of their pixels on such a slope. Without 255 in the mask, it takes three such
    values, for two thin objects may well lie on the rim of a third.

    No mask of DAVIS, YouTube-VOS or a grid of 100 objects of 4x4 pixels is soft in this sense;
    every smoothed, resampled or JPEG-compressed black-and-white mask that was tried is.
    """
    pixels = np.bincount(ids.ravel(), minlength=256)
    values = np.count_nonzero(pixels[1:VOID_ID])
    enough = 1 if pixels[VOID_ID] else 3
    if values < enough:
        return False
    image = Image.fromarray(ids)
    lowest = np.asarray(image.filter(ImageFilter.MinFilter(5)))
    highest = np.asarray(image.filter(ImageFilter.MaxFilter(5)))
    pixels_on_slope = np.bincount(ids[(lowest < ids) & (ids < highest)], minlength=256)
    slope_values = np.count_nonzero((2 * pixels_on_slope > pixels)[1:VOID_ID])
    return bool(slope_values >= enough and 2 * slope_values > values)


def _check_ids(ids: np.ndarray) -> None:
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise ValueError(f"ids: (H, W) uint8, not {ids.shape} {ids.dtype}")
