"""The soft label of one object: a walk from its seeds, and the boundary that the frame shows best.

Boxes of an object that lie apart hold a part of it each, and each part is found by itself.

n: cells; h, w: the grid.
"""

import numpy as np
from scipy import ndimage

from propagate.prompts.grid import Grid
from propagate.prompts.settings import PromptSettings
from propagate.prompts.walker import FREE, solve_walker

# Labels are kept this far from 0 and 1 where their odds are taken.
_SMALLEST = 1e-6


def label_object(
    grid: Grid, seeds: np.ndarray, in_box: np.ndarray | None, has_off: bool, s: PromptSettings
) -> np.ndarray:
    """Compute the soft label of an object.

    Args:
        grid: Of the frame.
        seeds: (n,) 1 object, 0 background, -1 free.
        in_box: (n,) bool: cells that touch a box of the object; None if it has none. In each of
            its connected parts there is some of the object.
        has_off: Whether paint says where the object is not.
        s: The constants.

    Returns:
        (n,) float64 in 0..1; the object is where it is at least 0.5. A label of 1 is sure.
    """
    if not (seeds == FREE).any():
        return (seeds == 1).astype(float)
    if in_box is None:
        labels = _walk_from_paint(grid, seeds, has_off, s)
        if not s.choices:
            return labels
        return _at_best_boundary(grid, labels, seeds, has_off, s)
    parts, count = ndimage.label(in_box.reshape(grid.shape))  # type: ignore[misc]
    labels = [_label_in_box(grid, seeds, in_box, parts.ravel() == i + 1, s) for i in range(count)]
    return np.max(labels, axis=0)


def _label_in_box(
    grid: Grid, seeds: np.ndarray, in_box: np.ndarray, part: np.ndarray, s: PromptSettings
) -> np.ndarray:
    """Label the object in one connected part of its boxes, (n,) bool; it is nowhere else: (n,).

    The cells of the other parts are neither of this one nor of what is around it.
    """
    seeds = np.where(part, seeds, 0)
    if not (seeds == FREE).any():
        return (seeds == 1).astype(float)
    labels = _walk_in_box(grid, seeds, part, in_box, s)
    if not s.box_choices:
        return labels
    return _at_best_boundary_in_box(grid, labels, seeds, part, s)


def affinities(grid: Grid, s: PromptSettings) -> np.ndarray:
    """How strongly neighbouring cells are linked: (E,), up to 1."""
    near = grid.neighbours
    unlike = s.feature_contrast * (1 - near.cosines) + s.color_contrast * near.colors
    return np.exp(-unlike) / near.length + s.smallest_affinity


def _walk_from_paint(grid: Grid, seeds: np.ndarray, has_off: bool, s: PromptSettings) -> np.ndarray:
    """Walk to the seeds; walks are lost as background, mostly at the frame's border: (n,).

    Where enough is painted on the object and off it, every cell is also pulled to the seeds that it
    is like.
    """
    like = _nearest_cosine(grid.cells, _sample(np.flatnonzero(seeds == 1), s), 2)
    unlike = 1 / (1 + np.exp(s.like_slope * (like - s.like_from)))
    border = np.ones(grid.shape, bool)
    border[1:-1, 1:-1] = False
    lost = s.leak + s.border_leak * border.ravel() * unlike
    pull = np.zeros(len(seeds))
    if has_off and min((seeds == 1).sum(), (seeds == 0).sum()) >= s.vote_seeds:
        own = _nearest_cosine(grid.cells, _sample(np.flatnonzero(seeds == 1), s), s.nearest_cells)
        other = _nearest_cosine(grid.cells, _sample(np.flatnonzero(seeds == 0), s), s.nearest_cells)
        chance = 1 / (1 + np.exp(-s.vote_slope * (own - other)))
        pull, lost = s.vote_pull * chance, lost + s.vote_pull * (1 - chance)
    near = grid.neighbours
    return solve_walker(near.first, near.second, affinities(grid, s), pull, lost, seeds)


def _at_best_boundary(
    grid: Grid, labels: np.ndarray, seeds: np.ndarray, has_off: bool, s: PromptSettings
) -> np.ndarray:
    """Move the boundary from 0.5 to the label where the frame shows one best.

    A walk from a single click is nowhere likely to end there, so 0.5 is a poor boundary. Each
    number of most likely cells is a choice; the one with the least alike cells across its boundary
    counts, with some weight for how likely and how large it is.
    """
    count, on = len(labels), seeds == 1
    fewest = min(count, max(s.fewest_cells, int(on.sum())))
    most = max(fewest, int(s.largest_share * count))
    sizes = np.unique(np.geomspace(fewest, most, s.choices).round().astype(int))
    best, chosen, level = -np.inf, on, 0.5
    for at in np.clip(np.sort(labels)[::-1][sizes - 1], _SMALLEST, 1 - _SMALLEST):
        region = _touching((labels >= at) & (seeds != 0), on, grid.shape)
        area = float(np.log(region.mean()))
        value = (
            s.boundary_weight * _cosine_across(grid, region)
            + s.label_weight * float(np.log(labels[region].mean() + 1e-9))
            + s.area_weight * area
            + s.area_square_weight * area**2
            - s.balance * has_off * _logit(at) ** 2
        )
        if value > best:
            best, chosen, level = value, region, at
    return _moved(labels, seeds, chosen, level)


def _at_best_boundary_in_box(
    grid: Grid, labels: np.ndarray, seeds: np.ndarray, in_box: np.ndarray, s: PromptSettings
) -> np.ndarray:
    """Do the same in a box, with some weight for how much of the box is filled."""
    inside = np.sort(labels[in_box])[::-1]
    sizes = np.unique(np.linspace(0.1, 1, s.box_choices) * len(inside)).round().astype(int)
    best, chosen, level = -np.inf, in_box, 0.5
    for at in np.clip(inside[np.maximum(sizes, 1) - 1], _SMALLEST, 1 - _SMALLEST):
        region = in_box & ((labels >= at) | (seeds == 1)) & (seeds != 0)
        share = region.sum() / len(inside)
        value = (
            s.box_boundary_weight * _cosine_across(grid, region)
            + s.box_share_weight * share
            + s.box_share_square_weight * share**2
        )
        if value > best:
            best, chosen, level = value, region, at
    return _moved(labels, seeds, chosen, level)


def _moved(labels: np.ndarray, seeds: np.ndarray, chosen: np.ndarray, level: float) -> np.ndarray:
    """Shift the odds of labels so that `level` becomes 0.5, and all chosen cells reach it."""
    odds = _logit(np.clip(labels, _SMALLEST, 1 - _SMALLEST)) - _logit(level)
    moved = 1 / (1 + np.exp(-odds))
    moved = np.where(chosen, np.maximum(moved, 0.5), np.minimum(moved, 0.49))
    return np.where(seeds == FREE, moved, seeds == 1)


def _cosine_across(grid: Grid, region: np.ndarray) -> float:
    """Mean cosine across the boundary of a region, (n,) bool; 1 if it has none."""
    crossing = region[grid.across.first] != region[grid.across.second]
    return float(grid.across.cosines[crossing].mean()) if crossing.any() else 1.0


def _walk_in_box(
    grid: Grid, seeds: np.ndarray, in_box: np.ndarray, in_any: np.ndarray, s: PromptSettings
) -> np.ndarray:
    """Walk inside a box, pulled by votes for what is unlike the cells around it: (n,).

    Cells in any other box of the object, (n,) bool, do not count as around.
    """
    inside = np.flatnonzero(in_box)
    around = _sample(_around(grid.shape, in_box, in_any, s.box_around), s)
    like_around = _nearest_cosine(grid.cells[inside], around, s.nearest_cells, grid.cells)
    unlike_color = _nearest_color(grid.colors, inside, around, s.box_nearest_colors)
    middle = s.box_center * (s.box_middle - _eccentricity(grid.shape, in_box)[inside])
    by_color = s.box_color_votes * (unlike_color - np.median(unlike_color))
    votes = s.box_feature_votes * (np.median(like_around) - like_around) + by_color + middle
    near, links = grid.neighbours, affinities(grid, s)
    labels = np.zeros(len(seeds))
    for turn in range(s.box_rounds + 1):
        pull = np.zeros((2, len(seeds)))
        chance = 1 / (1 + np.exp(-np.clip(votes, -30, 30)))
        pull[0, inside], pull[1, inside] = s.box_pull * chance, s.box_pull * (1 - chance)
        labels = solve_walker(near.first, near.second, links, pull[0], pull[1], seeds)
        if turn == s.box_rounds:
            break
        likely = labels[inside] >= np.median(labels[inside])
        own = _sample(inside[likely], s)
        other = np.concatenate([around, _sample(inside[~likely], s)])
        cells = grid.cells[inside]
        like_own = _nearest_cosine(cells, own, s.nearest_cells, grid.cells)
        like_other = _nearest_cosine(cells, other, s.nearest_cells, grid.cells)
        votes = s.box_feature_votes * (like_own - like_other) + by_color + middle
    return labels


def _around(
    shape: tuple[int, int], in_box: np.ndarray, in_any: np.ndarray, width: float
) -> np.ndarray:
    """Find the cells around a box and in no other; if there are none, its own outermost cells."""
    box = in_box.reshape(shape)
    rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
    reach = max(4.0, width * max(np.ptp(rows), np.ptp(columns)))
    if in_any.all():
        ring = np.ones(shape, bool)
        ring[1:-1, 1:-1] = False
        return np.flatnonzero(ring)
    distance = np.asarray(ndimage.distance_transform_edt(~box))
    return np.flatnonzero((distance <= reach) & ~in_any.reshape(shape))


def _eccentricity(shape: tuple[int, int], in_box: np.ndarray) -> np.ndarray:
    """Distance from the middle of a box, 1 in the middle of each of its sides: (n,)."""
    box = in_box.reshape(shape)
    parts = []
    for axis in (0, 1):
        places = np.flatnonzero(box.any(1 - axis))
        middle, half = (places[0] + places[-1]) / 2, (np.ptp(places) + 1) / 2
        parts.append((np.arange(shape[axis]) - middle) / half)
    return np.hypot(parts[0][:, None], parts[1][None]).ravel()


def _nearest_cosine(
    cells: np.ndarray, chosen: np.ndarray, nearest: int, all_cells: np.ndarray | None = None
) -> np.ndarray:
    """Mean cosine of cells, (m, C), with the `nearest` most alike of the chosen ones: (m,)."""
    cosines = cells @ (cells if all_cells is None else all_cells)[chosen].T  # (m, k)
    nearest = min(nearest, len(chosen))
    return -np.partition(-cosines, nearest - 1, axis=1)[:, :nearest].mean(1)


def _nearest_color(
    colors: np.ndarray, asked: np.ndarray, chosen: np.ndarray, nearest: int
) -> np.ndarray:
    """Mean Lab distance of the asked cells to the `nearest` of the chosen ones: (m,)."""
    squared = np.square(colors[asked, None] - colors[None, chosen]).sum(2)
    nearest = min(nearest, len(chosen))
    return np.sqrt(np.partition(squared, nearest - 1, axis=1)[:, :nearest].mean(1))


def _sample(numbers: np.ndarray, s: PromptSettings) -> np.ndarray:
    """Take evenly spaced ones of many."""
    if len(numbers) <= s.sample_cells:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, s.sample_cells).astype(int)]


def _touching(region: np.ndarray, marked: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Keep the components of a region, (n,) bool, that hold a marked cell; and these cells."""
    parts, _ = ndimage.label(region.reshape(shape))  # type: ignore[misc]
    parts = parts.ravel()
    kept = np.unique(parts[marked])
    return np.isin(parts, kept[kept > 0]) | marked


def _logit(label: np.ndarray | float) -> np.ndarray:
    return np.log(label / (1 - np.asarray(label)))
