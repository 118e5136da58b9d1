"""Top k: for each cell of a frame, the most similar cells of the memory. Exact, in little memory.

On a CPU, windows are searched by a compiled loop (`window_search.py`), elsewhere by tensor
operations (`tiled_search.py`). Both find the same cells. Shapes: see `cells.py`.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F

from propagate.matchers import Window
from propagate.matching import tiled_search, window_search
from propagate.matching.matches import Frames, Matches, Windows
from propagate.matching.row_top_k import group_size, top_of_rows
from propagate.matching.tiled_search import Tiles

# Side of a tile, unless the caller chooses.
TILE = 8
# Cells of the query whose cosines with the whole memory are held at once.
AT_ONCE = 64


class Query:
    """The cells of a frame that are searched for, in square tiles.

    Attributes:
        cells: (h, w, C), normalised.
        side: Of a tile, in cells.
    """

    def __init__(self, cells: torch.Tensor, side: int = TILE) -> None:
        """Take the cells (h, w, C)."""
        self.cells = cells
        self.side = side

    @cached_property
    def tiles(self) -> Tiles:
        """The cells as tensor operations need them."""
        return Tiles(self.cells, self.side)

    def needed_tiles(self, cells: torch.Tensor | None) -> torch.Tensor:
        """Number the tiles that contain any of some cells, (h, w) bool: (T, 2) row and column."""
        if cells is None:
            cells = self.cells.new_ones(self.cells.shape[:2])
        return F.max_pool2d(cells[None, None].float(), self.side, ceil_mode=True)[0, 0].nonzero()

    def compiled(self) -> bool:
        """Whether the compiled loop can search for them."""
        on_cpu = self.cells.device.type == "cpu" and self.cells.dtype == torch.float32
        return on_cpu and window_search.is_available()


def local_top_k(
    query: torch.Tensor | Query,
    memory: Frames,
    top_k: int,
    radius: int,
    window: Window = "square",
    needed: torch.Tensor | None = None,
) -> Matches:
    """Find the most similar memory cells of every query cell, within a window around it.

    Args:
        query: (h, w, C), normalised; or its `Query`, if it is used for more than one search.
        memory: M frames (h, w, C), normalised.
        top_k: Matches to keep; at the border of a small grid there may be fewer.
        radius: Reach of the window in cells; a radius of max(h, w) covers the whole frame.
        window: "square": |dy|, |dx| <= radius. "circle": dy^2 + dx^2 < radius^2.
        needed: (h, w) bool: tiles without a needed cell are skipped. None: all are needed.

    Returns:
        Matches (h, w, k). Which of several equal cosines takes the k-th place is not defined.
    """
    found = _search(query, [memory], Windows(top_k, radius, window), needed)
    return Matches(found.cosines[0], found.cells[0])


def local_top_k_of_each(
    query: torch.Tensor | Query,
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
    parts = [[frame] for frame in memory]
    return _search(query, parts, Windows(top_k, radius, window), needed)


def top_k_around(
    query: torch.Tensor | Query,
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
    query, windows = _query(query), Windows(top_k, radius, window)
    tiles = query.needed_tiles(needed)
    if query.compiled():
        parts = [[frame] for frame in memory]
        return window_search.search(query.cells, parts, windows, tiles, query.side, offsets)
    return tiled_search.search_around(query.tiles, memory, windows, tiles, offsets)


def _search(
    query: torch.Tensor | Query,
    parts: Sequence[Frames],
    windows: Windows,
    needed: torch.Tensor | None,
) -> Matches:
    query = _query(query)
    tiles = query.needed_tiles(needed)
    if query.compiled():
        return window_search.search(query.cells, parts, windows, tiles, query.side)
    return tiled_search.search(query.tiles, parts, windows, tiles)


def _query(query: torch.Tensor | Query) -> Query:
    return query if isinstance(query, Query) else Query(query)


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
    group = group_size(len(keys), top_k)
    padding = -len(keys) % group
    keys = F.pad(keys, (0, 0, 0, padding))
    penalty = keys.new_zeros(len(keys))
    penalty[len(keys) - padding :] = -torch.inf
    found = [top_of_rows(block @ keys.T + penalty, top_k, group) for block in query.split(AT_ONCE)]
    values, cells = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Matches(values, torch.where(values == -torch.inf, 0, cells))
