"""A mask from prompts: features -> seeds -> walker -> sharpen -> mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from propagate.config import Config
from propagate.errors import MaskError, ModelError
from propagate.features.backbone import Backbone
from propagate.features.extract import Image, extract_features, frame_pixels
from propagate.prompts.colours import Colours, read_colours
from propagate.prompts.grid import Grid, make_grid
from propagate.prompts.label import label_object
from propagate.prompts.paint import Paint, paint_prompts
from propagate.prompts.records import Prompt, check_prompts
from propagate.prompts.seeds import covered, seeds_of
from propagate.prompts.settings import PromptSettings
from propagate.prompts.sharpen import sharpen
from propagate.records import BACKGROUND_ID, Mask

PROMPT_SETTINGS = PromptSettings()


@dataclass(frozen=True, slots=True, eq=False)
class PromptFrame:
    """A frame with what is computed once for all its prompts.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        colours: Its Lab colours.
        grid: Its cells.
    """

    image: np.ndarray
    colours: Colours
    grid: Grid


def read_prompt_frame(
    frame: Image,
    backbone: Backbone,
    config: Config,
    settings: PromptSettings = PROMPT_SETTINGS,
) -> PromptFrame:
    """Compute the features of a frame, which is most of the work.

    Args:
        frame: (H, W, 3) uint8 RGB, see `frame_pixels`.
        backbone: Computes the features.
        config: The working size.
        settings: The constants.

    Raises:
        ModelError: The features are not finite.
    """
    image = np.ascontiguousarray(frame_pixels(frame).cpu().numpy())
    features = extract_features(backbone, config, [image])[0, : backbone.channels]
    if not features.isfinite().all():
        raise ModelError(f"model {backbone.name}: features are not finite", "pass {dtype=float32}")
    colours = read_colours(image, settings)
    return PromptFrame(image, colours, make_grid(features, colours.lab, settings.reach_cells))


def prompt_mask(
    frame: PromptFrame, prompts: Sequence[Prompt], settings: PromptSettings = PROMPT_SETTINGS
) -> Mask:
    """Make the mask of a frame from prompts.

    Each object is walked to from every cell, with what is painted as other objects as background;
    a pixel belongs to the object with the highest label, if that is at least 0.5. Painted pixels
    are exactly as painted, and outside its box there is nothing of an object.

    Args:
        frame: With its features.
        prompts: In the order of painting: where two meet, the later one counts.
        settings: The constants.

    Raises:
        MaskError: See `check_prompts` and `paint_prompts`; or no pixel is left of an object.
    """
    height, width = frame.image.shape[:2]
    check_prompts(prompts, height, width)
    paints = paint_prompts(prompts, height, width)
    painted = np.any([paint.on for paint in paints], axis=0)
    labels = []
    for paint in paints:
        others = painted & ~paint.on
        label = _full_label(frame, paint, others, settings) if paint.grows else paint.on * 1.0
        labels.append(fit_to_paint(label, paint, others))
    return as_mask_of(paints, labels)


def as_mask_of(paints: Sequence[Paint], labels: Sequence[np.ndarray]) -> Mask:
    """Make the mask of all objects from their labels, (H, W) each.

    Raises:
        MaskError: No pixel is left of an object.
    """
    mask = Mask(ids=highest(paints, labels), source="prompts")
    for paint in paints:
        if paint.object_id not in mask.object_ids:
            raise MaskError(
                f"object {paint.object_id}: the prompts leave no pixel to it",
                "add a point or a stroke on it",
            )
    return mask


def fit_to_paint(label: np.ndarray, paint: Paint, others: np.ndarray) -> np.ndarray:
    """Give a label, (H, W), what is painted: 2 on the object, 0 off it and outside its boxes."""
    fitted = np.where(paint.off | others, 0.0, label)
    if paint.boxes is not None:
        fitted[~paint.boxes] = 0
    fitted[paint.on] = 2
    return fitted


def highest(paints: Sequence[Paint], labels: Sequence[np.ndarray]) -> np.ndarray:
    """Give each pixel to the object with the highest label of at least 0.5: (H, W) uint8 ids."""
    ids = np.full(labels[0].shape, BACKGROUND_ID, np.uint8)
    best = np.full(labels[0].shape, np.nextafter(0.5, 0))
    for paint, label in zip(paints, labels, strict=True):
        won = label > best
        ids[won], best[won] = paint.object_id, label[won]
    return ids


def _full_label(
    frame: PromptFrame, paint: Paint, others: np.ndarray, settings: PromptSettings
) -> np.ndarray:
    """The soft label of one object on all pixels: (H, W)."""
    grid = frame.grid
    seeds = seeds_of(paint, others, grid.shape)
    in_box = None if paint.boxes is None else covered(paint.boxes, grid.shape).ravel() > 0
    label = label_object(grid, seeds, in_box, bool(paint.off.any()), settings)
    return sharpen(label.reshape(grid.shape), frame.colours, settings)
