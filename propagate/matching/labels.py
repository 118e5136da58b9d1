"""Labels: from object ids to soft labels of the grid, and back. Shapes: see `cells.py`."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from propagate.matchers import MaskSettings, Reduction


def labels_from_ids(
    ids: torch.Tensor, object_ids: Sequence[int], grid: tuple[int, int], reduction: Reduction
) -> torch.Tensor:
    """Reduce a mask to soft labels of a grid.

    Args:
        ids: (H, W) uint8; an id that is neither 0 nor listed is void.
        object_ids: K ids; label i + 1 stands for object_ids[i].
        grid: (h, w).
        reduction: See `CellSettings`.

    Returns:
        (h, w, L) float32. Void has no label, so a cell sums to less than one by its void share.
    """
    mode = {"share": "area", "nearest": "nearest-exact", "linear": "bilinear"}[reduction]
    # One label at a time: a hundred objects need no hundred full-size maps.
    shares = [
        F.interpolate((ids == i)[None, None].float(), grid, mode=mode)[0, 0]
        for i in (0, *object_ids)
    ]
    return torch.stack(shares, dim=-1)


def give_to_background(labels: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """Give soft labels (h, w, L) to background where `dropped`, (L,) or (h, w, L) bool, is set."""
    kept = torch.where(dropped, 0, labels)
    kept[..., 0] += (labels * dropped).sum(-1)
    return kept


def ids_from_labels(
    labels: torch.Tensor,
    object_ids: Sequence[int],
    size: tuple[int, int],
    settings: MaskSettings,
    stride: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Enlarge soft labels to the frame and let the largest label win at each pixel.

    Args:
        labels: (h, w, L).
        object_ids: K ids, as for `labels_from_ids`.
        size: (H, W).
        settings: Which labels are stretched, and whether the mask is made on an intermediate grid.
        stride: Of the features, in pixels of the working size; only used with `through_grid`.

    Returns:
        (H, W) uint8 ids; the winner's soft label (H, W) float32, not stretched; and its margin over
        the best of the others, (H, W) float32, which is below 0 where stretching decided.
    """
    height, width, _ = labels.shape
    area = (height * stride, width * stride) if settings.through_grid else size
    maps = labels.permute(2, 0, 1)
    background = _enlarged(maps[0], area)
    winner = torch.zeros(area, dtype=torch.uint8, device=labels.device)
    best = _stretched(background, *background.aminmax(), settings).clone()
    strength, first, second = background, background.clone(), torch.zeros_like(background)
    # One label at a time, and only where it is not zero: a hundred objects need no hundred maps.
    for soft, object_id, box in zip(maps[1:], object_ids, _boxes(maps[1:], area), strict=True):
        inside = _enlarged(soft, area)[box]
        low, high = inside.aminmax() if inside.shape == area else (0, inside.amax())
        rival = _stretched(inside, low, high, settings)
        better = rival > best[box]
        torch.maximum(rival, best[box], out=best[box])
        torch.where(better, inside, strength[box], out=strength[box])
        winner[box].masked_fill_(better, object_id)
        torch.maximum(second[box], first[box].minimum(inside), out=second[box])
        torch.maximum(first[box], inside, out=first[box])
    margin = strength - torch.where(strength == first, second, first)
    if area != size:
        winner = F.interpolate(winner[None, None], size, mode="nearest-exact")[0, 0]
        strength, margin = F.interpolate(
            torch.stack([strength, margin])[None], size, mode="nearest-exact"
        )[0]
    return winner, strength, margin


def _enlarged(soft: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge a map (h, w) to (H, W)."""
    return F.interpolate(soft[None, None], size, mode="bilinear")[0, 0]


def _stretched(
    soft: torch.Tensor, low: torch.Tensor | int, high: torch.Tensor, settings: MaskSettings
) -> torch.Tensor:
    """Stretch a map (H, W) from its range, low to high, to 0..1, if it is to be stretched."""
    threshold = settings.stretch_above
    # A label that is the same everywhere, but for rounding, has no shape to stretch.
    if threshold is not None and high >= threshold and high - low > 1e-6 * high:
        return (soft - low) / (high - low)
    return soft


def _boxes(maps: torch.Tensor, size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Bound the places where maps (N, h, w), enlarged to a size, can be above zero.

    Returns:
        Rows and columns for each map.
    """
    boxes = []
    held = maps != 0
    for across in zip(held.any(2).tolist(), held.any(1).tolist(), strict=True):
        spans = []
        for cells, pixels in zip(across, size, strict=True):
            stride = pixels / len(cells)
            at = [cell for cell, is_held in enumerate(cells) if is_held] or [0]
            # Interpolation spreads a cell as far as the centres of its neighbours.
            start = math.floor((at[0] - 0.5) * stride) - 1
            stop = math.ceil((at[-1] + 1.5) * stride) + 1
            spans.append(slice(max(0, start), min(pixels, stop)))
        boxes.append((spans[0], spans[1]))
    return boxes
