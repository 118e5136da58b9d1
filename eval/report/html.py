"""A comparison as one HTML file: the table, bars, J and F over time, and the worst frames.

The file needs no other file, no network and no script. `report.html` is its template, with the
styles of `report.css` and the script of `report.js` inside.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from propagate.eval.report import svg
from propagate.eval.report.comparison import Entry, figure_names, hardest_first, percent
from propagate.eval.report.page import fill
from propagate.eval.scores import COLUMNS, Scores
from propagate.io.masks.display_colours import Colour
from propagate.io.masks.palette import palette
from propagate.io.write.encode import encode_image
from propagate.io.write.overlay import draw_overlay

WORST_FRAMES = 3
# Two images of this width fill a laptop's screen; 14 clips of 2 configurations take 4 MB.
IMAGE_WIDTH_PX = 420
JPEG_QUALITY = 72
# With more objects than this, charts are drawn smaller.
MANY_OBJECTS = 3
# Frames close in time look alike, so worst frames are at least this part of the video apart.
APART = 1 / 8
# The number of colours, --key0 and so on, in report.css.
COLOURS = 6
# Those of the masks, which the captions of the charts show too.
_DAVIS_COLOURS: dict[int, Colour] = {
    i: (int(red), int(green), int(blue)) for i, (red, green, blue) in enumerate(palette())
}
_LOWER_IS_BETTER = {"J-Decay", "F-Decay"}
_COUNTS = ("sequences", "objects", "frames")


@dataclass(frozen=True, slots=True, eq=False)
class ReportFrame:
    """One frame to show.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        truth: (H, W) uint8 ids.
        prediction: (H, W) uint8 ids.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


# Reads the frame of a configuration, a sequence and a frame name.
ReadFrame = Callable[[str, str, str], ReportFrame]


def html_report(
    entries: Sequence[Entry], read_frame: ReadFrame, *, title: str, about: Mapping[str, str]
) -> str:
    """Write the report.

    Args:
        entries: One per configuration, in the order of the table.
        read_frame: Reads the frames that are shown.
        title: What was scored.
        about: What holds for all configurations, as text by name: the command, the root.

    Returns:
        An HTML document.
    """
    scores = next((entry.scores for entry in entries if entry.scores), None)
    report = fill(
        "report.html",
        title=title,
        entries=entries,
        scores=scores,
        counts=_COUNTS,
        columns=list(COLUMNS),
        figures=figure_names(entries),
        best={column: _best(column, entries) for column in COLUMNS},
        sequences=[
            _sequence(rank, name, entries, read_frame)
            for rank, name in enumerate(hardest_first(entries))
        ],
        protocol=_protocol(scores),
        facts=list(dict.fromkeys(name for entry in entries for name in entry.facts)),
        command=about.get("command"),
        about={name: text for name, text in about.items() if name != "command"},
        colours=COLOURS,
        many_objects=MANY_OBJECTS,
        plot=svg.PLOT.inside,
        scale=100,
    )
    return str(report)


def worst_frames(scores: Scores, sequence: str, count: int = WORST_FRAMES) -> list[int]:
    """Find the scored frames of the lowest J, some way apart.

    Args:
        scores: Of the configuration.
        sequence: One of its sequences.
        count: The most frames to find.

    Returns:
        Positions among the scored frames, in order of time.
    """
    rows = scores.per_frame[sequence]["J"]
    means = {}
    for step in range(len(scores.frames[sequence])):
        values = [row[step] for row in rows]
        known = [value for value in values if value is not None]
        if known:
            means[step] = sum(known) / len(known)
    apart = APART * len(scores.frames[sequence])
    chosen: list[int] = []
    for step in sorted(means, key=lambda step: means[step]):
        if len(chosen) < count and all(abs(step - other) > apart for other in chosen):
            chosen.append(step)
    return sorted(chosen)


def _best(column: str, entries: Sequence[Entry]) -> str | None:
    """Write the best score of a column; None if there is nothing to compare."""
    values = [entry.scores.global_[column] for entry in entries if entry.scores]
    if len(values) < 2:
        return None
    return percent(min(values) if column in _LOWER_IS_BETTER else max(values))


def _protocol(scores: Scores | None) -> dict[str, Any]:
    """Collect the rules, then all else of the protocol that the report does not show elsewhere."""
    if scores is None:
        return {}
    shown = ("name", "task", "title", "rules", *_COUNTS)
    others = {name: value for name, value in scores.protocol.items() if name not in shown}
    return {**scores.protocol.get("rules", {}), **others}


# --- one sequence --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One configuration's part in the section of a sequence."""

    index: int
    entry: Entry
    scores: Scores
    worst: Sequence[int]
    shots: Sequence[Mapping[str, str]]


def _sequence(
    rank: int, name: str, entries: Sequence[Entry], read_frame: ReadFrame
) -> dict[str, Any]:
    """Prepare the section of one sequence."""
    parts: list[_Part] = []
    for index, entry in enumerate(entries):
        if entry.scores and name in entry.scores.per_sequence:
            worst = worst_frames(entry.scores, name)
            shots = [
                _shot(_shot_id(rank, index, step), entry.scores, name, step, read_frame, entry.name)
                for step in worst
            ]
            parts.append(_Part(index, entry, entry.scores, worst, shots))
    scores = parts[0].scores
    object_ids = scores.object_ids[name]
    charts = [
        _chart(measure, rank, name, position, parts)
        for position in range(len(object_ids))
        for measure in ("J", "F")
    ]
    return {
        "name": name,
        "frames": scores.frames[name],
        "object_ids": object_ids,
        "parts": parts,
        "charts": charts,
    }


def _chart(
    measure: str, rank: int, sequence: str, position: int, parts: Sequence[_Part]
) -> dict[str, str]:
    """Draw J or F of one object over time; in charts of J, rings link to the worst frames."""
    lines = [
        svg.Line(
            style=f"c{part.index}",
            name=part.entry.name,
            values=part.scores.per_frame[sequence][measure][position],
            marks={step: f"#{_shot_id(rank, part.index, step)}" for step in part.worst}
            if measure == "J"
            else {},
        )
        for part in parts
    ]
    scores = parts[0].scores
    object_id = scores.object_ids[sequence][position]
    title = f"{measure} of object {object_id}"
    return {
        "title": title,
        "colour": ",".join(map(str, palette()[object_id])),
        "svg": svg.line_chart(lines, scores.frames[sequence], f"{title} in {sequence} over time"),
    }


def _shot_id(rank: int, index: int, step: int) -> str:
    # Made of numbers, because names may hold any character.
    return f"s{rank}c{index}f{step}"


def _shot(
    shot_id: str, scores: Scores, sequence: str, step: int, read_frame: ReadFrame, entry_name: str
) -> dict[str, str]:
    """Draw one frame with its truth and its prediction."""
    frame = scores.frames[sequence][step]
    truth, prediction = _draw(read_frame(entry_name, sequence, frame))
    rows = zip(scores.object_ids[sequence], scores.per_frame[sequence]["J"], strict=True)
    values = [(object_id, percent(row[step])) for object_id, row in rows]
    several = ", ".join(f"{text} ({object_id})" for object_id, text in values)
    return {
        "id": shot_id,
        "truth": truth,
        "prediction": prediction,
        "caption": f"frame {frame}, J {several if len(values) > 1 else values[0][1]}",
    }


def _draw(frame: ReportFrame) -> tuple[str, str]:
    """Draw the frame with the truth's outline, and with the prediction under the same outline."""
    height, width, _ = frame.image.shape
    size = (min(width, IMAGE_WIDTH_PX), max(1, height * min(width, IMAGE_WIDTH_PX) // width))
    image = np.asarray(Image.fromarray(frame.image).resize(size, Image.Resampling.LANCZOS))
    truth, prediction = (
        np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
        for ids in (frame.truth, frame.prediction)
    )
    tinted = draw_overlay(image, prediction, colours=_DAVIS_COLOURS)
    return _jpeg(_outlined(image, truth)), _jpeg(_outlined(tinted, truth))


def _outlined(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Draw a white line with a black one around it, so that it shows on any background."""
    drawn = image.copy()
    drawn[find_boundaries(ids, mode="outer")] = 0
    drawn[find_boundaries(ids, mode="inner")] = 255
    return drawn


def _jpeg(image: np.ndarray) -> str:
    jpeg = encode_image(image, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
