"""Search in windows on a CPU, by a loop that is compiled once. Shapes: see `cells.py`.

It computes the cosines of each window and nothing else, and keeps the best of them while they are
in the registers of the processor. `tiled_search.py` does the same with tensor operations, which
write all cosines of larger areas to memory first and take two to three times as long.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from propagate.matching.matches import Frames, Matches, Windows

# Fewer runs than this are not worth a second thread.
RUNS_OF_A_THREAD = 16

# The keys of remembered frames, which are searched in every step: `_keys_of`.
_keys = WeakTensorKeyDictionary()


@cache
def is_available() -> bool:
    """Whether Numba is installed, which compiles the loop."""
    return find_spec("numba") is not None


def search(
    cells: torch.Tensor,
    parts: Sequence[Frames],
    windows: Windows,
    tiles: torch.Tensor,
    side: int,
    offsets: torch.Tensor | None = None,
) -> Matches:
    """Search each part of a memory alone.

    Args:
        cells: (h, w, C) of the query, float32 on a CPU.
        parts: P parts of M frames (h, w, C).
        windows: Where to search.
        tiles: (T, 2) row and column of the tiles that are searched for.
        side: Of a tile, in cells.
        offsets: (P, rows, columns, 2) int64, how far the windows of a part and a tile are shifted.
            None: not at all.

    Returns:
        Matches (P, h, w, k), numbered within each part.
    """
    from propagate.matching.window_loop import search_runs

    query = np.ascontiguousarray(cells.numpy())
    height, width, _ = query.shape
    shape = len(parts), height, width, windows.top_k
    cosines, numbers = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64)
    reach = _reach(windows)
    runs = _runs(tiles.numpy(), side, height, width)
    for part, frames in enumerate(parts):
        if offsets is not None:
            runs[:, 4:] = offsets[part].numpy()[runs[:, 0] // side, runs[:, 1] // side]
        for number, frame in enumerate(frames):
            first = number * height * width
            work = (query, _keys_of(frame), reach, first, cosines[part], numbers[part])
            threads = min(torch.get_num_threads(), 1 + len(runs) // RUNS_OF_A_THREAD)
            if threads == 1:
                search_runs(runs, *work)
                continue
            with ThreadPoolExecutor(threads) as pool:
                shares = [np.ascontiguousarray(runs[start::threads]) for start in range(threads)]
                for done in [pool.submit(search_runs, share, *work) for share in shares]:
                    done.result()
    return Matches(torch.from_numpy(cosines), torch.from_numpy(numbers))


def _reach(windows: Windows) -> np.ndarray:
    """How many columns a window reaches to each side, for each of its rows; -1: none."""
    dy = np.arange(-windows.radius, windows.radius + 1)
    if windows.shape == "square":
        return np.full(len(dy), windows.radius)
    # The largest dx with dx^2 < radius^2 - dy^2.
    within = windows.radius**2 - dy**2
    return np.where(within > 0, np.ceil(np.sqrt(within)).astype(np.int64) - 1, -1)


def _runs(tiles: np.ndarray, side: int, height: int, width: int) -> np.ndarray:
    """Cut tiles, (T, 2), into runs of a few rows, not shifted: see `search_runs`."""
    from propagate.matching.window_loop import ROWS

    steps = np.arange(0, side, ROWS)
    y, x = tiles[:, :1] * side + steps, np.repeat(tiles[:, 1:] * side, len(steps), 1)
    rows, columns = (
        np.minimum(np.minimum(ROWS, side - steps), height - y),
        np.minimum(side, width - x),
    )
    unshifted = np.zeros_like(y)
    runs = np.stack([y, x, rows, columns, unshifted, unshifted], axis=-1).reshape(-1, 6)
    return np.ascontiguousarray(runs[runs[:, 2] > 0])


def _keys_of(frame: torch.Tensor) -> np.ndarray:
    """Lay out a frame (h, w, C) as keys: (h, C, w padded with zeros). Kept as long as the frame."""
    from propagate.matching.window_loop import KEYS

    if (keys := _keys.get(frame)) is None:
        height, width, channels = frame.shape
        keys = np.zeros((height, channels, -(-width // KEYS) * KEYS), np.float32)
        keys[..., :width] = frame.numpy().transpose(0, 2, 1)
        _keys[frame] = keys
    return keys
