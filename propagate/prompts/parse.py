"""Prompts as text, as the command line takes them: `1=10,20` or, on frame 60, `1@60=10,20`."""

import re
from collections.abc import Sequence

from propagate.errors import MaskError, PropagateError
from propagate.prompts.records import XY, Box, Point, Polygon, Prompt, Stroke

FORMS = {
    "box": "1=x0,y0,x1,y1",
    "point": "1=x,y or 1=x,y,off",
    "stroke": "1=x,y:x,y:x,y@RADIUS or 1=x,y:x,y@RADIUS,off",
    "polygon": "1=x,y:x,y:x,y",
}


def parse_prompt(kind: str, text: str, frame: int) -> tuple[int, Prompt]:
    """Read one prompt.

    Args:
        kind: A key of `FORMS`.
        text: In that form; `@` and a frame number may follow the object id.
        frame: That it belongs to, if it names none.

    Returns:
        The frame, and the prompt.

    Raises:
        ValueError: It has another form; the message says the right one.
    """
    found = re.fullmatch(r"\s*([0-9]+)(?:@([0-9]+))?=(.*)", text, re.DOTALL)
    try:
        if not found:
            raise ValueError("no object id")
        object_id, at, value = int(found[1]), found[2], found[3].strip()
        return (frame if at is None else int(at)), _READERS[kind](object_id, value)
    except MaskError as error:
        raise ValueError(f"{text!r}: {_reason(error)}") from error
    except ValueError as error:
        raise ValueError(f"{text!r}: not a {kind}, which is {FORMS[kind]}") from error


def _reason(error: PropagateError) -> str:
    """Say what is wrong, without the prompt's own text, which stands before it already."""
    what = error.message.partition(": ")[2] or error.message
    return f"{what}; {error.hint}" if error.hint else what


def _box(object_id: int, value: str) -> Prompt:
    x0, y0, x1, y1 = _numbers(value)
    return Box(object_id, x0, y0, x1, y1)


def _point(object_id: int, value: str) -> Prompt:
    value, on = _switch(value)
    return Point(object_id, *_pair(value), on=on)


def _stroke(object_id: int, value: str) -> Prompt:
    value, on = _switch(value)
    path, at, radius = value.partition("@")
    points = _path(path)
    return Stroke(object_id, points, float(radius), on) if at else Stroke(object_id, points, on=on)


def _polygon(object_id: int, value: str) -> Prompt:
    return Polygon(object_id, _path(value))


_READERS = {"box": _box, "point": _point, "stroke": _stroke, "polygon": _polygon}


def _switch(value: str) -> tuple[str, bool]:
    """Take `,on` or `,off` off the end."""
    for word, on in ((",off", False), (",on", True)):
        if value.endswith(word):
            return value.removesuffix(word), on
    return value, True


def _path(value: str) -> tuple[XY, ...]:
    return tuple(_pair(part) for part in value.split(":"))


def _pair(value: str) -> XY:
    x, y = _numbers(value)
    return x, y


def _numbers(value: str) -> Sequence[float]:
    return [float(part) for part in value.split(",")]
