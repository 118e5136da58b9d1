"""Matching: which memory cells a cell of this frame resembles, and the labels they give it.

Pure functions. The letters of every shape:

    H W  pixels of the frame          h w  cells of the feature grid      C  channels
    M    frames of the memory         k    matches kept per cell          L  labels: K objects + 1

Label 0 is background. Features are L2-normalised, channels last, so that a cosine is a dot product
over contiguous numbers. A cell of the memory has one number: m * h * w + y * w + x.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

# Side of the square of query cells that share one search area, and the number of keys whose maximum
# stands for all of them while the best are looked for. Measured on two cores at 60 x 107 cells.
TILE = 8
GROUP = 16


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
    objects = (labels[..., 1:] > 0).any(-1).any(0).float()  # (h, w)
    side = 2 * radius + 1
    # A square is a row of columns, which is far less to look at.
    rows = F.max_pool2d(objects[None, None], (1, side), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(radius, 0))[0, 0] > 0


def channel_statistics(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel over a frame (C, h, w): two (C,) tensors."""
    spread, mean = torch.std_mean(features.flatten(1), dim=1, correction=0)
    # A channel that says the same everywhere says nothing: it stays at zero.
    return mean, torch.where(spread < 1e-6, torch.inf, spread)


def local_top_k(
    query: torch.Tensor,
    memory: Sequence[torch.Tensor] | torch.Tensor,
    top_k: int,
    radius: int,
    window: Literal["square", "circle"] = "square",
    needed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the most similar memory cells of every query cell, within a window around it.

    The grid is worked through in tiles; no tensor is larger than TILE^2 x M (TILE + 2 radius)^2, or
    the keys of one row of tiles.

    Args:
        query: (h, w, C), normalised.
        memory: M frames (h, w, C), normalised.
        top_k: Matches to keep; fewer exist at the border of a small grid.
        radius: Reach of the window in cells; a radius of max(h, w) is the whole frame.
        window: "square": |dy|, |dx| <= radius. "circle": dy^2 + dx^2 < radius^2.
        needed: (h, w) bool: tiles in which no query cell is needed get no matches. None: all are.

    Returns:
        Cosines (h, w, k) in falling order, -inf where there is no match, and their memory cells
        (h, w, k) int64. Which of several equal cosines is kept at the k-th place is not defined.
    """
    values, cells = _search(query, [memory], top_k, radius, window, needed)
    return values[0], cells[0]


def local_top_k_of_each(
    query: torch.Tensor,
    memory: Sequence[torch.Tensor] | torch.Tensor,
    top_k: int,
    radius: int,
    window: Literal["square", "circle"] = "square",
    needed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the most similar cells of every query cell in each frame of the memory.

    Args:
        query, memory, top_k, radius, window, needed: As for `local_top_k`.

    Returns:
        Cosines (M, h, w, k) and cells (M, h, w, k), as `local_top_k` gives them for each frame
        alone: the number of a cell is y * w + x.
    """
    return _search(query, [[frame] for frame in memory], top_k, radius, window, needed)


def _search(
    query: torch.Tensor,
    parts: Sequence[Sequence[torch.Tensor] | torch.Tensor],
    top_k: int,
    radius: int,
    window: Literal["square", "circle"],
    needed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do `local_top_k` in each part of a memory, of as many frames each: (P, h, w, k) both."""
    frames, channels = len(parts[0]), query.shape[-1]
    height, width = query.shape[:2]
    if needed is None:
        needed = torch.ones(height, width, dtype=torch.bool, device=query.device)
    values = query.new_full((len(parts), height, width, top_k), -torch.inf)
    cells = torch.zeros(values.shape, dtype=torch.int64, device=query.device)
    # Asked for all tiles at once: on a GPU every single answer would have to be waited for.
    blocks = F.max_pool2d(needed[None, None].float(), TILE, ceil_mode=True)[0, 0].tolist()
    # The penalty of a tile depends on where its search area is cut off by the border; inside the
    # grid it is one and the same.
    penalties: dict[tuple[int, ...], torch.Tensor] = {}
    # One room for the keys of all strips, and one for their cosines: on a CPU fresh memory costs as
    # much as what is computed in it.
    side = TILE + 2 * radius
    rows, columns = min(height, side), min(width, side)
    key_room = query.new_zeros(len(parts), frames * rows * width + GROUP, channels)
    tile_keys = frames * rows * columns + GROUP
    similarity_room = query.new_empty(len(parts) * TILE * TILE * tile_keys)
    for top, strip in zip(range(0, height, TILE), blocks, strict=True):
        if not any(strip):
            continue
        bottom = min(top + TILE, height)
        y0, y1 = max(0, top - radius), min(height, bottom + radius)
        # Column by column, so that the search area of every tile of the strip is one run of keys.
        column_keys = frames * (y1 - y0)
        for room, part in zip(key_room, parts, strict=True):
            strip_keys = room[: width * column_keys].view(width, frames, y1 - y0, channels)
            for frame, remembered in enumerate(part):
                strip_keys[:, frame].copy_(remembered[y0:y1].transpose(0, 1))
        for left, is_needed in zip(range(0, width, TILE), strip, strict=True):
            if not is_needed:
                continue
            right = min(left + TILE, width)
            x0, x1 = max(0, left - radius), min(width, right + radius)
            padding = -((x1 - x0) * column_keys) % GROUP
            geometry = (top - y0, bottom - y0, y1 - y0, left - x0, right - x0, x1 - x0)
            if geometry not in penalties:
                penalties[geometry] = _outside(geometry, radius, window, frames, padding, query)
            # What the padding reaches is of the next column, another strip, or zero: it only must
            # be finite.
            keys = key_room[:, x0 * column_keys : x1 * column_keys + padding]  # (P, m, C)
            tile = query[top:bottom, left:right].reshape(-1, channels)  # (n, C)
            shape = len(parts), len(tile), keys.shape[1]
            similarity = similarity_room[: math.prod(shape)].view(shape)  # (P, n, m)
            for of_part, part_keys in zip(similarity, keys, strict=True):
                torch.addmm(penalties[geometry], tile, part_keys.T, out=of_part)
            best, key = _top_k(similarity.flatten(0, 1), top_k)  # (P n, k)
            x, inside = x0 + key // column_keys, key % column_keys
            frame, y = inside // (y1 - y0), y0 + inside % (y1 - y0)
            cell = (frame * height + y) * width + x
            tiles = len(parts), bottom - top, right - left
            values[:, top:bottom, left:right] = best.unflatten(0, tiles)
            cells[:, top:bottom, left:right] = cell.unflatten(0, tiles)
    # Padding and cells outside the window are never looked up: their weight is zero, but their
    # number must be one that exists.
    return values, torch.where(values == -torch.inf, 0, cells)


def _outside(
    geometry: tuple[int, ...],
    radius: int,
    window: str,
    frames: int,
    padding: int,
    like: torch.Tensor,
) -> torch.Tensor:
    """0 where a key of the search area is in a query's window, -inf elsewhere and in the padding.

    Returns:
        (n, columns * frames * rows + padding).
    """
    top, bottom, rows, left, right, columns = geometry
    dy = torch.arange(top, bottom)[:, None] - torch.arange(rows)  # (tile rows, area rows)
    dx = torch.arange(left, right)[:, None] - torch.arange(columns)
    if window == "square":
        near = (dy.abs() <= radius)[:, None, None, :] & (dx.abs() <= radius)[None, :, :, None]
    else:
        near = dy.square()[:, None, None, :] + dx.square()[None, :, :, None] < radius**2
    near = near.flatten(0, 1)[:, :, None].expand(-1, -1, frames, -1).flatten(1)
    near = F.pad(near, (0, padding)).to(like.device)
    return torch.where(near, like.new_zeros(()), -torch.inf)


def _top_k(similarity: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact top k of each row of (n, m), m a multiple of GROUP, padded with -inf up to k.

    The k best keys lie in the k groups with the best maxima. A group is every (m / GROUP)-th key:
    maxima over whole rows of keys are cheap.
    """
    groups = similarity.unflatten(1, (GROUP, -1))  # (n, GROUP, m / GROUP)
    kept = min(k, groups.shape[2])
    _, group = groups.amax(1).topk(kept, sorted=False)  # (n, kept)
    pooled = groups.gather(2, group[:, None].expand(-1, GROUP, -1)).flatten(1)
    found = min(k, similarity.shape[1])
    best, place = pooled.topk(found)  # (n, found)
    column = place // kept * groups.shape[2] + group.gather(1, place % kept)
    if found < k:
        best = F.pad(best, (0, k - found), value=-torch.inf)
        column = F.pad(column, (0, k - found))
    return best, column


def global_top_k(
    query: torch.Tensor, memory: torch.Tensor, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the most similar memory cells of some cells, wherever they are.

    Args:
        query: (n, C), normalised.
        memory: (M, h, w, C), normalised.
        top_k: Matches to keep.

    Returns:
        Cosines and memory cells (n, k), as `local_top_k` gives them. Worked through in blocks of
        TILE^2 query cells.
    """
    keys = memory.flatten(0, 2)
    padding = -len(keys) % GROUP
    keys = F.pad(keys, (0, 0, 0, padding))
    penalty = keys.new_zeros(len(keys))
    penalty[len(keys) - padding :] = -torch.inf
    found = [_top_k(block @ keys.T + penalty, top_k) for block in query.split(TILE * TILE)]
    values, cells = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, torch.where(values == -torch.inf, 0, cells)


def merge_top_k(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join two results of `local_top_k` over one numbering of cells, keeping the k best of both."""
    k = first[0].shape[-1]
    values, place = torch.cat([first[0], second[0]], dim=-1).topk(k)
    return values, torch.cat([first[1], second[1]], dim=-1).gather(-1, place)


def best_of_each(
    values: torch.Tensor, cells: torch.Tensor, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the best of the matches (M, h, w, k) that `local_top_k_of_each` found, in all frames.

    Returns:
        Cosines and memory cells (h, w, top_k), or as many as there are, as in `local_top_k`.
    """
    frames, height, width, _ = cells.shape
    first = torch.arange(frames, device=cells.device) * (height * width)
    numbered = cells + first[:, None, None, None]
    values, numbered = (part.movedim(0, 2).flatten(2) for part in (values, numbered))
    values, best = values.topk(min(top_k, values.shape[-1]))
    return values, numbered.gather(-1, best)


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
    # One label at a time: a hundred objects need no hundred full-size maps.
    for soft, object_id in zip(labels.permute(2, 0, 1), [0, *object_ids], strict=True):
        large = F.interpolate(soft[None, None], area, mode="bilinear")[0, 0]
        rival = large
        low, high = large.aminmax()
        # What is the same everywhere but for rounding has no shape to stretch.
        if stretch_above is not None and high >= stretch_above and high - low > 1e-6 * high:
            rival = (large - low) / (high - low)
        better = rival > best
        best = torch.where(better, rival, best)
        strength = torch.where(better, large, strength)
        winner[better] = object_id
        second = torch.maximum(second, torch.minimum(first, large))
        first = torch.maximum(first, large)
    margin = strength - torch.where(strength == first, second, first)
    if area != size:
        winner = F.interpolate(winner[None, None], size, mode="nearest-exact")[0, 0]
        strength, margin = F.interpolate(
            torch.stack([strength, margin])[None], size, mode="nearest-exact"
        )[0]
    return winner, strength, margin
