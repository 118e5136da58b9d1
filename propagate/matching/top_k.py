"""Top k: the memory cells that the cells of a frame resemble most, exactly and leanly.

The letters of shapes are those of `matching.py`; a part P is one or more frames that are searched
as one. Nothing dense is made: at a time there are only the cosines of a few tiles of query cells
with their search areas.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F

# Side of the square of query cells that share one search area. Measured on two cores at 60 x 107
# cells, like the next.
TILE = 8
# So many numbers are held at once, or those of one tile: enough for two cores to be busy with, and
# not more than stays near them.
AT_ONCE = 2**20
# Numbers of channels are multiples of this.
CHANNELS = 16
# The cosine of a key that is not there, below all that are.
OFF_GRID = -1e4

Window = Literal["square", "circle"]


def local_top_k(
    query: "torch.Tensor | Tiles",
    memory: Sequence[torch.Tensor] | torch.Tensor,
    top_k: int,
    radius: int,
    window: Window = "square",
    needed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the most similar memory cells of every query cell, within a window around it.

    The grid is worked through in tiles; no tensor is larger than TILE^2 x M (TILE + 2 radius)^2,
    AT_ONCE, or the keys of one row of tiles.

    Args:
        query: (h, w, C), normalised; or its tiles, if it is searched for more than once.
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
    query: "torch.Tensor | Tiles",
    memory: Sequence[torch.Tensor] | torch.Tensor,
    top_k: int,
    radius: int,
    window: Window = "square",
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


def top_k_around(
    query: "torch.Tensor | Tiles",
    memory: Sequence[torch.Tensor] | torch.Tensor,
    offsets: torch.Tensor,
    top_k: int,
    radius: int,
    window: Window = "square",
    needed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do `local_top_k_of_each` in windows that are moved, those of each tile as one.

    Args:
        query, memory, top_k, radius, window, needed: As for `local_top_k`.
        offsets: (M, rows, columns, 2) int64, for each frame and each tile of TILE^2 query cells how
            far the windows are moved, (dy, dx) in cells.

    Returns:
        Cosines (M, h, w, k) and cells (M, h, w, k), as for `local_top_k_of_each`.
    """
    tiles = _tiled(query)
    values, cells = tiles.nothing_found(len(memory), top_k)
    side = TILE + 2 * radius
    group = _group(side * side, top_k)
    bias = _outside(tiles.cells, radius, side, radius, window, 1, group)
    origins = offsets - radius + tiles.corners  # (M, rows, columns, 2)
    corners = origins.tolist()
    most = max(1, AT_ONCE // (bias.shape[1] * (TILE * TILE + tiles.channels)))
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
    parts: Sequence[Sequence[torch.Tensor] | torch.Tensor],
    top_k: int,
    radius: int,
    window: Window,
    needed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do `local_top_k` in each part of a memory, of as many frames each: (P, h, w, k) both."""
    frames = len(parts[0])
    tiles = _tiled(query)
    values, cells = tiles.nothing_found(len(parts), top_k)
    height, width = tiles.height, tiles.width
    # Columns beyond the borders are there, so that all tiles of a strip are searched alike.
    side = TILE + 2 * radius
    across = tiles.cells.shape[1] * TILE + 2 * radius
    rows_at_most = min(side, height)
    group = _group(side * frames * rows_at_most, top_k)
    room = values.new_zeros(across * frames * rows_at_most + group, tiles.channels)
    for row, columns in tiles.needed(needed):
        top = row * TILE
        y0, y1 = max(0, top - radius), min(height, top + TILE + radius)
        rows = y1 - y0
        bias = _outside(tiles.cells, top - y0, rows, radius, window, frames, group)  # (n, m)
        most = max(1, AT_ONCE // bias.numel())
        first, last = columns[0] * TILE, columns[-1] * TILE + side
        # Column by column, so that the search area of every tile is one run of keys.
        strip = room[: across * frames * rows].view(across, frames, rows, -1)
        for part, remembered in enumerate(parts):
            for number, frame in enumerate(remembered):
                _lay_out(strip[first:last, number], frame, y0, first - radius)
            for start, stop in _runs(columns, most):
                # What the padding reaches is of the next column, another strip, or zero: it only
                # must be finite.
                keys = room[start * TILE * frames * rows :]
                keys = keys.unfold(0, bias.shape[1], TILE * frames * rows)[: stop - start]
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
    """The query cells (h, w, C) of a frame, cut into squares of TILE x TILE for a search.

    Beside the channels of a cell there is one that is 1, and that of a key is 0, or OFF_GRID where
    no cell is; the channels are filled up to a number that products are fast with.

    Attributes:
        height, width: h and w.
        channels: How many there are of queries and keys.
        cells: (rows, columns, TILE^2, channels); what is not on the grid is zero but for that one.
        corners: (rows, columns, 2) the (y, x) of the first cell of each tile.
    """

    def __init__(self, query: torch.Tensor) -> None:
        """Cut the query (h, w, C)."""
        self.height, self.width, channels = query.shape
        rows, columns = -(-self.height // TILE), -(-self.width // TILE)
        self.channels = -(-(channels + 1) // CHANNELS) * CHANNELS
        grid = query.new_zeros(rows * TILE, columns * TILE, self.channels)
        grid[: self.height, : self.width, :channels] = query
        grid[..., channels] = 1
        tiles = grid.unflatten(1, (columns, TILE)).unflatten(0, (rows, TILE)).transpose(1, 2)
        self.cells = tiles.flatten(2, 3)
        y = torch.arange(rows, device=query.device) * TILE
        x = torch.arange(columns, device=query.device) * TILE
        self.corners = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)

    def needed(self, cells: torch.Tensor | None) -> list[tuple[int, list[int]]]:
        """The rows and, of each, the columns of tiles with any of some cells, (h, w) bool."""
        if cells is None:
            cells = self.cells.new_ones(self.height, self.width)
        # Asked for all tiles at once: on a GPU every single answer would have to be waited for.
        tiles = F.max_pool2d(cells[None, None].float(), TILE, ceil_mode=True)[0, 0]
        found: dict[int, list[int]] = {}
        for row, column in tiles.nonzero().tolist():
            found.setdefault(row, []).append(column)
        return list(found.items())

    def nothing_found(self, parts: int, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Room (P, rows, columns, TILE^2, k) for cosines, all -inf, and for cells, all 0."""
        shape = parts, *self.cells.shape[:3], top_k
        values = self.cells.new_full(shape, -torch.inf)
        return values, torch.zeros(shape, dtype=torch.int64, device=values.device)

    def on_grid(
        self, values: torch.Tensor, cells: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lay tiles out on the grid, (P, h, w, k), and drop what was matched off it."""
        values, cells = (
            found.unflatten(3, (TILE, TILE))
            .transpose(2, 3)
            .flatten(3, 4)
            .flatten(1, 2)[:, : self.height, : self.width]
            .contiguous()
            for found in (values, cells)
        )
        # No weight is given to what is outside, but the number of its cell must be one that exists.
        outside = values < OFF_GRID / 2
        return values.masked_fill_(outside, -torch.inf), cells.masked_fill_(outside, 0)


def _tiled(query: torch.Tensor | Tiles) -> Tiles:
    return query if isinstance(query, Tiles) else Tiles(query)


def _lay_out(area: torch.Tensor, frame: torch.Tensor, y0: int, x0: int) -> None:
    """Copy what begins at (y0, x0) of a frame (h, w, C) into an area (columns, rows, channels).

    Cells that the frame does not have are marked as such.
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
    """Split rising numbers into runs [start, stop) without a gap, of so many at most."""
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
    """Search tiles (T, n, C), each among its keys (T, C, m): cosines and keys, (T, n, k) both."""
    similarity = torch.baddbmm(bias, queries, keys)
    best, key = _top_k(similarity.flatten(0, 1), top_k, group)
    return best.view(len(queries), -1, top_k), key.view(len(queries), -1, top_k)


def _group(keys: int, top_k: int) -> int:
    """How many keys one maximum stands for, so that least is sorted: about sqrt(keys / top_k)."""
    return 2 ** max(2, round(math.log2(keys / top_k) / 2))


def _outside(
    cells: torch.Tensor,
    above: int,
    rows: int,
    radius: int,
    window: Window,
    frames: int,
    group: int,
) -> torch.Tensor:
    """0 where a key of a search area is in a query's window, -inf elsewhere and in the padding.

    Args:
        cells: Of the tiles, for their device and precision.
        above: Rows of the area above those of the tile; columns left of it are as many as `radius`.
        rows: Of the area.
        radius, window, frames: Of the search.
        group: The padding makes the keys a multiple of it.

    Returns:
        (n, columns * frames * rows + padding).
    """
    near = _near(above, rows, radius, window, cells.device)
    near = near[:, :, None].expand(-1, -1, frames, -1).flatten(1)
    near = F.pad(near, (0, -near.shape[1] % group))
    return torch.where(near, cells.new_zeros(()), -torch.inf)


@lru_cache(maxsize=64)
def _near(above: int, rows: int, radius: int, window: Window, device: torch.device) -> torch.Tensor:
    """Whether keys are in the windows of queries, as for `_outside`: (n, columns, rows) bool.

    Every frame asks for the same few, one for each row of tiles near a border.
    """
    inside = torch.arange(TILE, device=device)[:, None]
    dy = inside + above - torch.arange(rows, device=device)  # (tile rows, area rows)
    dx = inside + radius - torch.arange(TILE + 2 * radius, device=device)
    if window == "square":
        near = (dy.abs() <= radius)[:, None, None, :] & (dx.abs() <= radius)[None, :, :, None]
    else:
        near = dy.square()[:, None, None, :] + dx.square()[None, :, :, None] < radius**2
    return near.flatten(0, 1)


def _top_k(similarity: torch.Tensor, k: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact top k of each row of (n, m), m a multiple of `group`, padded with -inf up to k.

    The k best keys lie in the k groups with the best maxima. A group is every (m / group)-th key:
    maxima over whole rows of keys are cheap.
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
    group = _group(len(keys), top_k)
    padding = -len(keys) % group
    keys = F.pad(keys, (0, 0, 0, padding))
    penalty = keys.new_zeros(len(keys))
    penalty[len(keys) - padding :] = -torch.inf
    found = [_top_k(block @ keys.T + penalty, top_k, group) for block in query.split(TILE * TILE)]
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
