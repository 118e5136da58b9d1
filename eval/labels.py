"""The objects of one frame, and how they are read from a PNG without guessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from propagate.errors import EvaluationError, MaskError
from propagate.io.decode.pixel_limit import TooLargeError
from propagate.io.masks import png
from propagate.records import BACKGROUND_ID, MAX_OBJECT_ID, VOID_ID

_PROBLEMS_LISTED = 3
# From here on Pillow too takes an image for a decompression bomb.
_MAX_PIXELS = 89_478_485


class UnusableMaskError(EvaluationError):
    """A file or folder of masks cannot be used.

    Attributes:
        path: The file or folder; for a frame inside a JSON file, `masks.json:<frame>`.
        found: What is wrong with it.
        hint: What to do about it.
    """

    def __init__(self, path: Path, found: str, hint: str) -> None:
        """Keep the three apart, so that `refuse` can join the problems of many files."""
        super().__init__(f"{path}: {found}", hint)
        self.path, self.found = path, found

    @classmethod
    def of(cls, path: Path, error: MaskError) -> Self:
        """Make one from the error of a reader, whose message begins with the path."""
        return cls(path, error.message.removeprefix(f"{path}: "), error.hint)

    def __reduce__(self) -> tuple[type[Self], tuple[Path, str, str]]:
        # Without this, an error of a worker process would be unpickled with two arguments.
        return type(self), (self.path, self.found, self.hint)


def refuse(problems: Sequence[UnusableMaskError]) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        EvaluationError: It names the first few problems, their number, and what to do.
    """
    if not problems:
        return
    listed = problems[:_PROBLEMS_LISTED]
    message = "; ".join(problem.message for problem in listed)
    if len(problems) > len(listed):
        message += f"; and {len(problems) - len(listed)} more ({len(problems)} in all)"
    raise EvaluationError(message, "; ".join(dict.fromkeys(problem.hint for problem in listed)))


def check_size(
    path: Path, shape: tuple[int, ...], truth_shape: tuple[int, ...], truth: str = "truth"
) -> None:
    """See that a predicted mask has the size of the truth.

    Args:
        path: The predicted mask, for the message.
        shape: (H, W) of the predicted mask.
        truth_shape: (H, W) of the truth.
        truth: What the truth is, for the message.

    Raises:
        UnusableMaskError: If the sizes differ.
    """
    if shape != truth_shape:
        found = f"{size_text(shape)} pixels, the {truth} {size_text(truth_shape)}"
        raise UnusableMaskError(path, found, f"predict at the size of the {truth}")


def size_text(shape: tuple[int, ...]) -> str:
    """Write (H, W) as people do: width x height."""
    height, width = shape
    return f"{width}x{height}"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The objects of one frame: a map of ids, or one mask for each object if they overlap.

    Attributes:
        shape: (H, W).
        ids: (H, W) uint8, 0 background, 1..254 objects, 255 void. None if objects overlap, or if
            one has an id outside 1..254 (SA-V counts from 0).
        layers: (H, W) bool by object id if `ids` is None; else empty.
    """

    shape: tuple[int, ...]
    ids: np.ndarray | None
    layers: Mapping[int, np.ndarray]

    @classmethod
    def of_ids(cls, ids: np.ndarray) -> Self:
        """Take a map of ids, (H, W) uint8."""
        return cls(ids.shape, ids, {})

    @classmethod
    def of_masks(cls, masks: Mapping[int, np.ndarray], shape: tuple[int, ...]) -> Self:
        """Take one mask per object, (H, W) bool; they become a map of ids if they fit into one.

        An object without a pixel is not in this frame.
        """
        areas = {i: int(np.count_nonzero(mask)) for i, mask in sorted(masks.items())}
        present = {i: masks[i] for i, area in areas.items() if area}
        if not all(BACKGROUND_ID < i <= MAX_OBJECT_ID for i in present):
            return cls(shape, None, present)
        ids = np.zeros(shape, dtype=np.uint8)
        for object_id, mask in present.items():
            ids |= mask * np.uint8(object_id)
        overlap = np.count_nonzero(ids) < sum(areas.values())
        return cls(shape, None, present) if overlap else cls(shape, ids, {})

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects with a pixel in this frame, by increasing id; computed at each access."""
        if self.ids is None:
            return tuple(self.layers)
        # Searching the bytes for each of the few ids takes a tenth of the time of a histogram.
        pixels = self.ids.tobytes()
        largest = min(int(self.ids.max()), MAX_OBJECT_ID)
        return tuple(i for i in range(1, largest + 1) if i in pixels)

    @property
    def void(self) -> np.ndarray | None:
        """(H, W) bool, the pixels of value 255; None if there are none."""
        if self.ids is None or self.ids.max() != VOID_ID:
            return None
        return self.ids == VOID_ID

    def mask(self, object_id: int) -> np.ndarray:
        """Mark the pixels of one object, (H, W) bool; an absent object has none.

        Raises:
            ValueError: If the id is 0 in a map of ids, where 0 is the background.
        """
        if self.ids is None:
            return self.layers.get(object_id, np.zeros(self.shape, dtype=bool))
        if object_id == BACKGROUND_ID:
            raise ValueError("object_id: 0 is the background of a map of ids")
        return self.ids == object_id


def read_ids(path: Path) -> np.ndarray:
    """Read the ids of one mask of a data set or a prediction; see `propagate.io.masks.png`.

    Returns:
        (H, W) uint8.

    Raises:
        UnusableMaskError: If there is no such file, or its values are not ids.
    """
    try:
        ids = png.read_ids(path, max_pixels=_MAX_PIXELS)
    except MaskError as error:
        if isinstance(error.__cause__, TooLargeError):
            raise UnusableMaskError(
                path, "far more pixels than a video has", "write this mask again"
            ) from error
        if not path.exists():
            raise no_such_mask(path) from error
        raise UnusableMaskError(
            path, error.message.removeprefix(f"{path}: "), error.hint
        ) from error
    return ids.astype(np.uint8, copy=False)


def no_such_mask(path: Path) -> UnusableMaskError:
    """Say that a frame has no mask."""
    return UnusableMaskError(path, "no such mask", "write it, empty if need be")
