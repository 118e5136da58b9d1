"""Matches: what a search finds, and how results are joined. Shapes: see `cells.py`.

A cell of the memory has one number: m * h * w + y * w + x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from propagate.matchers import Window

Frames = Sequence[torch.Tensor] | torch.Tensor


class Windows(NamedTuple):
    """Where cells are searched for, and how many matches are kept.

    Attributes:
        top_k: Matches of a cell.
        radius: Reach of the window in cells.
        shape: "square" or "circle", as for `local_top_k`.
    """

    top_k: int
    radius: int
    shape: Window = "square"


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


def merge_top_k(first: Matches, second: Matches) -> Matches:
    """Keep the k best of two results (..., k) that number cells alike."""
    values, place = torch.cat([first.cosines, second.cosines], dim=-1).topk(first.cells.shape[-1])
    return Matches(values, torch.cat([first.cells, second.cells], dim=-1).gather(-1, place))


def best_of_each(found: Matches, top_k: int) -> Matches:
    """Keep the best of the matches (M, h, w, k) that `local_top_k_of_each` found in all frames.

    Returns:
        Matches (h, w, top_k), or as many as there are, numbered as in `local_top_k`.
    """
    frames, height, width, kept = found.cells.shape
    first = torch.arange(frames, device=found.cells.device) * (height * width)
    top_k = min(top_k, frames * kept)
    cosines = found.cosines.new_full((height, width, top_k), -torch.inf)
    cells = torch.zeros_like(cosines, dtype=torch.int64)
    # Most cells of a frame are not searched for.
    matched = (found.cosines > -torch.inf).any(-1).any(0)
    numbered = found.cells[:, matched] + first[:, None, None]  # (M, n, k)
    values, numbered = (
        part.movedim(0, 1).flatten(1) for part in (found.cosines[:, matched], numbered)
    )
    values, best = values.topk(top_k)
    cosines[matched], cells[matched] = values, numbered.gather(1, best)
    return Matches(cosines, cells)
