"""Top k: for each cell of a frame, the most similar cells of the memory. Exact, in little memory.

The letters of shapes are those of `cells.py`. A cell of the memory has one number:
m * h * w + y * w + x. The similarity of all cells with each other is never held: the query is cut
into square tiles, and only a few tiles are multiplied with their search areas at a time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from propagate.matchers import Window

# Side of a tile, unless the caller chooses. Measured on two cores at 60 x 107 cells, as `AT_ONCE`.
TILE = 8
# How many cosines are held at once, if one tile needs no more.
AT_ONCE = 2**20
# The number of channels is padded to a multiple of this: such products are faster.
CHANNELS = 16
# The cosine of a place outside the grid: lower than any real one.
OFF_GRID = -1e4

Frames = Sequence[torch.Tensor] | torch.Tensor


class Matches(NamedTuple):
    """The most similar memory cells of some query cells.

    Attributes:
        cosines: (..., k) in falling order; -inf where there is no match.
        cells: (..., k) int64, the numbers of the memory cells; 0 where there is no match.
    """

    cosines: torch.Tensor
    cells: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """What the search of the memory found for a frame.

    Attributes:
        matches: (h, w, k) the best matches; those far from the flow count less.
        by_similarity: (h, w, k) the best matches by cosine alone; the same object as `matches` if
            the flow does not count.
        labels: (M', h, w, L) soft labels of the searched frames, in which matches are numbered.
        flows: (M, h, w, 2) from the frame to each remembered frame.
    """

    matches: Matches
    by_similarity: Matches
    labels: torch.Tensor
    flows: torch.Tensor


def local_top_k(
    query: "torch.Tensor | Tiles",
    memory: Frames,
    top_k: int,
    radius: int,
    window: Window = "square",
    needed: torch.Tensor | None = None,
) -> Matches:
    """Find the most similar memory cells of every query cell, within a window around it.

    Args:
        query: (h, w, C), normalised; or its `Tiles`, if it is used for more than one search.
        memory: M frames (h, w, C), normalised.
        top_k: Matches to keep; at the border of a small grid there may be fewer.
        radius: Reach of the window in cells; a radius of max(h, w) covers the whole frame.
        window: "square": |dy|, |dx| <= radius. "circle": dy^2 + dx^2 < radius^2.
        needed: (h, w) bool: tiles without a needed cell are skipped. None: all are needed.

    Returns:
        Matches (h, w, k). Which of several equal cosines takes the k-th place is not defined.
    """
    found = _search(query, [memory], top_k, radius, window, needed)
    return Matches(found.cosines[0], found.cells[0])


def local_top_k_of_each(
    query: "torch.Tensor | Tiles",
    memory: Frames,
    top_k: int,
    radius: int,
    window: Window = "square",
    needed: torch.Tensor | None = None,
) -> Matches:
    """Do `local_top_k` in each frame of the memory alone.

    Returns:
        Matches (M, h, w, k); the number of a cell is y * w + x.
    """
    return _search(query, [[frame] for frame in memory], top_k, radius, window, needed)


def top_k_around(
    query: "torch.Tensor | Tiles",
    memory: Frames,
    offsets: torch.Tensor,
    top_k: int,
    radius: int,
    window: Window = "square",
    needed: torch.Tensor | None = None,
) -> Matches:
    """Do `local_top_k_of_each` in windows that are shifted; all windows of a tile shift alike.

    Args:
        query, memory, top_k, radius, window, needed: As for `local_top_k`.
        offsets: (M, rows, columns, 2) int64, the shift (dy, dx) in cells for each frame and tile.

    Returns:
        Matches (M, h, w, k); the number of a cell is y * w + x.
    """
    tiles = _tiled(query)
    values, cells = tiles.nothing_found(len(memory), top_k)
    side = tiles.side + 2 * radius
    group = _group(side * side, top_k)
    bias = _outside(tiles, radius, side, radius, window, 1, group)
    origins = offsets - radius + tiles.corners  # (M, rows, columns, 2)
    corners = origins.tolist()
    most = max(1, AT_ONCE // (bias.shape[1] * (tiles.side**2 + tiles.channels)))
    keys = bias.new_zeros(most, bias.shape[1], tiles.channels)
    areas = keys[:, : side * side].unflatten(1, (side, side))  # (T, columns, rows, C)
    chosen = [
        (number, row, column)
        for row, columns in tiles.needed(needed)
        for column in columns
        for number in range(len(memory))
    ]
    for start in range(0, len(chosen), most):
        batch = chosen[start : start + most]
        for area, (number, row, column) in zip(areas, batch, strict=False):
            _lay_out(area, memory[number], *corners[number][row][column])
        at = torch.tensor(batch, device=values.device).unbind(1)
        queries = tiles.cells[at[1:]]
        values[at], cells[at] = _best(queries, keys[: len(batch)].mT, bias, top_k, group)
    y0, x0 = origins[..., None, None].unbind(3)
    x = cells // side
    return tiles.on_grid(values, (y0 + cells - x * side) * tiles.width + x0 + x)


def _search(
    query: "torch.Tensor | Tiles",
    parts: Sequence[Frames],
    top_k: int,
    radius: int,
    window: Window,
    needed: torch.Tensor | None,
) -> Matches:
    """Do `local_top_k` in each part of a memory; all parts have as many frames: (P, h, w, k)."""
    frames = len(parts[0])
    tiles = _tiled(query)
    values, cells = tiles.nothing_found(len(parts), top_k)
    height, width = tiles.height, tiles.width
    # A strip has columns beyond the borders, so that all its tiles are searched alike.
    side = tiles.side + 2 * radius
    across = tiles.cells.shape[1] * tiles.side + 2 * radius
    rows_at_most = min(side, height)
    group = _group(side * frames * rows_at_most, top_k)
    room = values.new_zeros(across * frames * rows_at_most + group, tiles.channels)
    for row, columns in tiles.needed(needed):
        top = row * tiles.side
        y0, y1 = max(0, top - radius), min(height, top + side - radius)
        rows = y1 - y0
        bias = _outside(tiles, top - y0, rows, radius, window, frames, group)  # (n, m)
        most = max(1, AT_ONCE // bias.numel())
        first, last = columns[0] * tiles.side, columns[-1] * tiles.side + side
        # Column by column, so that the search area of every tile is one run of keys.
        strip = room[: across * frames * rows].view(across, frames, rows, -1)
        for part, remembered in enumerate(parts):
            for number, frame in enumerate(remembered):
                _lay_out(strip[first:last, number], frame, y0, first - radius)
            for start, stop in _runs(columns, most):
                # The padding reaches into the next column, another strip or zeros. It is masked
                # out by the bias, so it only has to be finite.
                step = tiles.side * frames * rows
                keys = room[start * step :].unfold(0, bias.shape[1], step)[: stop - start]
                best, key = _best(tiles.cells[row, start:stop], keys, bias, top_k, group)
                x = key // (frames * rows)
                key -= x * (frames * rows)
                number = key // rows
                y = key - number * rows + y0
                x += tiles.corners[row, start:stop, 1, None, None] - radius
                values[part, row, start:stop] = best
                cells[part, row, start:stop] = (number * height + y) * width + x
    return tiles.on_grid(values, cells)


class Tiles:
    """The query cells (h, w, C) of a frame, cut into square tiles for a search.

    Each cell gets one more channel, which is 1 in queries; in keys it is 0, or `OFF_GRID` outside
    the grid. The channels are padded with zeros.

    Attributes:
        side: Of a tile, in cells.
        height, width: h and w.
        channels: Of queries and keys, with the added ones.
        cells: (rows, columns, side^2, channels); places outside the grid are zero but for the added
            channel.
        corners: (rows, columns, 2) the (y, x) of the first cell of each tile.
    """

    def __init__(self, query: torch.Tensor, side: int = TILE) -> None:
        """Cut the query (h, w, C)."""
        self.height, self.width, channels = query.shape
        self.side = side
        rows, columns = -(-self.height // side), -(-self.width // side)
        self.channels = -(-(channels + 1) // CHANNELS) * CHANNELS
        grid = query.new_zeros(rows * side, columns * side, self.channels)
        grid[: self.height, : self.width, :channels] = query
        grid[..., channels] = 1
        tiles = grid.unflatten(1, (columns, side)).unflatten(0, (rows, side)).transpose(1, 2)
        self.cells = tiles.flatten(2, 3)
        y = torch.arange(rows, device=query.device) * side
        x = torch.arange(columns, device=query.device) * side
        self.corners = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)

    def needed(self, cells: torch.Tensor | None) -> list[tuple[int, list[int]]]:
        """List the tiles that contain any of some cells, (h, w) bool: each row with its columns."""
        if cells is None:
            cells = self.cells.new_ones(self.height, self.width)
        # One question for all tiles: on a GPU every answer is waited for.
        tiles = F.max_pool2d(cells[None, None].float(), self.side, ceil_mode=True)[0, 0]
        found: dict[int, list[int]] = {}
        for row, column in tiles.nonzero().tolist():
            found.setdefault(row, []).append(column)
        return list(found.items())

    def nothing_found(self, parts: int, top_k: int) -> Matches:
        """Make room for matches (P, rows, columns, side^2, k): no match anywhere yet."""
        shape = parts, *self.cells.shape[:3], top_k
        values = self.cells.new_full(shape, -torch.inf)
        return Matches(values, torch.zeros(shape, dtype=torch.int64, device=values.device))

    def on_grid(self, values: torch.Tensor, cells: torch.Tensor) -> Matches:
        """Lay tiles out on the grid, (P, h, w, k), and drop matches outside it."""
        values, cells = (
            found.unflatten(3, (self.side, self.side))
            .transpose(2, 3)
            .flatten(3, 4)
            .flatten(1, 2)[:, : self.height, : self.width]
            .contiguous()
            for found in (values, cells)
        )
        # Such a match has no weight, but its number must be one of an existing cell.
        outside = values < OFF_GRID / 2
        return Matches(values.masked_fill_(outside, -torch.inf), cells.masked_fill_(outside, 0))


def _tiled(query: torch.Tensor | Tiles) -> Tiles:
    return query if isinstance(query, Tiles) else Tiles(query)


def _lay_out(area: torch.Tensor, frame: torch.Tensor, y0: int, x0: int) -> None:
    """Copy the part of a frame (h, w, C) from (y0, x0) into an area (columns, rows, channels).

    Places outside the frame are marked `OFF_GRID`.
    """
    height, width, channels = frame.shape
    columns, rows, _ = area.shape
    top, bottom = max(0, y0), min(height, y0 + rows)
    left, right = max(0, x0), min(width, x0 + columns)
    area[..., channels] = OFF_GRID
    if top < bottom and left < right:
        inside = area[left - x0 : right - x0, top - y0 : bottom - y0]
        inside[..., :channels] = frame[top:bottom, left:right].transpose(0, 1)
        inside[..., channels] = 0


def _runs(numbers: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Split rising numbers into runs [start, stop) without gaps, each of at most `most`."""
    start = last = numbers[0]
    for number in numbers[1:]:
        if number > last + 1 or number - start == most:
            yield start, last + 1
            start = number
        last = number
    yield start, last + 1


def _best(
    queries: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor, top_k: int, group: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search tiles (T, n, C) among their keys (T, C, m): cosines and key numbers, (T, n, k)."""
    similarity = torch.baddbmm(bias, queries, keys)
    best, key = _top_k(similarity.flatten(0, 1), top_k, group)
    return best.view(len(queries), -1, top_k), key.view(len(queries), -1, top_k)


def _group(keys: int, top_k: int) -> int:
    """Choose how many keys share one maximum: about sqrt(keys / top_k) sorts the fewest numbers."""
    return 2 ** max(2, round(math.log2(keys / top_k) / 2))


def _outside(
    tiles: Tiles,
    above: int,
    rows: int,
    radius: int,
    window: Window,
    frames: int,
    group: int,
) -> torch.Tensor:
    """Give 0 where a key of the search area is in a query's window, -inf elsewhere.

    Args:
        tiles: The queries.
        above: Rows of the area above the tile; left of the tile it has `radius` columns.
        rows: Of the area.
        radius, window, frames: Of the search.
        group: The keys are padded to a multiple of it, with -inf.

    Returns:
        (side^2, columns * frames * rows + padding).
    """
    near = _near(tiles.side, above, rows, radius, window, tiles.cells.device)
    near = near[:, :, None].expand(-1, -1, frames, -1).flatten(1)
    near = F.pad(near, (0, -near.shape[1] % group))
    return torch.where(near, tiles.cells.new_zeros(()), -torch.inf)


@lru_cache(maxsize=64)
def _near(
    side: int, above: int, rows: int, radius: int, window: Window, device: torch.device
) -> torch.Tensor:
    """Mark the keys that are in the windows of the queries: (side^2, columns, rows) bool.

    The arguments are those of `_outside`. Every frame asks for the same few, so they are kept.
    """
    inside = torch.arange(side, device=device)[:, None]
    dy = inside + above - torch.arange(rows, device=device)  # (tile rows, area rows)
    dx = inside + radius - torch.arange(side + 2 * radius, device=device)
    if window == "square":
        near = (dy.abs() <= radius)[:, None, None, :] & (dx.abs() <= radius)[None, :, :, None]
    else:
        near = dy.square()[:, None, None, :] + dx.square()[None, :, :, None] < radius**2
    return near.flatten(0, 1)


def _top_k(similarity: torch.Tensor, k: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the exact top k of each row of (n, m); m is a multiple of `group`.

    The k best keys lie in the k groups with the best maxima. A group is every (m / group)-th key,
    because maxima over whole rows of keys are cheap. Fewer than k keys are padded with -inf.
    """
    groups = similarity.unflatten(1, (group, -1))  # (n, group, m / group)
    kept = min(k, groups.shape[2])
    _, held = groups.amax(1).topk(kept, sorted=False)  # (n, kept)
    pooled = groups.gather(2, held[:, None].expand(-1, group, -1)).flatten(1)
    found = min(k, similarity.shape[1])
    best, place = pooled.topk(found)  # (n, found)
    column = place // kept * groups.shape[2] + held.gather(1, place % kept)
    if found < k:
        best = F.pad(best, (0, k - found), value=-torch.inf)
        column = F.pad(column, (0, k - found))
    return best, column


def global_top_k(query: torch.Tensor, memory: torch.Tensor, top_k: int) -> Matches:
    """Find the most similar memory cells of some cells, anywhere in the memory.

    Args:
        query: (n, C), normalised.
        memory: (M, h, w, C), normalised.
        top_k: Matches to keep.

    Returns:
        Matches (n, k).
    """
    keys = memory.flatten(0, 2)
    group = _group(len(keys), top_k)
    padding = -len(keys) % group
    keys = F.pad(keys, (0, 0, 0, padding))
    penalty = keys.new_zeros(len(keys))
    penalty[len(keys) - padding :] = -torch.inf
    found = [_top_k(block @ keys.T + penalty, top_k, group) for block in query.split(TILE * TILE)]
    values, cells = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Matches(values, torch.where(values == -torch.inf, 0, cells))


def merge_top_k(first: Matches, second: Matches) -> Matches:
    """Keep the k best of two results (..., k) that number cells alike."""
    values, place = torch.cat([first.cosines, second.cosines], dim=-1).topk(first.cells.shape[-1])
    return Matches(values, torch.cat([first.cells, second.cells], dim=-1).gather(-1, place))


def best_of_each(found: Matches, top_k: int) -> Matches:
    """Keep the best of the matches (M, h, w, k) that `local_top_k_of_each` found in all frames.

    Returns:
        Matches (h, w, top_k), or as many as there are, numbered as in `local_top_k`.
    """
    frames, height, width, _ = found.cells.shape
    first = torch.arange(frames, device=found.cells.device) * (height * width)
    numbered = found.cells + first[:, None, None, None]
    values, numbered = (part.movedim(0, 2).flatten(2) for part in (found.cosines, numbered))
    values, best = values.topk(min(top_k, values.shape[-1]))
    return Matches(values, numbered.gather(-1, best))
