"""Masks sharpened by SAM or SAM 2, prompted with what propagation found.

A refined mask is a second result beside the propagated one. Nothing is ever matched against it, so
a refiner cannot mislead the propagation.

H, W: the frame; L: side of the model's masks; K: objects; P: points of each; M: masks offered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from propagate.errors import DeviceError, ModelError
from propagate.features.device import choose_device, choose_dtype
from propagate.records import BACKGROUND_ID, Mask
from propagate.refine.loading import open_sam
from propagate.refine.names import REFINERS
from propagate.refine.sam import Canvas, Prompts, Sam


@dataclass(frozen=True, slots=True)
class RefinerSettings:
    """How masks become prompts, and which refined masks are kept.

    Attributes:
        agreement: Least IoU of a refined mask with the given one. Below it, the model shows
            something else: the whole of which the object is a part, or a look-alike beside it.
        max_negatives: Most negative points. SAM is trained with up to about ten points, and
            look-alikes far away need none.
        certain_logit: The logit, in the mask prompt, of a cell that is all object; a cell without
            object has minus this. SAM 2 turns masks into these values (mask scale 20, bias -10).
    """

    agreement: float = 0.5
    max_negatives: int = 8
    certain_logit: float = 10.0


REFINER_SETTINGS = RefinerSettings()


class Refiner:
    """A loaded SAM or SAM 2 that refines the mask of one frame at a time."""

    def __init__(self, sam: Sam, source: str) -> None:
        """Take a loaded model.

        Args:
            sam: The model.
            source: The folder or hub id it came from.
        """
        self.sam = sam
        self.source = source

    @property
    def settings(self) -> dict[str, Any]:
        """Everything besides frames and masks that decides refined masks, as plain values."""
        return {
            "name": self.sam.name,
            "source": self.source,
            "dtype": str(self.sam.dtype).removeprefix("torch."),
            "weights": dict(self.sam.origin.weights),
            "model_config": dict(self.sam.origin.model_config),
            **asdict(REFINER_SETTINGS),
        }

    def refine(
        self, image: np.ndarray, mask: np.ndarray, soft: Mapping[int, np.ndarray] | None = None
    ) -> np.ndarray:
        """Refine the mask of a frame.

        The prompt of each object is its deepest point, the deepest points of the objects around it
        as negative points, its box and its mask. Of the masks that the model offers, the one with
        the highest IoU with the given mask is taken, without the parts that do not touch the given
        mask. Where two objects overlap, the higher logit wins. If the model does not agree with an
        object's mask (`RefinerSettings.agreement`), the object keeps the given mask.

        Args:
            image: (H, W, 3) uint8, RGB.
            mask: (H, W) uint8 object ids, 0 background.
            soft: Per object id, (H, W) soft labels; they move its point to where they are high.

        Returns:
            (H, W) uint8 object ids. Objects absent from `mask` stay absent.

        Raises:
            ValueError: Sizes or types differ from these.
            ModelError: The model's masks are not finite.
            DeviceError: The frame does not fit into the memory of the device.
        """
        object_ids = Mask(mask).object_ids
        if image.shape != (*mask.shape, 3) or image.dtype != np.uint8:
            raise ValueError(f"image: {(*mask.shape, 3)} uint8, not {image.shape} {image.dtype}")
        if not object_ids:
            return mask.copy()
        canvas = self.sam.canvas(*mask.shape)
        prompts = prompts_of(mask, object_ids, soft or {}, canvas, self.sam.mask_side)
        refined = {}
        try:
            maps = self.sam.encode(image, canvas)
            for i, offered in zip(object_ids, self.sam.decode(maps, prompts), strict=True):
                candidates = self.sam.to_frame(offered, canvas)  # (M, H, W)
                given = mask == i
                chosen = choose(candidates > 0, torch.from_numpy(given).to(candidates.device))
                refined[i] = without_loose_parts(candidates[chosen].cpu().numpy(), given)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"model {self.sam.name}: a frame of {mask.shape[1]}x{mask.shape[0]} does not fit "
                f"into the memory of {self.sam.device}",
                "use a smaller model or {device=cpu}",
            ) from error
        return merge(mask, refined)


def prompts_of(
    mask: np.ndarray,
    object_ids: Sequence[int],
    soft: Mapping[int, np.ndarray],
    canvas: Canvas,
    mask_side: int,
) -> Prompts:
    """Turn a mask into prompts for a model.

    Args:
        mask: (H, W) uint8 ids.
        object_ids: The objects to prompt for; each has a pixel in `mask`.
        soft: See `Refiner.refine`.
        canvas: Where the frame lies in the model's input.
        mask_side: Of mask prompts.

    Returns:
        Prompts in the order of `object_ids`. All have the same number of points: first the object's
        own, then those of the nearest other objects, nearest first.
    """
    boxes = ndimage.find_objects(mask)
    corners, points, shares = [], [], []
    for i in object_ids:
        rows, columns = box = boxes[i - 1]
        x, y = deepest_point(mask[box] == i, soft[i][box] if i in soft else None)
        points.append((columns.start + x, rows.start + y))
        corners.append((columns.start, rows.start, columns.stop - 1, rows.stop - 1))
        # One object at a time: in float32 a mask is four times as large.
        shares.append(canvas.place(torch.from_numpy(mask == i)[None].float(), mask_side))
    own = np.array(points, float)  # (K, 2)
    distance = np.linalg.norm(
        own[:, None] - own, axis=2
    )  # (K, K); 0 to itself, so that comes first
    nearest = np.argsort(distance, axis=1, kind="stable")[:, : 1 + REFINER_SETTINGS.max_negatives]
    labels = torch.zeros(nearest.shape, dtype=torch.long)  # (K, P)
    labels[:, 0] = 1
    scale = canvas.scale
    return Prompts(
        points=torch.from_numpy(own[nearest] * scale).float(),  # (K, P, 2)
        labels=labels,
        boxes=torch.from_numpy(np.array(corners) * np.tile(scale, 2)).float(),  # (K, 4)
        masks=REFINER_SETTINGS.certain_logit * (2 * torch.stack(shares) - 1),  # (K, 1, L, L)
    )


def deepest_point(region: np.ndarray, soft: np.ndarray | None = None) -> tuple[int, int]:
    """Find the pixel of a region that is farthest from its edge.

    Args:
        region: (h, w) bool, at least one True. Its own border counts as an edge.
        soft: (h, w) soft labels; the distance is multiplied by them.

    Returns:
        x and y; of several such pixels, the topmost, then the leftmost.
    """
    padded = np.pad(region, 1)
    depth = np.asarray(ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
    if soft is not None:
        # Above zero, so that no label, however small, moves the point out of the region.
        depth = depth * np.maximum(soft, 1e-6)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y)


def choose(candidates: torch.Tensor, given: torch.Tensor) -> int:
    """Find which of the candidates, (M, H, W) bool, has the highest IoU with `given`, (H, W) bool.

    The model's own score is not used: it rates how clean a mask is, not whether it shows the object
    that was followed.
    """
    shared = (candidates & given).flatten(1).sum(dim=1)
    either = (candidates | given).flatten(1).sum(dim=1)
    return int((shared / either).argmax())


def without_loose_parts(logits: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Set logits, (H, W), to zero in the components of their mask that do not touch `given`."""
    parts = np.empty(logits.shape, np.int32)
    ndimage.label(logits > 0, output=parts)
    touched = np.unique(parts[given])
    return np.where(np.isin(parts, touched[touched > 0]), logits, 0)


def merge(mask: np.ndarray, refined: Mapping[int, np.ndarray]) -> np.ndarray:
    """Put refined objects back into one mask.

    A refinement is refused, and the object stays as in `mask`, if its IoU with that is too low, by
    itself or after the other objects have taken their pixels.

    Args:
        mask: (H, W) uint8 ids, as given.
        refined: Per object id, (H, W) logits; its mask is where they are above 0.

    Returns:
        (H, W) uint8 ids.
    """
    standing = {
        i: logits
        for i, logits in refined.items()
        if _iou(logits > 0, mask == i) >= REFINER_SETTINGS.agreement
    }
    while True:
        ids = _highest(mask, standing)
        lost = [i for i in standing if _iou(ids == i, mask == i) < REFINER_SETTINGS.agreement]
        if not lost:
            return ids
        standing = {i: logits for i, logits in standing.items() if i not in lost}


def _highest(mask: np.ndarray, refined: Mapping[int, np.ndarray]) -> np.ndarray:
    """Give each pixel to the refined object with the highest logit; the others keep theirs."""
    ids = np.full_like(mask, BACKGROUND_ID)
    best = np.zeros(mask.shape, np.float32)
    for i, logits in refined.items():
        won = logits > best
        ids[won] = i
        best[won] = logits[won]
    kept = ~np.isin(mask, [BACKGROUND_ID, *refined])
    return np.where(kept, mask, ids)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def load_refiner(name: str, *, device: str = "auto", dtype: str = "auto") -> Refiner:
    """Load a refiner by name, local folder or hub id.

    Args:
        name: A key of `REFINERS`, or a folder or hub id of a SAM or SAM 2 in transformers layout.
        device: "auto" (CUDA if there is one, else CPU) or a torch device name.
        dtype: Precision of its image encoder: "auto", "float32", "bfloat16", "float16".

    Raises:
        ModelError: There is no such model, it cannot be reached, or parts of it are missing.
        DeviceError: The device is not there, or too small for the model.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    if name not in REFINERS and "/" not in name and not Path(name).exists():
        raise ModelError(
            f"no refiner is named {name!r}: pass one of {', '.join(REFINERS)}, a folder in "
            "transformers layout, or a hub id of the form owner/name"
        )
    source = REFINERS.get(name, name)
    try:
        return Refiner(open_sam(name, source, where, precision), source)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"model {name} does not fit into the memory of {where}",
            "use a smaller one, or {device=cpu}",
        ) from error
