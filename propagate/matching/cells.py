"""Matching: features made comparable, and the labels that the matches of a cell give it.

Pure functions. The letters of every shape:

    H W  pixels of the frame          h w  cells of the feature grid      C  channels
    M    frames of the memory         k    matches kept per cell          L  labels: K objects + 1

Label 0 is background. Features are L2-normalised, channels last, so that a cosine is a dot product
over contiguous numbers. A cell of the memory has one number: m * h * w + y * w + x.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F


def normalize(
    features: torch.Tensor, mean: torch.Tensor | None = None, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn (C, h, w) features into (h, w, C) vectors of length one.

    Args:
        features: (C, h, w).
        mean, scale: (C,), from `channel_statistics`: what all cells share is taken away, and every
            channel counts alike, before the length is made one.
    """
    cells = features.permute(1, 2, 0)
    if mean is not None and scale is not None:
        # Laid out first: what follows then runs over contiguous numbers.
        cells = (cells.contiguous() - mean).div_(scale)
    return F.normalize(cells, dim=-1).contiguous()


def join_colors(cells: torch.Tensor, colors: torch.Tensor, weight: float) -> torch.Tensor:
    """Let colours count beside features.

    Args:
        cells: (h, w, C), normalised.
        colors: (h, w, D), normalised.
        weight: Of the colours.

    Returns:
        (h, w, C + D), normalised: its cosines are (cos of cells + weight^2 cos of colors) /
        (1 + weight^2).
    """
    return torch.cat([cells, weight * colors], dim=-1).div_(math.sqrt(1 + weight**2))


def within_reach(labels: torch.Tensor, radius: int) -> torch.Tensor:
    """Mark the cells with a label other than background within the window, in any frame.

    Args:
        labels: (M, h, w, L) soft labels.
        radius: Of the window, in cells.

    Returns:
        (h, w) bool. Where it is false, whatever is matched votes for background.
    """
    return widened((labels[..., 1:] > 0).any(-1).any(0)[None], radius)[0]


def widened(regions: torch.Tensor, by: int) -> torch.Tensor:
    """Add to regions, (N, h, w) bool, all cells that are so many rows and columns off, or fewer."""
    side = 2 * by + 1
    # A square is a row of columns, which is far less to look at.
    rows = F.max_pool2d(regions[:, None].float(), (1, side), stride=1, padding=(0, by))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(by, 0))[:, 0] > 0


def channel_statistics(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel over a frame (C, h, w): two (C,) tensors."""
    spread, mean = torch.std_mean(features.flatten(1), dim=1, correction=0)
    # A channel that says the same everywhere says nothing: it stays at zero.
    return mean, torch.where(spread < 1e-6, torch.inf, spread)


def propagate_labels(
    values: torch.Tensor, cells: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Let the matches of each cell vote: a soft-max of their cosines weighs their labels.

    Args:
        values, cells: (..., k), as `local_top_k` gives them, in any order.
        labels: (M, h, w, L) soft labels of the memory. A cell that sums to less than one is void by
            the rest, and votes that much less.
        temperature: Divides the cosines.

    Returns:
        (..., L) soft labels that sum to one; background where nothing voted.
    """
    k = values.shape[-1]
    # Where there is no match at all, a soft-max of nothing but -inf would be NaN.
    unmatched = values.amax(-1, keepdim=True) == -torch.inf
    weights = torch.softmax(values / temperature, dim=-1).masked_fill(unmatched, 0)
    voted = F.embedding_bag(
        cells.view(-1, k),
        labels.flatten(0, 2),
        per_sample_weights=weights.view(-1, k),
        mode="sum",
    )  # (n, L)
    total = voted.sum(1, keepdim=True)
    silent = total < 1e-6
    voted = torch.where(silent, 0, voted / total.clamp_min(1e-6))
    voted[:, :1] += silent.to(voted.dtype)
    return voted.view(*values.shape[:-1], -1)


def best_cosines(best: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The best cosine that cells of each label have, the median over the cells where it wins.

    Args:
        best: (h, w), the best cosine of each cell.
        labels: (h, w, L) soft labels.

    Returns:
        (L,); NaN for a label that wins nowhere.
    """
    winner = labels.argmax(-1)
    medians = [best[winner == label].median() for label in range(labels.shape[-1])]
    return torch.stack(medians)


def doubted(
    labels: torch.Tensor, values: torch.Tensor, rival: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Let background vote beside the matches of each cell.

    Args:
        labels: (..., L) soft labels, as `propagate_labels` gives them.
        values: (..., k) cosines they were voted with.
        rival: (...,) the cosine background votes with; -inf: it does not.
        temperature: Divides the cosines.

    Returns:
        (..., L) soft labels: those of a soft-max over k + 1 votes.
    """
    share = torch.sigmoid(rival / temperature - torch.logsumexp(values / temperature, dim=-1))
    # Nothing matched, and background does not vote: the difference of two infinities.
    share = torch.nan_to_num(share)
    labels = labels * (1 - share)[..., None]
    labels[..., 0] += share
    return labels


def instance_prototypes(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Average the features under each label: PDM's masked appearance features, summed (eq. 4).

    Equation 5 averages n dot products with one target vector; that is one dot product with the mean
    of the n features, which is what this gives.

    Args:
        features: (..., C) cells of one or more reference frames.
        labels: (..., L) in 0..1, of the same cells.

    Returns:
        (L, C); zero for a label that covers nothing.
    """
    weights = labels.flatten(0, -2)  # (n, L)
    return weights.T @ features.flatten(0, -2) / weights.sum(0).clamp_min(1e-6)[:, None]


def appearance_map(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """PDM's appearance similarity S_A of every cell to every instance (Samuel et al. 2024, eq. 5).

    Args:
        features: (..., C) of the target frame.
        prototypes: (L, C), as `instance_prototypes` gives them.

    Returns:
        (..., L) dot products.
    """
    return features @ prototypes.T


def fused_on_one_scale(
    appearance: torch.Tensor,
    semantic: torch.Tensor,
    reference_appearance: torch.Tensor,
    reference_semantic: torch.Tensor,
) -> torch.Tensor:
    """Average appearance and semantic maps (PDM, eq. 7), each brought to one scale before.

    The paper brings them to none, and a semantic map of raw dot products drowns the other. Here
    both have mean zero and spread one on the reference frames.

    Args:
        appearance: (..., L) of the target, S_A.
        semantic: (..., L) of the target, S_S; NaN for a label without a class, which is left to
            appearance alone.
        reference_appearance, reference_semantic: (R, h, w, L), the same of the reference frames.

    Returns:
        (..., L).
    """

    def scaled(maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        spread, mean = torch.std_mean(reference.flatten(0, -2), dim=0, correction=0)  # (L,)
        return (maps - mean) / spread.clamp_min(1e-6)

    of_appearance = scaled(appearance, reference_appearance)
    of_class = scaled(semantic, reference_semantic)
    return torch.where(of_class.isnan(), of_appearance, (of_appearance + of_class) / 2)


def appearance_floor(appearance: torch.Tensor, labels: torch.Tensor, share: float) -> torch.Tensor:
    """The appearance that all but `share` of an instance's own cells reach on its reference frame.

    Args:
        appearance: (..., L) of the reference frames themselves.
        labels: (..., L) of the reference frames.
        share: 0..1.

    Returns:
        (L,): the quantile over the cells that carry at least half of the label's largest share; inf
        for a label without cells.
    """
    floors = appearance.new_full((labels.shape[-1],), torch.inf)
    for label in range(labels.shape[-1]):
        carried = labels[..., label]
        if carried.any():
            own = appearance[..., label][carried >= 0.5 * carried.max()]
            floors[label] = own.quantile(share)
    return floors


def centre(weights: torch.Tensor) -> torch.Tensor:
    """Centre of mass (y, x) of (h, w) weights, in cells."""
    height, width = weights.shape
    total = weights.sum().clamp_min(1e-6)
    rows = torch.arange(height, device=weights.device)
    columns = torch.arange(width, device=weights.device)
    return torch.stack([weights.sum(1) @ rows.float(), weights.sum(0) @ columns.float()]) / total


def moved_instance(
    features: torch.Tensor, labels: torch.Tensor, label: int, by: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move one instance of a frame to where it has gone, and make all around it void.

    An instance that has moved farther than the search window reaches is out of reach of its own
    reference; moved along with it, the reference is within reach again.

    Args:
        features: (h, w, C) of the frame.
        labels: (h, w, L) of the frame.
        label: Which one.
        by: (dy, dx) cells; what leaves the grid is lost.

    Returns:
        Features and labels like those given, zero wherever the instance is not.
    """
    (rows_to, rows), (columns_to, columns) = map(_overlap, by, labels.shape[:2])
    own = labels[rows, columns, label]
    moved_features, moved_labels = torch.zeros_like(features), torch.zeros_like(labels)
    moved_labels[rows_to, columns_to, label] = own
    moved_features[rows_to, columns_to] = features[rows, columns] * (own > 0)[..., None]
    return moved_features, moved_labels


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Where cells land and where they come from, along one side, when moved by so many."""
    kept = max(0, size - abs(by))
    to, whence = max(0, by), max(0, -by)
    return slice(to, to + kept), slice(whence, whence + kept)


def labels_from_ids(
    ids: torch.Tensor,
    object_ids: list[int],
    grid: tuple[int, int],
    reduction: Literal["share", "nearest", "linear"],
) -> torch.Tensor:
    """Reduce a mask to soft labels of the feature grid.

    Args:
        ids: (H, W) uint8; an id that is neither 0 nor listed is void.
        object_ids: K ids; label i + 1 stands for object_ids[i].
        grid: (h, w).
        reduction: "share": the share of a cell that an id covers. "nearest": the pixel at its
            centre. "linear": the four pixels around its centre.

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


def ids_from_labels(
    labels: torch.Tensor,
    object_ids: list[int],
    size: tuple[int, int],
    *,
    stretch_above: float | None = None,
    stride: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Enlarge soft labels to the frame and let the largest win at each pixel.

    Args:
        labels: (h, w, L).
        object_ids: K ids, as for `labels_from_ids`.
        size: (H, W).
        stretch_above: Stretch each label whose peak reaches this to 0..1 before they compete; None:
            none.
        stride: Enlarge to the grid times this, and take the winners to the frame by nearest
            neighbour; None: straight to the frame.

    Returns:
        (H, W) uint8 ids; the winner's soft label (H, W) float32, not stretched; and by how much it
        is above the best of the others, (H, W) float32: below 0 where stretching decided.
    """
    height, width, _ = labels.shape
    area = size if stride is None else (height * stride, width * stride)
    winner = torch.zeros(area, dtype=torch.uint8, device=labels.device)
    strength = labels.new_zeros(area)
    best = labels.new_full(area, -torch.inf)
    first, second = labels.new_zeros(area), labels.new_zeros(area)
    # One label at a time, and where it is not zero: a hundred objects need no hundred whole maps.
    maps = labels.permute(2, 0, 1)
    for soft, object_id, box in zip(maps, [0, *object_ids], _boxes(maps, area), strict=True):
        large = F.interpolate(soft[None, None], area, mode="bilinear")[0, 0]
        rival = inside = large[box]
        low, high = inside.aminmax() if inside.shape == area else (0, inside.amax())
        # What is the same everywhere but for rounding has no shape to stretch.
        if stretch_above is not None and high >= stretch_above and high - low > 1e-6 * high:
            rival = (inside - low) / (high - low)
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


def _boxes(maps: torch.Tensor, size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Give the rows and columns outside which the maps (N, h, w), enlarged to a size, are zero.

    Background, the first, takes part everywhere.
    """
    boxes = [(slice(0, size[0]), slice(0, size[1]))]
    held = maps[1:] != 0
    for across in zip(held.any(2).tolist(), held.any(1).tolist(), strict=True):
        spans = []
        for cells, pixels in zip(across, size, strict=True):
            stride = pixels / len(cells)
            at = [cell for cell, is_held in enumerate(cells) if is_held] or [0]
            # A cell reaches as far as the centres of those next to it.
            start = math.floor((at[0] - 0.5) * stride) - 1
            stop = math.ceil((at[-1] + 1.5) * stride) + 1
            spans.append(slice(max(0, start), min(pixels, stop)))
        boxes.append((spans[0], spans[1]))
    return boxes
