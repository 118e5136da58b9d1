"""Search by tiles: products and top k as tensor operations, on any device. Shapes: see `cells.py`.

The similarity of all cells with each other is never held: the query is cut into square tiles, and
only a few tiles are multiplied with their search areas at a time.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F

from propagate.matchers import Window
from propagate.matching.matches import Frames, Matches, Windows
from propagate.matching.row_top_k import group_size, top_of_rows

# How many cosines are held at once, if one tile needs no more. Measured on two cores at 60 x 107
# cells, as the side of a tile.
AT_ONCE = 2**20
# The number of channels is padded to a multiple of this: such products are faster.
CHANNELS = 16
# The cosine of a place outside the grid: lower than any real one.
OFF_GRID = -1e4


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

    def __init__(self, query: torch.Tensor, side: int) -> None:
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


def search(
    tiles: Tiles, parts: Sequence[Frames], windows: Windows, needed: torch.Tensor
) -> Matches:
    """Search each part of a memory alone; all parts have as many frames.

    Args:
        tiles: The query.
        parts: P parts of M frames (h, w, C).
        windows: Where to search.
        needed: (T, 2) row and column of the tiles that are searched for, row by row.

    Returns:
        Matches (P, h, w, k), numbered within each part.
    """
    top_k, radius, window = windows
    frames = len(parts[0])
    values, cells = tiles.nothing_found(len(parts), top_k)
    height, width = tiles.height, tiles.width
    # A strip has columns beyond the borders, so that all its tiles are searched alike.
    side = tiles.side + 2 * radius
    across = tiles.cells.shape[1] * tiles.side + 2 * radius
    rows_at_most = min(side, height)
    group = group_size(side * frames * rows_at_most, top_k)
    room = values.new_zeros(across * frames * rows_at_most + group, tiles.channels)
    for row, columns in _by_row(needed):
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


def search_around(
    tiles: Tiles, memory: Frames, windows: Windows, needed: torch.Tensor, offsets: torch.Tensor
) -> Matches:
    """Search each frame of a memory alone, in windows that are shifted.

    Args:
        tiles, windows, needed: As for `search`.
        memory: M frames (h, w, C).
        offsets: (M, rows, columns, 2) int64, the shift (dy, dx) in cells for each frame and tile.

    Returns:
        Matches (M, h, w, k).
    """
    top_k, radius, window = windows
    values, cells = tiles.nothing_found(len(memory), top_k)
    side = tiles.side + 2 * radius
    group = group_size(side * side, top_k)
    bias = _outside(tiles, radius, side, radius, window, 1, group)
    origins = offsets - radius + tiles.corners  # (M, rows, columns, 2)
    corners = origins.tolist()
    most = max(1, AT_ONCE // (bias.shape[1] * (tiles.side**2 + tiles.channels)))
    keys = bias.new_zeros(most, bias.shape[1], tiles.channels)
    areas = keys[:, : side * side].unflatten(1, (side, side))  # (T, columns, rows, C)
    chosen = [
        (number, row, column) for row, column in needed.tolist() for number in range(len(memory))
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


def _by_row(tiles: torch.Tensor) -> list[tuple[int, list[int]]]:
    """Group tiles (T, 2), row by row: each row with its columns."""
    found: dict[int, list[int]] = {}
    for row, column in tiles.tolist():
        found.setdefault(row, []).append(column)
    return list(found.items())


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
    best, key = top_of_rows(similarity.flatten(0, 1), top_k, group)
    return best.view(len(queries), -1, top_k), key.view(len(queries), -1, top_k)


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
