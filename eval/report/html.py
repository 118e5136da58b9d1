"""A comparison as one HTML file to look at: the table, bars, J over time, the worst frames.

Everything is inside the file. Names, messages and file names are escaped; nothing else comes from
outside.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from propagate.eval.report import svg
from propagate.eval.report.comparison import (
    COLUMNS,
    HEADLINE,
    Entry,
    hardest_first,
    percent,
    score_of,
)
from propagate.eval.report.page import entry_style, page
from propagate.eval.scores import Scores
from propagate.io.write.masks import palette
from propagate.io.write.overlay import draw_overlay

WORST_FRAMES = 3
# Twice this beside each other fills a laptop's screen; 14 clips of 2 configurations take 4 MB.
PICTURE_WIDTH_PX = 420
JPEG_QUALITY = 72
# From here on charts are drawn smaller.
MANY_OBJECTS = 3
# Neighbours look alike: worst frames lie at least this part of the video apart.
APART = 1 / 8
# Smaller is better.
_FALLING = {"J-Decay", "F-Decay"}
_COUNTS = ("sequences", "objects", "frames")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One frame to show.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        truth: (H, W) uint8 ids.
        prediction: (H, W) uint8 ids.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


Pictures = Callable[[str, str, str], Picture]


def html_report(
    entries: Sequence[Entry], pictures: Pictures, *, title: str, about: Mapping[str, str]
) -> str:
    """Write the report.

    Args:
        entries: One per configuration, in the order of the table.
        pictures: Gives the frame of a configuration, a sequence and a frame name.
        title: What was scored.
        about: What holds for all configurations, as text by its name: the command, the root.

    Returns:
        An HTML document.
    """
    sequences = hardest_first(entries)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _summary(entries),
        _failures(entries),
        _legend(entries),
        _table(entries),
    ]
    if sequences:
        articles = "".join(
            _article(rank, name, entries, pictures) for rank, name in enumerate(sequences)
        )
        parts += [_bars(sequences, entries), "<h2>Sequence by sequence</h2>"]
        parts += [_EXPLANATION, f'<div class="sorted">{articles}</div>']
    parts += [_protocol(entries), _facts(entries), _about(about)]
    styles = (entry_style(i, is_baseline=e.is_baseline) for i, e in enumerate(entries))
    right, bottom = svg.WIDTH - svg.RIGHT, svg.HEIGHT - svg.BOTTOM
    return page(
        title,
        "\n".join(parts),
        entry_styles="".join(styles),
        plot=json.dumps([svg.LEFT, right, svg.TOP, bottom]),
    )


_EXPLANATION = (
    '<p class="quiet">J and F of each object over time. Rings mark the frames shown below: those '
    "of the lowest J, some way apart. Left the frame with the outline of the truth, right the "
    "prediction in its objects' colours under the same outline. Click a frame to enlarge it.</p>"
)


# --- over all sequences --------------------------------------------------------------------------


def _summary(entries: Sequence[Entry]) -> str:
    scores = next((entry.scores for entry in entries if entry.scores), None)
    if scores is None:
        return '<p class="quiet">No configuration was scored.</p>'
    counts = ", ".join(f"{scores.protocol[key]:,} {key}" for key in _COUNTS)
    return f'<p class="quiet">{counts} scored. Numbers are percent unless they say otherwise.</p>'


def _failures(entries: Sequence[Entry]) -> str:
    lines = "".join(
        f"<p>{escape(entry.name)}, {escape(sequence)}: {escape(error)}</p>"
        for entry in entries
        for sequence, error in entry.failures.items()
    )
    if not lines:
        return ""
    told = "Some sequences failed. A configuration is scored when it has all of them."
    return f'<div class="warn"><strong>{told}</strong>{lines}</div>'


def _legend(entries: Sequence[Entry]) -> str:
    buttons = "".join(
        f'<button type="button" data-entry="{index}" aria-pressed="true" class="c{index}">'
        f'<span class="swatch"></span>{escape(entry.name)}</button>'
        for index, entry in enumerate(entries)
    )
    return f'<nav class="legend" aria-label="Configurations">{buttons}</nav>'


def _table(entries: Sequence[Entry]) -> str:
    figures = list(dict.fromkeys(name for entry in entries for name in entry.figures))
    heads = ("Configuration", *COLUMNS, *figures, "frames", "s/frame")
    head = "".join(f'<th scope="col">{escape(name.replace("-", " "))}</th>' for name in heads)
    best = {column: _best(column, entries) for column in COLUMNS}
    rows = []
    for index, entry in enumerate(entries):
        row = entry.scores.global_ if entry.scores else {}
        name = f'<td><span class="swatch c{index}"></span>{escape(entry.name)}</td>'
        scores = "".join(
            f'<td class="best">{text}</td>' if text == best[column] else f"<td>{text}</td>"
            for column in COLUMNS
            for text in [percent(row.get(column))]
        )
        others = [entry.figures.get(figure, "-") for figure in figures]
        others += [f"{entry.frames:,}", entry.speed]
        rows.append(f"<tr>{name}{scores}{''.join(f'<td>{escape(o)}</td>' for o in others)}</tr>")
    return (
        f'<h2>All sequences</h2><div class="scroll"><table class="sortable"><thead><tr>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _best(column: str, entries: Sequence[Entry]) -> str | None:
    """The text of the best score; none where there is nothing to compare."""
    values = [entry.scores.global_[column] for entry in entries if entry.scores]
    if len(values) < 2:
        return None
    return percent(min(values) if column in _FALLING else max(values))


def _bars(sequences: Sequence[str], entries: Sequence[Entry]) -> str:
    rows = []
    for rank, name in enumerate(sequences):
        bars = []
        for index, entry in enumerate(entries):
            score = score_of(entry, name)
            text = percent(score)
            bars.append(
                f'<div class="bar c{index}" title="{escape(entry.name)}: {text}"><span>'
                f'<i style="width:{100 * (score or 0):.1f}%"></i></span><b>{text}</b></div>'
            )
        rows.append(
            f'<div data-name="{escape(name)}" data-rank="{rank}"><a href="#s{rank}">'
            f"{escape(name)}</a><div>{''.join(bars)}</div></div>"
        )
    order = (
        '<div class="order"><button type="button" data-key="rank" aria-pressed="true">hardest '
        'first</button> <button type="button" data-key="name" aria-pressed="false">by name'
        "</button></div>"
    )
    return f'<h2>J&amp;F of each sequence</h2>{order}<div class="bars sorted">{"".join(rows)}</div>'


# --- one sequence --------------------------------------------------------------------------------


def _article(rank: int, sequence: str, entries: Sequence[Entry], pictures: Pictures) -> str:
    scored = [
        (index, entry, entry.scores)
        for index, entry in enumerate(entries)
        if entry.scores and sequence in entry.scores.per_sequence
    ]
    worst = {index: worst_frames(scores, sequence) for index, _, scores in scored}
    heads = "".join(
        f'<span><span class="swatch c{index}"></span>{escape(entry.name)} '
        f"<b>{percent(scores.per_sequence[sequence][HEADLINE])}</b></span>"
        for index, entry, scores in scored
    )
    frames = scored[0][2].frames[sequence]
    object_count = len(scored[0][2].object_ids[sequence])
    charts = "".join(
        _chart(measure, rank, sequence, position, scored, worst)
        for position in range(object_count)
        for measure in ("J", "F")
    )
    many = " many" if object_count > MANY_OBJECTS else ""
    strips = "".join(
        _strip(rank, sequence, index, entry, scores, worst[index], pictures)
        for index, entry, scores in scored
    )
    return (
        f'<article id="s{rank}" data-name="{escape(sequence)}" data-rank="{rank}" '
        f'data-frames="{escape(json.dumps(frames))}"><header><h3>{escape(sequence)}</h3>{heads}'
        f'</header><div class="charts{many}">{charts}</div>'
        f'<div class="shown">{strips}</div></article>'
    )


def worst_frames(scores: Scores, sequence: str, count: int = WORST_FRAMES) -> list[int]:
    """Find the scored frames of the lowest J, some way apart.

    Args:
        scores: Of the configuration.
        sequence: One of its sequences.
        count: How many at most.

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


def _chart(
    measure: str,
    rank: int,
    sequence: str,
    position: int,
    scored: Sequence[tuple[int, Entry, Scores]],
    worst: Mapping[int, Sequence[int]],
) -> str:
    lines = [
        svg.Line(
            style=f"c{index}",
            name=entry.name,
            values=scores.per_frame[sequence][measure][position],
            marks={step: f"#{_shot_id(rank, index, step)}" for step in worst[index]}
            if measure == "J"
            else {},
        )
        for index, entry, scores in scored
    ]
    scores = scored[0][2]
    object_id = scores.object_ids[sequence][position]
    name = f"{measure} of object {object_id}"
    chart = svg.line_chart(lines, scores.frames[sequence], f"{name} in {sequence} over time")
    colour = ",".join(map(str, palette()[object_id]))
    return (
        f'<figure><figcaption><span>{name} <i style="background:rgb({colour})"></i></span>'
        f'<span class="readout"></span></figcaption>{chart}</figure>'
    )


def _strip(
    rank: int,
    sequence: str,
    index: int,
    entry: Entry,
    scores: Scores,
    steps: Sequence[int],
    pictures: Pictures,
) -> str:
    shots = "".join(
        _shot(_shot_id(rank, index, step), scores, sequence, step, entry, pictures)
        for step in steps
    )
    return (
        f'<section class="c{index}"><h4><span class="swatch"></span>{escape(entry.name)}</h4>'
        f'<div class="shots">{shots}</div></section>'
    )


def _shot_id(rank: int, index: int, step: int) -> str:
    # Counted, not named: a name may hold anything.
    return f"s{rank}c{index}f{step}"


def _shot(
    shot_id: str, scores: Scores, sequence: str, step: int, entry: Entry, pictures: Pictures
) -> str:
    frame = scores.frames[sequence][step]
    truth, prediction = _draw(pictures(entry.name, sequence, frame))
    rows = zip(scores.object_ids[sequence], scores.per_frame[sequence]["J"], strict=True)
    values = [(object_id, percent(row[step])) for object_id, row in rows]
    told = ", ".join(f"{text} ({object_id})" for object_id, text in values)
    caption = f"frame {escape(frame)}, J {told if len(values) > 1 else values[0][1]}"
    where = f"{escape(sequence)}, {escape(entry.name)}"
    # Opened by its own address and closed by one that leads nowhere: no script is needed.
    return (
        f'<figure class="shot" id="{shot_id}"><a class="pair" href="#{shot_id}">'
        f'<img src="{truth}" alt="{where}, {caption}: truth"><img src="{prediction}" '
        f'alt="prediction"></a><figcaption><span>{where}, </span>{caption}</figcaption>'
        '<a class="close" href="#-" aria-label="close">&times;</a></figure>'
    )


def _draw(picture: Picture) -> tuple[str, str]:
    """The frame with the truth's outline, and with the prediction under the same outline."""
    height, width, _ = picture.image.shape
    size = (min(width, PICTURE_WIDTH_PX), max(1, height * min(width, PICTURE_WIDTH_PX) // width))
    image = np.asarray(Image.fromarray(picture.image).resize(size, Image.Resampling.LANCZOS))
    truth, prediction = (
        np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
        for ids in (picture.truth, picture.prediction)
    )
    tinted = draw_overlay(image, prediction)
    return _jpeg(_outlined(image, truth)), _jpeg(_outlined(tinted, truth))


def _outlined(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Draw a white line with a black one around it: one of them shows on any background."""
    drawn = image.copy()
    drawn[find_boundaries(ids, mode="outer")] = 0
    drawn[find_boundaries(ids, mode="inner")] = 255
    return drawn


def _jpeg(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


# --- what stands behind the numbers --------------------------------------------------------------


def _protocol(entries: Sequence[Entry]) -> str:
    scores = next((entry.scores for entry in entries if entry.scores), None)
    if scores is None:
        return ""
    told = ("name", "task", "title", "rules", *_COUNTS)
    others = {name: value for name, value in scores.protocol.items() if name not in told}
    rules = {**scores.protocol.get("rules", {}), **others}
    return f"<h2>Protocol</h2>{_definitions(rules)}"


def _facts(entries: Sequence[Entry]) -> str:
    names = dict.fromkeys(name for entry in entries for name in entry.facts)
    head = "".join(f'<th scope="col">{escape(entry.name)}</th>' for entry in entries)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{escape(entry.facts.get(name, '-'))}</td>" for entry in entries)
        + "</tr>"
        for name in names
    )
    return (
        '<h2>Configurations</h2><div class="scroll"><table class="facts"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _about(about: Mapping[str, str]) -> str:
    command = about.get("command")
    rest = {name: text for name, text in about.items() if name != "command"}
    told = f"<pre>{escape(command)}</pre>" if command else ""
    return f"<h2>This report</h2>{told}{_definitions(rest)}"


def _definitions(entries: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(text)}</dd>"
        for name, text in ((name, _text(value)) for name, value in entries.items())
        if text
    )
    return f"<dl>{rows}</dl>"


def _text(value: Any) -> str:
    """Write a value of a protocol; what is empty becomes nothing."""
    if isinstance(value, Mapping):
        parts = ((name, _text(part)) for name, part in value.items())
        return "; ".join(f"{name}: {text}" for name, text in parts if text)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
