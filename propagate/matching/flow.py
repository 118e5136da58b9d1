"""Flow: where the cells of a frame lie in those remembered, and matches that agree with it.

One windscreen looks like the next, but none leaps from car to car while all around it goes another
way. So a match counts less the farther it lies from where the neighbours of its cell lie in that
frame, and from where the cell itself lay a frame ago.

The letters of shapes are those of `matching.py`. A flow (h, w, 2) says of each cell of a frame how
far off, (dy, dx) in cells, its place in another frame is.
"""

import torch
import torch.nn.functional as F

# The best matches in each remembered frame, among which flow decides.
CANDIDATES = 6
# In cells. So far from where it is expected, a match loses 0.4 of the weight, twice as far 0.86,
# and never more than all of it: a cut ends all flow.
TOLERANCE = 8.0
# Where things part or meet, a cell may have gone the way of those so many cells beside it.
ASIDE = 3


def carried(flows: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Carry flows from the last frame to others over to this frame.

    Args:
        flows: (M, h, w, 2) from the last frame.
        by: (h, w, 2) from this frame to the last.

    Returns:
        (M, h, w, 2) from this frame. What has come in over the border goes the way of the border.
    """
    height, width, _ = by.shape
    size = torch.tensor([height, width], device=by.device)
    place = (_places(height, width, by.device) + by + 0.5) * 2 / size - 1
    moved = F.grid_sample(
        flows.permute(0, 3, 1, 2),
        place.flip(-1).expand(len(flows), -1, -1, -1),
        padding_mode="border",
        align_corners=False,
    )
    return by + moved.permute(0, 2, 3, 1)


def median(flows: torch.Tensor) -> torch.Tensor:
    """Replace each cell's flow (M, h, w, 2) by the median of three rows' medians of three cells."""
    for dim in (2, 1):
        size = flows.shape[dim]
        padded = torch.cat([flows.narrow(dim, 0, 1), flows, flows.narrow(dim, size - 1, 1)], dim)
        a, b, c = (padded.narrow(dim, start, size) for start in range(3))
        flows = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    return flows


def of_best(values: torch.Tensor, cells: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    """Give the flow of the best matches, its median that is.

    Args:
        values, cells: (M, h, w, k), cosines and cells of M frames, as `local_top_k_of_each` gives
            them.
        otherwise: (M, h, w, 2) of cells that were not matched.

    Returns:
        (M, h, w, 2).
    """
    highest, best = values.max(-1, keepdim=True)
    dy, dx = _leaps(cells.gather(-1, best))
    found = torch.cat([dy, dx], dim=-1)
    return median(torch.where(highest > -torch.inf, found, otherwise))


def agreeing(
    values: torch.Tensor, cells: torch.Tensor, expected: torch.Tensor, weight: float
) -> torch.Tensor:
    """Let matches count less that lie off the flow.

    Args:
        values, cells: As for `of_best`.
        expected: (M, h, w, 2), the flow to each frame.
        weight: What a match far off loses of its cosine.

    Returns:
        The cosines (M, h, w, k).
    """
    detour = _detour(*_leaps(cells), expected)
    return values - weight * (1 - detour.div_(-2 * TOLERANCE**2).exp_())


def of_tiles(flows: torch.Tensor, held: torch.Tensor, side: int) -> torch.Tensor:
    """Give each tile one flow: the median of its cells that an object holds, of all if none does.

    Args:
        flows: (M, h, w, 2).
        held: (h, w) bool.
        side: Of a tile; those at the right and lower border are cut off.

    Returns:
        (M, ceil(h / side), ceil(w / side), 2) int64.
    """
    height, width = held.shape
    beyond = 0, 0, 0, -width % side, 0, -height % side
    flows, held = F.pad(flows, beyond, value=torch.nan), F.pad(held, beyond[2:])

    def tiled(cells: torch.Tensor) -> torch.Tensor:
        tiles = cells.unflatten(1, (-1, side)).unflatten(3, (-1, side))
        return tiles.transpose(2, 3).flatten(3, 4)  # (M, rows, columns, side^2, 2)

    of_held = tiled(torch.where(held[..., None], flows, torch.nan)).nanmedian(3).values
    of_all = tiled(flows).nanmedian(3).values
    return torch.where(of_held.isnan(), of_all, of_held).round().long()


def _detour(dy: torch.Tensor, dx: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Squared distance of matches from the nearest place that the flow at a cell, or aside, says.

    Args:
        dy, dx: (N, h, w, k).
        expected: (N, h, w, 2).

    Returns:
        (N, h, w, k).
    """
    _, height, width, _ = expected.shape
    # Planes (N, k, h, w) and (N, 2, h, w): of numbers in one long row, half the time.
    dy, dx = (plane.permute(0, 3, 1, 2).contiguous() for plane in (dy, dx))
    around = F.pad(expected.permute(0, 3, 1, 2), (ASIDE, ASIDE, ASIDE, ASIDE), mode="replicate")
    detour = torch.full_like(dy, torch.inf)
    for top in (0, ASIDE, 2 * ASIDE):
        for left in (0, ASIDE, 2 * ASIDE):
            aside = around[..., top : top + height, left : left + width].contiguous()
            off = (dy - aside[:, :1]).square_()
            torch.minimum(detour, off.add_((dx - aside[:, 1:]).square_()), out=detour)
    return detour.permute(0, 2, 3, 1)


def _leaps(cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far off the cells (M, h, w, k) of matches are: planes of dy and dx, (M, h, w, k) each.

    They are kept apart, so that all that follows runs over contiguous numbers.
    """
    height, width = cells.shape[1:3]
    here = _places(height, width, cells.device)
    # Dividing integers takes ten times as long; half a cell is far more than is rounded.
    numbers = cells.to(here.dtype)
    y = ((numbers + 0.5) / width).floor_()
    x = numbers.sub_(y * width)
    return y.sub_(here[..., :1]), x.sub_(here[..., 1:])


def _places(height: int, width: int, device: torch.device) -> torch.Tensor:
    """The (y, x) of every cell: (h, w, 2)."""
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
