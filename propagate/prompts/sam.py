"""Masks from prompts by SAM or SAM 2, where the model is installed."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from propagate.errors import DeviceError
from propagate.prompts.paint import Paint, paint_prompts
from propagate.prompts.prompt import as_mask_of, fit_to_paint
from propagate.prompts.records import XY, Box, Point, Polygon, Prompt, Stroke, check_prompts
from propagate.records import Mask
from propagate.refine.sam import Canvas, Sam

# Points of a stroke or a polygon that SAM is told of. It is trained with few.
_MOST_POINTS = 8


class SamPrompter:
    """A loaded SAM that keeps its maps of the last frame, so that another prompt costs little."""

    def __init__(self, sam: Sam) -> None:
        """Take a loaded model, for example `load_refiner("sam2").sam`."""
        self.sam = sam
        self._last: tuple[np.ndarray, list[torch.Tensor]] | None = None

    def prompt(self, image: np.ndarray, prompts: Sequence[Prompt]) -> Mask:
        """Make the mask of a frame.

        Of one click, the mask that the model rates best of three; of more, its single mask. The
        on-places of other objects are off-places of each. What is painted is kept exactly, and
        outside its box there is nothing of an object.

        Args:
            image: (H, W, 3) uint8, RGB.
            prompts: See `prompt_mask`.

        Raises:
            MaskError: See `prompt_mask`.
            ModelError: The model's masks are not finite.
            DeviceError: The frame does not fit into the memory of the device.
        """
        height, width = image.shape[:2]
        check_prompts(prompts, height, width)
        paints = paint_prompts(prompts, height, width)
        painted = np.any([paint.on for paint in paints], axis=0)
        canvas = self.sam.canvas(height, width)
        labels = []
        try:
            for paint in paints:
                label = paint.on * 1.0
                if paint.grows:
                    label = self._label(image, canvas, prompts, paint)
                labels.append(fit_to_paint(label, paint, painted & ~paint.on))
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"model {self.sam.name}: a frame of {width}x{height} does not fit into the memory "
                f"of {self.sam.device}",
                "use a smaller model or {device=cpu}",
            ) from error
        return as_mask_of(paints, labels)

    def _label(
        self, image: np.ndarray, canvas: Canvas, prompts: Sequence[Prompt], paint: Paint
    ) -> np.ndarray:
        """Compute the probability of one object: (H, W).

        The model takes one box, so boxes that lie apart are asked for one by one.
        """
        points, switches = _places(prompts, paint.object_id)
        if paint.boxes is None:
            return self._label_of(image, canvas, points, switches, None)
        found, _ = ndimage.label(paint.boxes)  # type: ignore[misc]
        label = np.zeros(paint.boxes.shape)
        for i, (rows, columns) in enumerate(ndimage.find_objects(found), 1):
            box = np.array([columns.start, rows.start, columns.stop - 1, rows.stop - 1], float)
            # Places on the object that are in another box say nothing here.
            near = [
                k
                for k, (x, y) in enumerate(points)
                if not switches[k] or _at(found, x, y) in (0, i)
            ]
            own = self._label_of(
                image, canvas, [points[k] for k in near], [switches[k] for k in near], box
            )
            label = np.where(found == i, own, label)
        return label

    def _label_of(
        self,
        image: np.ndarray,
        canvas: Canvas,
        points: list[XY],
        switches: list[int],
        box: np.ndarray | None,
    ) -> np.ndarray:
        """Ask the model for one object, or for what one box holds of it: (H, W)."""
        several = box is None and len(points) == 1
        logits, ratings = self.sam.predict(
            self._maps(image, canvas),
            None if not points else np.array(points) * canvas.scale,
            np.array(switches),
            None if box is None else box * np.tile(canvas.scale, 2),
            several=several,
        )
        best = logits[int(ratings.argmax()) : int(ratings.argmax()) + 1]
        return self.sam.to_frame(best, canvas)[0].sigmoid().cpu().numpy()

    def _maps(self, image: np.ndarray, canvas: Canvas) -> list[torch.Tensor]:
        if self._last is None or not np.array_equal(self._last[0], image):
            self._last = image.copy(), self.sam.encode(image, canvas)
        return self._last[1]


def _at(numbers: np.ndarray, x: float, y: float) -> int:
    """Look up the number of the pixel at a place; the far edges belong to the last pixels."""
    height, width = numbers.shape
    return int(numbers[min(int(y), height - 1), min(int(x), width - 1)])


def _places(prompts: Sequence[Prompt], object_id: int) -> tuple[list[XY], list[int]]:
    """Collect the points of one object, and 1 on it, 0 off it."""
    points, switches = [], []
    for prompt in prompts:
        on = getattr(prompt, "on", True)
        own = prompt.object_id == object_id
        if isinstance(prompt, Box) or not (own or on):
            continue
        chosen = _spread(prompt)
        points += chosen
        switches += [int(own and on)] * len(chosen)
    return points, switches


def _spread(prompt: Point | Stroke | Polygon) -> list[XY]:
    """Take evenly spaced points of a path; of a polygon, its middle."""
    path = prompt.corners
    if isinstance(prompt, Polygon):
        return [tuple(np.mean(path, axis=0).tolist())]
    if len(path) <= _MOST_POINTS:
        return list(path)
    return [path[i] for i in np.linspace(0, len(path) - 1, _MOST_POINTS).astype(int)]
