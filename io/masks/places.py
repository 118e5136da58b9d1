"""Which frame a mask belongs to: the frame of its name, or of its number."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from propagate.errors import MaskError
from propagate.io.decode.image_folder import text_and_numbers


@dataclass(frozen=True, slots=True)
class Place:
    """The frame of a mask.

    Attributes:
        index: Of the frame, from 0.
        note: What was decided, if the name allows two frames; else empty.
    """

    index: int
    note: str = ""


def places_by_name(names: Sequence[str], frame_names: Sequence[str] | None) -> list[Place]:
    """Find the frame of each mask.

    A mask belongs to the frame of the same name; names may differ in case and in leading zeros. If
    no mask has the name of a frame, the last group of digits in a name is the frame's index,
    counted from 0: 12 for `00012` and for `clip2_0012`. All masks are read in one of these ways.

    Args:
        names: Stems of the masks' files.
        frame_names: Names of the frames in order. None: frames have no names but their numbers.

    Returns:
        The places in the order of `names`.

    Raises:
        MaskError: Only some masks have the name of a frame, a mask has neither name nor number, or
            two masks belong to one frame.
    """
    by_number = [number_in(name) for name in names]
    by_name: list[int | None] = [None] * len(names)
    if frame_names is not None:
        exact = {name: index for index, name in enumerate(frame_names)}
        alike = _unique([_key(name) for name in frame_names])
        numbered = _unique([number_in(name) for name in frame_names])
        by_name = [
            exact.get(name, alike.get(_key(name), numbered.get(number)))
            for name, number in zip(names, by_number, strict=True)
        ]
    if any(index is not None for index in by_name):
        for name, index in zip(names, by_name, strict=True):
            if index is None:
                other = next(n for n, i in zip(names, by_name, strict=True) if i is not None)
                raise MaskError(
                    f"{name}: no frame has this name, but {other} has the name of a frame",
                    "name every mask after its frame",
                )
        count = len(frame_names or ())
        found = [
            Place(index or 0, _note(index or 0, number, count, frame_names))
            for index, number in zip(by_name, by_number, strict=True)
        ]
    else:
        for name, number in zip(names, by_number, strict=True):
            if number is None:
                raise MaskError(
                    f"{name}: no frame number in this name",
                    "use a name like 00012.png, or pass {masks_are=objects} if each file is one "
                    "object in black and white",
                )
        found = [Place(number or 0) for number in by_number]
    first: dict[int, str] = {}
    for name, place in zip(names, found, strict=True):
        if place.index in first:
            raise second_mask(name, place.index, first[place.index])
        first[place.index] = name
    return found


def number_in(name: str) -> int | None:
    """Return the last group of digits in a name, as a number; None if there is none."""
    digits = re.findall(r"[0-9]+", name)
    return int(digits[-1]) if digits else None


def second_mask(name: str, frame: int, first: str) -> MaskError:
    """Say that a frame has two masks."""
    return MaskError(f"{name}: frame {frame} has a second mask, {first}", "keep one")


def _key(name: str) -> str:
    return repr(text_and_numbers(name.casefold()))


def _unique(keys: Sequence[str | int | None]) -> dict[str | int | None, int]:
    """Return the index of each key that only one frame has."""
    counts = Counter(keys)
    return {key: index for index, key in enumerate(keys) if key is not None and counts[key] == 1}


def _note(index: int, number: int | None, count: int, frame_names: Sequence[str] | None) -> str:
    if number is None or number == index or number >= count or frame_names is None:
        return ""
    return (
        f"belongs to the frame of its name, {frame_names[index]}, which is frame {index}; frame "
        f"{number} is {frame_names[number]}"
    )
