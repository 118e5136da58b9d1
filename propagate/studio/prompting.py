"""A mask of one object from what a person marks on a frame."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from PIL import Image

from propagate.errors import MaskError
from propagate.prompts.records import Box, Point, Polygon, Prompt, Stroke

if TYPE_CHECKING:
    from propagate.pipeline import Propagator
    from propagate.prompts.prompt import PromptFrame

# Frames whose features are kept: somebody goes back and forth between a few.
KEPT_FRAMES = 4
MOST_PROMPTS = 1000
_METHODS = ("walker", "sam")


class Prompter:
    """Makes masks from prompts, and keeps the features of the last few frames.

    One prompt is computed at a time. Frames are taken as their JPEGs show them: the mask is one
    that the person looks at and corrects, and no frame has to be decoded again for it.
    """

    def __init__(self, load: "Callable[[], Propagator]") -> None:
        """Take what returns the model, loading it the first time."""
        self._load = load
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], PromptFrame] = OrderedDict()

    def mask(
        self,
        project: str,
        frame: int,
        jpeg: bytes,
        prompts: Sequence[Mapping[str, Any]],
        method: str,
    ) -> np.ndarray:
        """Make the mask of one object.

        Args:
            project: Id of the project.
            frame: Which frame of it.
            jpeg: The frame.
            prompts: As the page sends them: boxes, points, strokes and polygons.
            method: "walker" or "sam".

        Returns:
            (H, W) uint8: 1 where the object is.

        Raises:
            MaskError: A prompt cannot be used.
            ModelError: The model cannot be loaded.
        """
        if method not in _METHODS:
            raise MaskError(f"{method!r}: no method", "choose walker or sam")
        read = _read_prompts(prompts)
        with self._lock:
            propagator = self._load()
            seen = self._seen(propagator, (project, frame), jpeg)
            kind = cast(Literal["walker", "sam"], method)
            return propagator.prompt(seen, read, method=kind).ids

    def _seen(self, propagator: "Propagator", key: tuple[str, int], jpeg: bytes) -> "PromptFrame":
        if key not in self._frames:
            with Image.open(io.BytesIO(jpeg)) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._frames[key] = propagator.prompt_frame(pixels)
            if len(self._frames) > KEPT_FRAMES:
                self._frames.popitem(last=False)
        self._frames.move_to_end(key)
        return self._frames[key]


def _read_prompts(prompts: Sequence[Mapping[str, Any]]) -> list[Prompt]:
    """Make the records of prompts, all of object 1."""
    if not isinstance(prompts, list) or not 0 < len(prompts) <= MOST_PROMPTS:
        raise MaskError(f"prompts: a list of 1 to {MOST_PROMPTS}")
    return [_read_prompt(prompt) for prompt in prompts]


def _read_prompt(prompt: Mapping[str, Any]) -> Prompt:
    try:
        kind = prompt["kind"]
        if kind == "box":
            x0, y0, x1, y1 = map(float, prompt["box"])
            return Box(1, x0, y0, x1, y1)
        if kind == "point":
            on = bool(prompt.get("on", True))
            return Point(1, float(prompt["x"]), float(prompt["y"]), on=on)
        points = tuple((float(x), float(y)) for x, y in prompt["points"])
        if kind == "polygon":
            return Polygon(1, points)
        if kind == "stroke":
            on = bool(prompt.get("on", True))
            return Stroke(1, points, radius=float(prompt["radius"]), on=on)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        pass
    raise MaskError("a prompt is none of box, point, stroke and polygon")
