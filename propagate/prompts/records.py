"""What a person marks on a frame: boxes, points, strokes and polygons.

Coordinates are pixels of the frame as floats, x to the right and y down: pixel i covers i..i+1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from propagate.errors import MaskError
from propagate.records import MAX_OBJECT_ID

XY = tuple[float, float]


# No frame is larger, and no hand draws more.
MAX_RADIUS_PX = 10_000
MAX_STROKE_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Box:
    """The object lies inside this box, and no pixel of it outside.

    Attributes:
        object_id: 1..254.
        x0, y0: Left and upper edge.
        x1, y1: Right and lower edge, above x0 and y0.
    """

    object_id: int
    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        _check(self, self.corners)
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise MaskError(f"{self}: is empty", "give left, top, right and bottom in this order")

    @property
    def corners(self) -> tuple[XY, ...]:
        """Two opposite corners."""
        return (self.x0, self.y0), (self.x1, self.y1)

    def __str__(self) -> str:
        return f"box {self.object_id}={_text((*self.corners[0], *self.corners[1]))}"


@dataclass(frozen=True, slots=True)
class Point:
    """A click: this pixel is, or is not, of the object.

    Attributes:
        object_id: 1..254.
        x, y: The place.
        on: Whether it is of the object.
    """

    object_id: int
    x: float
    y: float
    on: bool = True

    def __post_init__(self) -> None:
        _check(self, self.corners)

    @property
    def corners(self) -> tuple[XY, ...]:
        """The place."""
        return ((self.x, self.y),)

    def __str__(self) -> str:
        return f"point {self.object_id}={_text(self.corners[0])}{'' if self.on else ',off'}"


@dataclass(frozen=True, slots=True)
class Stroke:
    """A stroke of a brush: the pixels under it are, or are not, of the object.

    Attributes:
        object_id: 1..254.
        points: The path, (x, y) each; at least one.
        radius: Of the brush, in pixels, above 0. Every pixel whose centre is this near to the path
            is painted; with a thin brush, every pixel that the path runs through the middle of.
        on: Whether they are of the object.
    """

    object_id: int
    points: tuple[XY, ...]
    radius: float = 3.0
    on: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _path(self.points))
        _check(self, self.points)
        if not self.points:
            raise MaskError(f"{self}: has no point", "give at least one")
        if not 0 < self.radius <= MAX_RADIUS_PX:
            raise MaskError(
                f"{self}: a radius above 0, {MAX_RADIUS_PX} at most, not {self.radius:g}"
            )
        if len(self.points) > MAX_STROKE_POINTS:
            raise MaskError(
                f"{self}: a stroke of {MAX_STROKE_POINTS} points at most, not {len(self.points)}"
            )

    @property
    def corners(self) -> tuple[XY, ...]:
        """The path."""
        return self.points

    def __str__(self) -> str:
        path = ":".join(_text(point) for point in self.points[:3])
        more = ":..." if len(self.points) > 3 else ""
        return f"stroke {self.object_id}={path}{more}{'' if self.on else ',off'}"


@dataclass(frozen=True, slots=True)
class Polygon:
    """An outline: every pixel whose centre is inside is of the object.

    Where the outline crosses itself, what is enclosed twice is outside (even-odd rule).

    Attributes:
        object_id: 1..254.
        points: The corners, (x, y) each; at least three. The last is joined to the first.
    """

    object_id: int
    points: tuple[XY, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _path(self.points))
        _check(self, self.points)
        if len(self.points) < 3:
            raise MaskError(f"{self}: has {len(self.points)} corners", "give at least three")

    @property
    def corners(self) -> tuple[XY, ...]:
        """The corners."""
        return self.points

    def __str__(self) -> str:
        path = ":".join(_text(point) for point in self.points[:3])
        return f"polygon {self.object_id}={path}{':...' if len(self.points) > 3 else ''}"


Prompt = Box | Point | Stroke | Polygon


def check_prompts(prompts: Sequence[Prompt], height: int, width: int) -> None:
    """Refuse prompts that do not fit the frame, or say nothing about where an object is.

    Args:
        prompts: Of one frame.
        height, width: Of the frame, in pixels.

    Raises:
        MaskError: There is no prompt, one reaches out of the frame, or an object has only places
            where it is not.
        TypeError: One is none of the four kinds.
    """
    if not prompts:
        raise MaskError("no prompt is given", "give a Box, Point, Stroke or Polygon")
    for prompt in prompts:
        if not isinstance(prompt, Prompt):
            raise TypeError(f"prompts: a Box, Point, Stroke or Polygon, not {prompt!r}")
        # A point names one pixel; the other kinds may end at the far edge of the last one.
        for x, y in prompt.corners:
            beyond = x >= width or y >= height if isinstance(prompt, Point) else False
            if not (0 <= x <= width and 0 <= y <= height) or beyond:
                raise MaskError(
                    f"{prompt}: {_text((x, y))} lies outside the frame of {width}x{height}",
                    "x goes from 0 to the width, y from 0 to the height",
                )
    placed = {p.object_id for p in prompts if getattr(p, "on", True)}
    for prompt in prompts:
        if prompt.object_id not in placed:
            raise MaskError(
                f"{prompt}: nothing says where object {prompt.object_id} is, only where not",
                "add a point, a stroke, a box or a polygon on it",
            )


def _path(points: Sequence[XY]) -> tuple[XY, ...]:
    try:
        return tuple((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError) as error:
        raise MaskError(f"points: pairs of x and y, not {points!r}") from error


def _check(prompt: Prompt, points: Sequence[XY]) -> None:
    i = prompt.object_id
    if isinstance(i, bool) or not isinstance(i, int) or not 1 <= i <= MAX_OBJECT_ID:
        raise MaskError(f"{prompt}: an object id is one of 1..{MAX_OBJECT_ID}, not {i!r}")
    if not all(math.isfinite(number) for point in points for number in point):
        raise MaskError(f"{prompt}: coordinates are finite numbers")


def _text(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
