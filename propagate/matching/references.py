"""References: taking in a mask that a person gives for a frame. Shapes: see `cells.py`."""

from collections.abc import Collection, Sequence

import torch

from propagate.matchers import Matcher, Reduction
from propagate.matching.cells import FrameCells, RememberedFrames, Subcells
from propagate.matching.labels import labels_from_ids
from propagate.matching.top_k import local_top_k
from propagate.matching.votes import propagate_labels


def reduce_mask(
    ids: torch.Tensor, object_ids: Sequence[int], frame: FrameCells, reduction: Reduction
) -> tuple[torch.Tensor, Subcells | None]:
    """Reduce a mask (H, W) to the labels of a frame's cells, and of its subcells if it has them."""
    height, width, _ = frame.cells.shape
    labels = labels_from_ids(ids, object_ids, (height, width), reduction)
    if frame.colors is None:
        return labels, None
    fine = labels_from_ids(ids, object_ids, (2 * height, 2 * width), reduction)
    return labels, Subcells(frame.colors, fine)


def contradicted_cells(
    frame: FrameCells,
    labels: torch.Tensor,
    known: RememberedFrames,
    given: Collection[int],
    new: Collection[int],
    matcher: Matcher,
) -> list[torch.Tensor]:
    """Find the remembered cells whose labels a new reference contradicts.

    An object that joins now was background in every frame before. One that is corrected was
    somewhere else in the recent frames. Remembered cells that match the object's own cells on the
    new reference would outvote it. What a person said about a known object on an earlier reference
    stays.

    Args:
        frame: The new reference frame.
        labels: (h, w, L) of its mask.
        known: What is remembered before it.
        given: Labels of the objects in the mask; those count for frames that are no references.
        new: Labels of the objects that join now; those count for references.
        matcher: How to match.

    Returns:
        (h, w) bool for each remembered frame.
    """
    vote, search = matcher.vote, matcher.search
    contradicted = []
    for position, (cells, before) in enumerate(zip(known.cells, known.labels, strict=True)):
        is_reference = position < known.reference_count
        radius = max(cells.shape[:2]) if is_reference else search.radius
        window = "square" if is_reference else search.window
        matches = local_top_k(cells, frame.cells[None], vote.top_k, radius, window)
        now = propagate_labels(matches, labels[None], vote.temperature).argmax(-1)
        changed = torch.tensor([*(new if is_reference else given)], device=now.device)
        contradicted.append(torch.isin(now, changed) & (before.argmax(-1) != now))
    return contradicted
