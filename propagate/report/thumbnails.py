"""The frames of a run that are worth a look, drawn small.

H, W are the rows and columns of a frame.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from propagate.io.decode.options import SourceOptions
from propagate.io.masks.display_colours import Colour, DisplayColours
from propagate.io.write.encode import encode_image
from propagate.io.write.overlay import GROUND, draw_overlay, object_labels
from propagate.io.write.panels import fitted_size
from propagate.report.doubtful import doubtful_frames, objects_of
from propagate.report.saved import SavedRun
from propagate.report.tags import draw_tags

MOST_SHOTS = 12
# A run that is certain everywhere still shows so many frames.
LEAST_SHOTS = 6
# Frames close in time look alike, so those shown are at least this part of the run apart.
APART = 1 / 24
LIMIT_PX = (280, 400)
JPEG_QUALITY = 74


@dataclass(frozen=True, slots=True)
class Look:
    """Why a frame is worth a look.

    Attributes:
        what: In words.
        object_ids: The objects that it is about.
    """

    what: str = ""
    object_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame to show.

    Attributes:
        position: Of the frame among those of the run.
        name: Of the frame.
        picture: As an address with all its data.
        look: Why it is shown.
    """

    position: int
    name: str
    picture: str
    look: Look


def worst_positions(result: Mapping[str, Any]) -> dict[int, Look]:
    """Choose the frames to show: the most doubtful ones, then those of the lowest margins.

    Args:
        result: See `doubtful_frames`.

    Returns:
        Position -> why, in order of time; some way apart.
    """
    frames = result["per_frame"]
    reasons: dict[int, dict[int, str]] = {}
    worst: dict[int, float] = {}
    for doubt in doubtful_frames(result):
        begins = f"becomes {doubt.reason}"
        what = f"margin {doubt.margin:.2f}" if doubt.reason == "margin" else begins
        reasons.setdefault(doubt.position, {})[doubt.object_id] = what
        worst[doubt.position] = min(worst.get(doubt.position, 1.0), doubt.margin)
    chosen: dict[int, Look] = {}

    def choose(candidates: Sequence[int], most: int, apart: float) -> None:
        for position in candidates:
            if len(chosen) < most and all(abs(position - p) > apart * len(frames) for p in chosen):
                chosen[position] = _look(reasons.get(position) or _lowest(frames[position]))

    choose(sorted(worst, key=lambda position: (worst[position], position)), MOST_SHOTS, APART)
    margins = {p: margin for p, frame in enumerate(frames) if (margin := _least(frame)) is not None}
    choose(sorted(margins, key=lambda p: (margins[p], p)), LEAST_SHOTS, 2 * APART)
    return dict(sorted(chosen.items()))


def draw_shots(
    run: SavedRun,
    positions: Mapping[int, Look],
    options: SourceOptions | None = None,
    *,
    limit: tuple[int, int] = LIMIT_PX,
    decode: bool = True,
) -> tuple[list[Shot], dict[int, Colour], str | None]:
    """Draw frames of a run as its overlay shows them.

    Args:
        run: The run.
        positions: Which frames, in order of time, and why.
        options: See `SavedRun.images`.
        limit: The most rows and columns of a picture.
        decode: Whether the source is read; without it, masks are shown alone.

    Returns:
        The pictures; the colours of all objects that are known; and a line that says why some show
        masks alone, or None.
    """
    frames = run.result["per_frame"]
    names = {position: frames[position]["name"] for position in positions}
    images, why_missing = run.images(set(names.values()), options) if decode else ({}, None)
    colours = DisplayColours(run.looks.colours)
    labels = object_labels(objects_of(frames), run.looks.names)
    shots = []
    for position, name in names.items():
        image, ids = images.get(name), run.mask(name)
        if image is not None and ids is not None and image.shape[:2] != ids.shape:
            why_missing = f"The source has changed: its frame {name} is of another size."
            image = None
        picture = draw_small(image, ids, colours, labels, limit)
        if picture is not None:
            shots.append(Shot(position, name, _address(picture), positions[position]))
    return shots, dict(colours.colours), why_missing


def draw_small(
    image: np.ndarray | None,
    ids: np.ndarray | None,
    colours: DisplayColours,
    labels: Mapping[int, str],
    limit: tuple[int, int] = LIMIT_PX,
) -> np.ndarray | None:
    """Shrink a frame, and draw its mask on it, with tags beside the objects.

    Args:
        image: (H, W, 3) uint8, RGB; None: the mask is drawn on grey.
        ids: (H, W) uint8; None: the frame is shown without a mask.
        colours: Of the objects.
        labels: See `draw_tags`.
        limit: The most rows and columns of the picture.

    Returns:
        (H', W', 3) uint8, RGB; None if there is neither.
    """
    known = ids if image is None else image
    if known is None:
        return None
    height, width = fitted_size(known.shape[0], known.shape[1], limit)
    size = width, height
    if image is None:
        small = np.full((height, width, 3), GROUND, np.uint8)
    else:
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    if ids is None:
        return small
    small_ids = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
    colours.add(small, small_ids)
    drawn = draw_overlay(small, small_ids, colours=colours.colours)
    draw_tags(drawn, small_ids, labels, colours.colours)
    return drawn


def _least(frame: Mapping[str, Any]) -> float | None:
    margins = [e["margin"] for e in frame["objects"].values() if e["state"] != "absent"]
    return min(margins, default=None)


def _lowest(frame: Mapping[str, Any]) -> dict[int, str]:
    shown = {i: e["margin"] for i, e in frame["objects"].items() if e["state"] != "absent"}
    object_id = min(shown, key=lambda i: (shown[i], int(i)))
    return {int(object_id): f"margin {shown[object_id]:.2f}"}


def _look(reasons: Mapping[int, str], most: int = 4) -> Look:
    told = [f"object {object_id} {what}" for object_id, what in reasons.items()]
    more = len(told) - most
    return Look(", ".join(told[:most]) + (f" and {more} more" if more > 0 else ""), tuple(reasons))


def _address(picture: np.ndarray) -> str:
    jpeg = encode_image(picture, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
