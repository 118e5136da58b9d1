"""Search: where in the memory the cells of a frame are searched for. Shapes: see `cells.py`."""

from dataclasses import replace

import torch

from propagate.matchers import FlowSettings, Matcher, SearchSettings
from propagate.matching.cells import RememberedFrames, centroid, dilate, within_reach
from propagate.matching.flow import compose, flow_of_best, flow_of_tiles, penalize
from propagate.matching.matches import Frames, Matches, SearchResult, best_of_each, merge_top_k
from propagate.matching.top_k import (
    Query,
    global_top_k,
    local_top_k,
    local_top_k_of_each,
    top_k_around,
)
from propagate.matching.votes import propagate_labels


def search_memory(cells: torch.Tensor, known: RememberedFrames, matcher: Matcher) -> SearchResult:
    """Find the best matches of a frame's cells in the memory.

    Args:
        cells: (h, w, C) of the frame.
        known: What is remembered. Its last frame is the one before this frame.
        matcher: Where to search, how many matches to keep, and whether the flow counts.
    """
    settings = matcher.search
    searched = with_moved_references(known, settings) if settings.moved_reference else known
    if matcher.flow:
        return _search_along_flow(cells, searched, known.flows, matcher, matcher.flow)
    if settings.whole_reference:
        matches = _search_whole_references(cells, searched, matcher)
    else:
        window = (matcher.vote.top_k, settings.radius, settings.window)
        needed = within_reach(searched.labels, settings.radius)
        query = Query(cells, settings.tile_cells)
        matches = local_top_k(query, searched.cells, *window, needed)
    return SearchResult(matches, matches, searched.labels, known.flows)


def with_moved_references(known: RememberedFrames, settings: SearchSettings) -> RememberedFrames:
    """Add, for each object that has moved, its newest reference shifted to where it is now.

    An object may have moved farther than the window reaches. The shifted reference is within reach.
    """
    now = known.labels[-1]
    owned = torch.where(now == now.amax(-1, keepdim=True), now, 0)  # (h, w, L)
    cells, labels = [*known.cells], [known.labels]
    for label in range(1, now.shape[-1]):
        on_references = known.reference_labels[..., label].sum((1, 2))  # (R,)
        if owned[..., label].sum() < 1 or not on_references.any():
            continue
        newest = int((on_references > 0).nonzero()[-1])
        moved = centroid(owned[..., label]) - centroid(known.labels[newest, ..., label])
        by = int(moved[0].round()), int(moved[1].round())
        if max(map(abs, by)) >= settings.moved_cells:
            shifted = shift_object(known.cells[newest], known.labels[newest], label, by)
            cells.append(shifted[0])
            labels.append(shifted[1][None])
    return replace(known, cells=tuple(cells), labels=torch.cat(labels))


def shift_object(
    cells: torch.Tensor, labels: torch.Tensor, label: int, by: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift one object of a frame, and make everything else void.

    Args:
        cells: (h, w, C) of the frame.
        labels: (h, w, L) of the frame.
        label: Of the object.
        by: (dy, dx) in cells; what leaves the grid is lost.

    Returns:
        Cells and labels of the same shapes, zero wherever the object is not.
    """
    (rows_to, rows), (columns_to, columns) = map(_overlap, by, labels.shape[:2])
    own = labels[rows, columns, label]
    shifted_cells, shifted_labels = torch.zeros_like(cells), torch.zeros_like(labels)
    shifted_labels[rows_to, columns_to, label] = own
    shifted_cells[rows_to, columns_to] = cells[rows, columns] * (own > 0)[..., None]
    return shifted_cells, shifted_labels


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Where cells land, and where they come from, along one side that is shifted."""
    kept = max(0, size - abs(by))
    to, source = max(0, by), max(0, -by)
    return slice(to, to + kept), slice(source, source + kept)


def _search_whole_references(
    cells: torch.Tensor, known: RememberedFrames, matcher: Matcher
) -> Matches:
    """Search the references as a whole, and the other frames in the window."""
    settings, top_k = matcher.search, matcher.vote.top_k
    height, width, _ = cells.shape
    found = global_top_k(cells.flatten(0, 1), known.reference_cells, top_k)
    matches = Matches(*(part.view(height, width, top_k) for part in found))
    others = known.cells[known.reference_count :]
    if not others:
        return matches
    query = Query(cells, settings.tile_cells)
    recent = local_top_k(query, others, top_k, settings.radius, settings.window)
    first = known.reference_count * height * width
    return merge_top_k(matches, Matches(recent.cosines, recent.cells + first))


def _search_along_flow(
    cells: torch.Tensor,
    searched: RememberedFrames,
    flows: torch.Tensor,
    matcher: Matcher,
    flow: FlowSettings,
) -> SearchResult:
    """Search the last frame first, then the others near the objects that it shows.

    Args:
        cells: (h, w, C) of the frame.
        searched: The remembered frames, and after them the shifted references.
        flows: (M, h, w, 2) from the last frame to the remembered ones, without the shifted ones.
        matcher, flow: How to match.
    """
    settings = matcher.search
    query = Query(cells, settings.tile_cells)
    window = (flow.candidates, settings.radius, settings.window)
    last = len(flows) - 1
    references = min(searched.reference_count, last)
    # Far from the objects of the last frame there is only background, whatever other frames show.
    # But an object that is hidden in the last frame may be near any place where it ever was.
    hidden = within_reach(_labels_of_hidden(searched.labels[: last + 1]), settings.radius)
    labels = searched.labels[last : last + 1]
    reach = hidden | reached_from(searched.cells[last], labels[0], cells, matcher, flow)
    newest = local_top_k_of_each(query, searched.cells[last : last + 1], *window, reach)
    votes = propagate_labels(newest, labels, matcher.vote.temperature)
    # An object smaller than a cell is faint even where it was given.
    peaks = searched.labels.amax((0, 1, 2))  # (L,)
    seen = (votes[0] > matcher.vote.label_floor * peaks).movedim(-1, 0)[1:]  # (K, h, w)
    # Where the last frame was not searched, no other one is: it would decide alone.
    was_searched = newest.cosines[0, ..., 0] > -torch.inf
    around_objects = dilate(seen, flow.near_cells) & was_searched
    near = hidden | around_objects.any(0)
    step = flow_of_best(newest, torch.zeros_like(flows[:1]))  # (1, h, w, 2)
    expected = torch.cat([compose(flows[:last], step[0]), step])

    found = []
    # References are searched around the cell itself. Their flow adds up over many frames and may be
    # wrong, and then they are what the object is found again by. The same goes for shifted ones.
    if references:
        found.append(local_top_k_of_each(query, searched.cells[:references], *window, near))
    if references < last:
        older = slice(references, last)
        # Where objects meet, the flow is that of the front one, which would miss the other.
        unshifted = near & (hidden | (around_objects.sum(0) > 1))
        offsets = flow_of_tiles(expected[older], votes[0, ..., 0] < 0.5, query.side)
        found.append(_follow_flow(query, searched.cells[older], offsets, near, unshifted, matcher))
    found.append(newest)
    for position in range(last + 1, len(searched.cells)):
        shifted = slice(position, position + 1)
        its = searched.labels[position, ..., 1:].amax((0, 1)) > 0  # (K,)
        there = (hidden | around_objects[its].any(0)) & within_reach(
            searched.labels[shifted], settings.radius
        )
        found.append(local_top_k_of_each(query, searched.cells[shifted], *window, there))
    similar = Matches(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    remembered = Matches(similar.cosines[: last + 1], similar.cells[: last + 1])
    agreeing = penalize(remembered, expected, flow)
    cosines = torch.cat([agreeing.cosines, similar.cosines[last + 1 :]])
    return SearchResult(
        best_of_each(Matches(cosines, similar.cells), matcher.vote.top_k),
        best_of_each(similar, matcher.vote.top_k),
        searched.labels,
        flow_of_best(agreeing, expected),
    )


def _labels_of_hidden(labels: torch.Tensor) -> torch.Tensor:
    """Keep of labels (M, h, w, L) those of objects that win no cell of the last frame."""
    last = labels[-1].flatten(0, 1)  # (h w, L)
    wins = ((last > 0) & (last == last.amax(-1, keepdim=True))).any(0)  # (L,)
    return labels.masked_fill(wins, 0)


def reached_from(
    last_cells: torch.Tensor,
    last_labels: torch.Tensor,
    cells: torch.Tensor,
    matcher: Matcher,
    flow: FlowSettings,
) -> torch.Tensor:
    """Mark the cells where objects may be, by where each of their cells went.

    The window around all cells of an object is far larger than the object. So the object's cells,
    which are few, are searched for in this frame first. Only the places where they were, the places
    where they went, and cells near these are worth a full search.

    Args:
        last_cells, last_labels: (h, w, C) and (h, w, L) of the frame before.
        cells: (h, w, C) of this frame.
        matcher, flow: How to match.

    Returns:
        (h, w) bool.
    """
    settings = matcher.search
    owned = (last_labels[..., 1:] > 0).any(-1)
    query = Query(last_cells, settings.tile_cells)
    places = local_top_k(query, [cells], 1, settings.radius, settings.window, owned).cells
    reached = owned.clone()
    reached.view(-1)[places[owned]] = True
    return dilate(reached[None], flow.near_cells)[0]


def _follow_flow(
    query: Query,
    frames: Frames,
    offsets: torch.Tensor,
    near: torch.Tensor,
    unshifted: torch.Tensor,
    matcher: Matcher,
) -> Matches:
    """Search older frames around the places where the flow leads.

    Args:
        query: The frame.
        frames: M frames (h, w, C).
        offsets: (M, rows, columns, 2) the flow of each tile to each frame.
        near: (h, w) bool, the cells to search for.
        unshifted: (h, w) bool, those of them to search for around their own place.
        matcher: How to match.
    """
    assert matcher.flow is not None
    settings, top_k = matcher.search, matcher.flow.candidates
    radius = min(matcher.flow.radius, settings.radius)
    shifted = near & ~unshifted
    found = top_k_around(query, frames, offsets, top_k, radius, settings.window, shifted)
    if not unshifted.any():
        return found
    window = (top_k, settings.radius, settings.window)
    at_place = local_top_k_of_each(query, frames, *window, unshifted)
    here = unshifted[..., None]
    return Matches(*(torch.where(here, a, b) for a, b in zip(at_place, found, strict=True)))
