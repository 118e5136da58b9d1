"""The 2x subcell grid: boundaries finer than the features, by colour.

A cell on the boundary of an object is part object and part background. Its soft label says how
much, but not where. Its matches know: their subcells have labels, and the subcells of this cell
have the colours of some of them and not of others.

Shapes: see `cells.py`. A subcell has the number m * 4 * h * w + y * 2w + x, with y and x on the
subcell grid (2h, 2w).
"""

import torch
import torch.nn.functional as F

from propagate.matchers import SubcellSettings
from propagate.matching.cells import FrameCells, RememberedFrames, Subcells
from propagate.matching.matches import Matches
from propagate.matching.votes import propagate_labels


def label_subcells(
    frame: FrameCells,
    labels: torch.Tensor,
    matches: Matches,
    known: RememberedFrames,
    temperature: float,
    settings: SubcellSettings | None,
) -> Subcells | None:
    """Give labels to the subcells of a frame.

    Along boundaries the subcells of the matches vote, and those next to them, each with the cosine
    of its cell minus a penalty for its colour. Together the four subcells keep the label of their
    cell. Elsewhere, and where the votes contradict the cell, labels are interpolated.

    Args:
        frame: With colours on the subcell grid.
        labels: (h, w, L) soft labels of the cells.
        matches: (h, w, k). Only those in remembered frames count, not those in shifted references.
        known: What is remembered.
        temperature: Divides the cosines.
        settings: None: there is no subcell grid.
    """
    if settings is None or frame.colors is None:
        return None
    height, width, _ = labels.shape
    fine = F.interpolate(labels.permute(2, 0, 1)[None], scale_factor=2, mode="bilinear")[0]
    fine = fine.permute(1, 2, 0).contiguous()  # (2h, 2w, L)
    matched = (matches.cosines > -torch.inf) & (
        matches.cells < len(known.subcells) * height * width
    )  # (h, w, k)
    asked = boundary(labels, settings.boundary_change) & matched.any(-1)
    y, x = asked.nonzero().T[..., None]  # (n, 1)
    if not len(y):
        return Subcells(frame.colors, fine)
    corner = torch.arange(2, device=labels.device)
    own_y = 2 * y + corner.repeat_interleave(2)  # (n, 4)
    own_x = 2 * x + corner.repeat(2)
    matched = matched[asked]
    cosines = matches.cosines[asked].masked_fill(~matched, -torch.inf)
    cells = matches.cells[asked].masked_fill(~matched, 0)
    around, exists = _subcells_around(cells, height, width, settings.reach)  # (n, k, q)
    there = torch.stack([subcells.colors for subcells in known.subcells]).flatten(0, 2)[around]
    here = frame.colors[own_y, own_x]  # (n, 4, 3)
    distance = (here[:, :, None] - there.flatten(1, 2)[:, None]).square().sum(-1)  # (n, 4, kq)
    votes = cosines[..., None].expand_as(around).masked_fill(~exists, -torch.inf)
    votes = votes.flatten(1)[:, None] - temperature * settings.sharpness * distance
    voted = propagate_labels(
        Matches(votes, around.flatten(1)[:, None].expand(-1, 4, -1).contiguous()),
        torch.stack([subcells.labels for subcells in known.subcells]),
        temperature,
    )  # (n, 4, L)
    of_cell, together = labels[asked], voted.mean(1)  # (n, L)
    change = (of_cell + settings.smallest_share) / (together + settings.smallest_share)
    voted = voted * change.clamp(1 / settings.largest_change, settings.largest_change)[:, None]
    voted = voted / voted.sum(-1, keepdim=True)
    differ = (of_cell - together).abs().sum(-1) > 2 * settings.largest_difference
    fine[own_y, own_x] = torch.where(differ[:, None, None], fine[own_y, own_x], voted)
    return Subcells(frame.colors, fine)


def boundary(labels: torch.Tensor, change: float) -> torch.Tensor:
    """Mark the cells (h, w) where a label of (h, w, L) changes by more than `change` nearby."""
    maps = labels.permute(2, 0, 1)[None, 1:]
    highest = F.max_pool2d(maps, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-maps, 3, stride=1, padding=1)
    return (highest - lowest).amax((0, 1)) > change


def _subcells_around(
    cells: torch.Tensor, height: int, width: int, reach: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Number the subcells of memory cells (n, k), and those up to `reach` around them.

    Returns:
        Numbers, and which of them exist: (n, k, q). One that does not exist has the number of
        another one.
    """
    steps = torch.arange(-reach, 2 + reach, device=cells.device)
    frame, y, x = cells // (height * width), cells // width % height, cells % width
    rows = 2 * y[..., None] + steps.repeat_interleave(len(steps))
    columns = 2 * x[..., None] + steps.repeat(len(steps))
    exists = (rows >= 0) & (rows < 2 * height) & (columns >= 0) & (columns < 2 * width)
    rows, columns = rows.clamp(0, 2 * height - 1), columns.clamp(0, 2 * width - 1)
    return (frame[..., None] * 2 * height + rows) * 2 * width + columns, exists
