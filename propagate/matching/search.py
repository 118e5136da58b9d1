"""Search: where in the memory the cells of a frame are looked for.

The letters of shapes are those of `matching.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from propagate.config import Matcher
from propagate.matching.cells import centre, moved_instance, widened, within_reach
from propagate.matching.flow import CANDIDATES, agreeing, carried, of_best, of_tiles
from propagate.matching.top_k import (
    TILE,
    Tiles,
    best_of_each,
    local_top_k,
    local_top_k_of_each,
    top_k_around,
)
from propagate.matching.votes import propagate_labels
from propagate.memory import Remembered

# An object that has moved so many cells is also searched for where it is now.
MOVED_CELLS = 4
# How near, in cells, to where objects may be the last frame is asked, and how near to what it says
# that they hold the others.
NEAR_CELLS = 2
# How far around where the flow leads they are asked. Farther, masks are no better.
FOLLOWED_RADIUS = 6

Matches = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the search of a frame found.

    Attributes:
        matches: Cosines and memory cells (h, w, k) as of `local_top_k`: the best along the flow,
            their cosines less what they lost by lying off it.
        alike: The same by likeness alone.
        flows: (M, h, w, 2) from the frame to each remembered.
    """

    matches: Matches
    alike: Matches
    flows: torch.Tensor


def with_moved(known: Remembered, references: int) -> Remembered:
    """Add, for each object that has moved, its newest reference moved along with it."""
    now = known.labels[-1]
    held = torch.where(now == now.amax(-1, keepdim=True), now, 0)  # (h, w, L)
    features, labels = [*known.features], [known.labels]
    for label in range(1, now.shape[-1]):
        origins = known.labels[:references, ..., label].sum((1, 2))
        if held[..., label].sum() < 1 or not origins.any():
            continue
        newest = int((origins > 0).nonzero()[-1])
        moved = centre(held[..., label]) - centre(known.labels[newest, ..., label])
        by = int(moved[0].round()), int(moved[1].round())
        if max(map(abs, by)) >= MOVED_CELLS:
            entry = moved_instance(known.features[newest], known.labels[newest], label, by)
            features.append(entry[0])
            labels.append(entry[1][None])
    return Remembered(tuple(features), torch.cat(labels))


def along_flow(
    cells: torch.Tensor,
    searched: Remembered,
    references: int,
    flows: torch.Tensor,
    matcher: Matcher,
) -> Found:
    """Match a frame's cells (h, w, C) with memory cells, those along the flow before others.

    Args:
        cells: Normalised.
        searched: The frames remembered, the last of them the one before this, and after it those
            that `with_moved` added.
        references: How many of them, from the front, are references.
        flows: (M, h, w, 2) from the frame before this one to those remembered.
        matcher: How to match.
    """
    tiles = Tiles(cells)
    window = (CANDIDATES, matcher.radius, matcher.window)
    last = len(flows) - 1
    references = min(references, last)
    # The last frame is asked first. Far from what it says that objects hold there is background,
    # whatever other frames say; only an object hidden in it may be wherever it ever was.
    hidden = within_reach(_hidden(searched.labels[: last + 1]), matcher.radius)
    labels = searched.labels[last : last + 1]
    reach = hidden | reached(cells, searched.features[last], labels[0], matcher)
    newest = local_top_k_of_each(tiles, searched.features[last : last + 1], *window, reach)
    votes = propagate_labels(*newest, labels, matcher.temperature)
    # An object smaller than a cell is faint even where it was given.
    peaks = searched.labels.amax((0, 1, 2))  # (L,)
    seen = (votes[0] > matcher.label_floor * peaks).movedim(-1, 0)[1:]  # (K, h, w)
    # Where the last frame was not asked, no other one is, which then would speak alone.
    asked = newest[0][0, ..., 0] > -torch.inf
    around_objects = widened(seen, NEAR_CELLS) & asked
    near = hidden | around_objects.any(0)
    step = of_best(*newest, torch.zeros_like(flows[:1]))  # (1, h, w, 2)
    expected = torch.cat([carried(flows[:last], step[0]), step])

    found = []
    # References are asked where they are: flow, which adds up over many frames, may be lost, and
    # then they are what it is found again by. So is a copy of one moved along with an object.
    if references:
        features = searched.features[:references]
        found.append(local_top_k_of_each(tiles, features, *window, near))
    if references < last:
        others = slice(references, last)
        # Where objects meet, flow is that of the one in front, and the other would not be found.
        still = near & (hidden | (around_objects.sum(0) > 1))
        features, held = searched.features[others], votes[0, ..., 0] < 0.5
        found.append(_followed(tiles, features, expected[others], held, near, still, matcher))
    found.append(newest)
    for position in range(last + 1, len(searched.features)):
        moved = slice(position, position + 1)
        its = searched.labels[position, ..., 1:].amax((0, 1)) > 0  # (K,)
        there = (hidden | around_objects[its].any(0)) & within_reach(
            searched.labels[moved], matcher.radius
        )
        found.append(local_top_k_of_each(tiles, searched.features[moved], *window, there))
    cosines, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    of_flow = slice(last + 1)
    values = agreeing(cosines[of_flow], places[of_flow], expected, matcher.flow_weight)
    flows = of_best(values, places[of_flow], expected)
    along = torch.cat([values, cosines[last + 1 :]])
    matches, alike = (best_of_each(v, places, matcher.top_k) for v in (along, cosines))
    return Found(matches, alike, flows)


def reached(
    cells: torch.Tensor, last: torch.Tensor, labels: torch.Tensor, matcher: Matcher
) -> torch.Tensor:
    """Mark the cells that objects may be at, going by where each of their cells went.

    A window around all that objects hold is far larger than what they are found in. So their cells,
    which are few, look for where they are in this frame first: there, where they were, and near
    both, this frame's cells are worth searching for.

    Args:
        cells: (h, w, C) of the frame.
        last: (h, w, C) of the one before.
        labels: (h, w, L) of that.
        matcher: How to match.

    Returns:
        (h, w) bool.
    """
    held = (labels[..., 1:] > 0).any(-1)
    window = (1, matcher.radius, matcher.window)
    _, places = local_top_k(last, [cells], *window, held)  # (h, w, 1)
    held_now = held.clone()
    held_now.view(-1)[places[held]] = True
    return widened(held_now[None], NEAR_CELLS)[0]


def _followed(
    tiles: Tiles,
    features: Sequence[torch.Tensor],
    expected: torch.Tensor,
    held: torch.Tensor,
    near: torch.Tensor,
    still: torch.Tensor,
    matcher: Matcher,
) -> Matches:
    """Search frames around where the flow leads.

    Args:
        tiles: Of the query.
        features: M frames (h, w, C).
        expected: (M, h, w, 2), the flow to each frame.
        held: (h, w) bool, cells that an object holds: tiles go with them.
        near: (h, w) bool, cells to search for.
        still: (h, w) bool, those among them to search for around where they are.
        matcher: How to match.
    """
    offsets = of_tiles(expected, held, TILE)
    radius = min(FOLLOWED_RADIUS, matcher.radius)
    found = top_k_around(
        tiles, features, offsets, CANDIDATES, radius, matcher.window, near & ~still
    )
    if not still.any():
        return found
    window = (CANDIDATES, matcher.radius, matcher.window)
    around_itself = local_top_k_of_each(tiles, features, *window, still)
    cosines, places = (
        torch.where(still[..., None], a, b) for a, b in zip(around_itself, found, strict=True)
    )
    return cosines, places


def _hidden(labels: torch.Tensor) -> torch.Tensor:
    """Labels (M, h, w, L) of the objects that hold no cell of the last frame, zero for others."""
    last = labels[-1].flatten(0, 1)  # (h w, L)
    holds = ((last > 0) & (last == last.amax(-1, keepdim=True))).any(0)  # (L,)
    return labels.masked_fill(holds, 0)
