"""Flow: where the cells of a frame lie in the remembered frames, and matches that agree with it.

One windscreen looks like the next, but a single cell does not jump to another car while all cells
around it go elsewhere. So a match counts less the farther it lies from the flow: from where the
neighbours of its cell go, and from where the cell itself was a frame ago.

Shapes: see `cells.py`. A flow (h, w, 2) holds for each cell the displacement (dy, dx), in cells, to
its place in another frame.
"""

import torch
import torch.nn.functional as F

from propagate.matchers import FlowSettings
from propagate.matching.matches import Matches


def compose(flows: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Prolong flows that start at the last frame, so that they start at this frame.

    Args:
        flows: (M, h, w, 2) from the last frame.
        step: (h, w, 2) from this frame to the last.

    Returns:
        (M, h, w, 2) from this frame. What entered over the border takes the flow of the border.
    """
    height, width, _ = step.shape
    size = torch.tensor([height, width], device=step.device)
    place = (_positions(height, width, step.device) + step + 0.5) * 2 / size - 1
    moved = F.grid_sample(
        flows.permute(0, 3, 1, 2),
        place.flip(-1).expand(len(flows), -1, -1, -1),
        padding_mode="border",
        align_corners=False,
    )
    return step + moved.permute(0, 2, 3, 1)


def median_filter(flows: torch.Tensor) -> torch.Tensor:
    """Replace each cell's flow (M, h, w, 2) by the median of its rows' medians, 3 x 3 cells."""
    for dim in (2, 1):
        size = flows.shape[dim]
        padded = torch.cat([flows.narrow(dim, 0, 1), flows, flows.narrow(dim, size - 1, 1)], dim)
        a, b, c = (padded.narrow(dim, start, size) for start in range(3))
        flows = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    return flows


def flow_of_best(matches: Matches, fallback: torch.Tensor) -> torch.Tensor:
    """Take the displacement of each cell's best match, median filtered.

    Args:
        matches: (M, h, w, k) in M frames, as `local_top_k_of_each` gives them.
        fallback: (M, h, w, 2) for cells without a match.

    Returns:
        (M, h, w, 2).
    """
    highest, best = matches.cosines.max(-1, keepdim=True)
    _, height, width, _ = best.shape
    here = _positions(height, width, best.device)
    displaced = _displacements(matches.cells.gather(-1, best), here[..., :1], here[..., 1:], width)
    found = torch.cat(displaced, dim=-1)
    return median_filter(torch.where(highest > -torch.inf, found, fallback))


def penalize(matches: Matches, expected: torch.Tensor, settings: FlowSettings) -> Matches:
    """Lower the cosines of matches that lie far from the flow.

    Args:
        matches: (M, h, w, k), as for `flow_of_best`.
        expected: (M, h, w, 2), the flow to each frame.
        settings: How much, and how far is far.
    """
    # Most cells of a frame are not searched for.
    matched = (matches.cosines > -torch.inf).any(-1).any(0)
    y, x = matched.nonzero().T  # (n,)
    dy, dx = _displacements(matches.cells[:, matched], y[:, None], x[:, None], matched.shape[1])
    distance = _squared_distance(dy, dx, expected, y, x, settings.aside_cells)
    agreement = distance.div_(-2 * settings.tolerance_cells**2).exp_()
    cosines = matches.cosines.clone()
    cosines[:, matched] -= settings.weight * (1 - agreement)
    return Matches(cosines, matches.cells)


def flow_of_tiles(flows: torch.Tensor, owned: torch.Tensor, side: int) -> torch.Tensor:
    """Give each tile one flow: the median over its cells that belong to an object, or over all.

    Args:
        flows: (M, h, w, 2).
        owned: (h, w) bool, cells of objects.
        side: Of a tile; tiles at the right and lower border are cut off.

    Returns:
        (M, ceil(h / side), ceil(w / side), 2) int64.
    """
    height, width = owned.shape
    beyond = 0, 0, 0, -width % side, 0, -height % side
    flows, owned = F.pad(flows, beyond, value=torch.nan), F.pad(owned, beyond[2:])

    def tiled(cells: torch.Tensor) -> torch.Tensor:
        tiles = cells.unflatten(1, (-1, side)).unflatten(3, (-1, side))
        return tiles.transpose(2, 3).flatten(3, 4)  # (M, rows, columns, side^2, 2)

    of_objects = tiled(torch.where(owned[..., None], flows, torch.nan)).nanmedian(3).values
    of_all = tiled(flows).nanmedian(3).values
    return torch.where(of_objects.isnan(), of_all, of_objects).round().long()


def _squared_distance(
    dy: torch.Tensor,
    dx: torch.Tensor,
    expected: torch.Tensor,
    y: torch.Tensor,
    x: torch.Tensor,
    aside: int,
) -> torch.Tensor:
    """Squared distance of matches from the flow at their cell, or at the nearest fitting neighbour.

    Args:
        dy, dx: (M, n, k) displacements.
        expected: (M, h, w, 2).
        y, x: (n,) the cells.
        aside: The neighbours are this many cells away, in eight directions.

    Returns:
        (M, n, k).
    """
    _, height, width, _ = expected.shape
    # Planes (M, k, n) and (M, 2, n): with long rows this takes half the time.
    dy, dx = (plane.transpose(1, 2).contiguous() for plane in (dy, dx))
    planes = expected.movedim(3, 1).flatten(2)  # (M, 2, h w)
    nearest = torch.full_like(dy, torch.inf)
    for up in (-aside, 0, aside):
        for left in (-aside, 0, aside):
            place = (y + up).clamp(0, height - 1) * width + (x + left).clamp(0, width - 1)
            flow = planes[..., place]
            distance = (dy - flow[:, :1]).square_()
            torch.minimum(nearest, distance.add_((dx - flow[:, 1:]).square_()), out=nearest)
    return nearest.transpose(1, 2)


def _displacements(
    cells: torch.Tensor, y: torch.Tensor, x: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn matches (..., k) of the cells at y, x on a grid into dy and dx, (..., k) each."""
    # Integer division takes ten times as long; half a cell is far above any rounding.
    numbers = cells.to(torch.float32)
    rows = ((numbers + 0.5) / width).floor_()
    columns = numbers.sub_(rows * width)
    return rows.sub_(y), columns.sub_(x)


def _positions(height: int, width: int, device: torch.device) -> torch.Tensor:
    """The (y, x) of every cell: (h, w, 2)."""
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
