"""Boundaries sharper than the grid of the features: quarters of a cell, told apart by colour.

Along the boundary of an object a cell is a bit of both, and its soft label says how much, but not
where. Its matches know: the quarters of those cells have labels, and the quarters here look like
some of them and not like others.

The letters of shapes are those of `matching.py`. A quarter has the number m * 4 * h * w + y * 2w +
x, with y and x on the grid of quarters, (2h, 2w).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from propagate.matching.votes import propagate_labels

# A cell is on the boundary where a label changes by more than this within a cell around it.
BOUNDARY_CHANGE = 0.5
# The quarters of a matched cell are asked, and those next to them: a match is as good as a cell.
REACH = 1
# A label may become so many times stronger or weaker in all quarters of a cell, so that together
# they say what the cell said; shares below the second number are not worth it. If more than the
# third differs of what they say, the cell knows something else, from motion, say: it stays whole.
MOST_CHANGE = 5.0
LEAST_SHARE = 0.02
MOST_DIFFERENCE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Quarters:
    """The quarters of the cells of a frame.

    Attributes:
        colors: (2h, 2w, 3), standardised.
        labels: (2h, 2w, L) soft labels, background first.
    """

    colors: torch.Tensor
    labels: torch.Tensor


def quarter_colors(colors: torch.Tensor) -> torch.Tensor:
    """Put the colours (12, h, w) of cells, as `cell_colors` orders them, on the finer grid.

    Returns:
        (2h, 2w, 3).
    """
    return F.pixel_shuffle(colors, 2).permute(1, 2, 0).contiguous()


def boundary(labels: torch.Tensor) -> torch.Tensor:
    """Mark the cells (h, w) along which objects of (h, w, L) soft labels end."""
    maps = labels.permute(2, 0, 1)[None, 1:]
    highest = F.max_pool2d(maps, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-maps, 3, stride=1, padding=1)
    return (highest - lowest).amax((0, 1)) > BOUNDARY_CHANGE


def quarter_labels(
    labels: torch.Tensor,
    matches: tuple[torch.Tensor, torch.Tensor],
    colors: torch.Tensor,
    memory: Sequence[Quarters],
    temperature: float,
    sharpness: float,
) -> torch.Tensor:
    """Give labels to the quarters of cells.

    Along boundaries, the quarters of the matched cells vote, and those next to them, each with the
    cosine of its cell less what its colour differs; together the quarters of a cell keep what the
    cell was found to be. Elsewhere labels are interpolated, and where the votes say something else.

    Args:
        labels: (h, w, L) soft labels of the cells.
        matches: Cosines and memory cells (h, w, k), as `local_top_k` gives them.
        colors: (2h, 2w, 3) of the frame, standardised.
        memory: M of the frames that were matched, the first ones; matches in others do not count.
        temperature: Divides the cosines.
        sharpness: Of the squared distance of two colours, beside the divided cosine.

    Returns:
        (2h, 2w, L).
    """
    height, width, _ = labels.shape
    fine = F.interpolate(labels.permute(2, 0, 1)[None], scale_factor=2, mode="bilinear")[0]
    fine = fine.permute(1, 2, 0).contiguous()  # (2h, 2w, L)
    known = (matches[0] > -torch.inf) & (matches[1] < len(memory) * height * width)  # (h, w, k)
    asked = boundary(labels) & known.any(-1)
    y, x = asked.nonzero().T[..., None]  # (n, 1)
    if not len(y):
        return fine
    corner = torch.arange(2, device=labels.device)
    own_y = 2 * y + corner.repeat_interleave(2)  # (n, 4)
    own_x = 2 * x + corner.repeat(2)
    known = known[asked]
    values = matches[0][asked].masked_fill(~known, -torch.inf)
    cells = matches[1][asked].masked_fill(~known, 0)
    around, exists = _quarters_around(cells, height, width)  # (n, k, q)
    there = torch.stack([quarters.colors for quarters in memory]).flatten(0, 2)[around]
    here = colors[own_y, own_x]  # (n, 4, 3)
    distance = (here[:, :, None] - there.flatten(1, 2)[:, None]).square().sum(-1)  # (n, 4, kq)
    votes = values[..., None].expand_as(around).masked_fill(~exists, -torch.inf)
    votes = votes.flatten(1)[:, None] - temperature * sharpness * distance
    voted = propagate_labels(
        votes,
        around.flatten(1)[:, None].expand(-1, 4, -1).contiguous(),
        torch.stack([quarters.labels for quarters in memory]),
        temperature,
    )  # (n, 4, L)
    of_cell, together = labels[asked], voted.mean(1)  # (n, L)
    change = (of_cell + LEAST_SHARE) / (together + LEAST_SHARE)
    voted = voted * change.clamp(1 / MOST_CHANGE, MOST_CHANGE)[:, None]
    voted = voted / voted.sum(-1, keepdim=True)
    differ = (of_cell - together).abs().sum(-1) > 2 * MOST_DIFFERENCE
    fine[own_y, own_x] = torch.where(differ[:, None, None], fine[own_y, own_x], voted)
    return fine


def _quarters_around(
    cells: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The quarters of memory cells (n, k), and those next to them.

    Returns:
        Their numbers, and which of them exist: (n, k, q). One that does not has the number of
        another.
    """
    steps = torch.arange(-REACH, 2 + REACH, device=cells.device)
    frame, y, x = cells // (height * width), cells // width % height, cells % width
    rows = 2 * y[..., None] + steps.repeat_interleave(len(steps))
    columns = 2 * x[..., None] + steps.repeat(len(steps))
    exists = (rows >= 0) & (rows < 2 * height) & (columns >= 0) & (columns < 2 * width)
    rows, columns = rows.clamp(0, 2 * height - 1), columns.clamp(0, 2 * width - 1)
    return (frame[..., None] * 2 * height + rows) * 2 * width + columns, exists
