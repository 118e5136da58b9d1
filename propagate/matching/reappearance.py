"""Reappearance: which objects are absent, and finding them again anywhere in the frame.

Shapes: see `cells.py`.
"""

from collections.abc import Sequence

import torch

from propagate.matchers import Matcher, ReappearanceSettings, VoteSettings
from propagate.matching.appearance import (
    appearance_floor,
    appearance_map,
    fused_on_one_scale,
    instance_prototypes,
)
from propagate.matching.cells import FrameCells, RememberedFrames
from propagate.matching.labels import give_to_background
from propagate.matching.top_k import global_top_k
from propagate.matching.votes import propagate_labels


def remove_and_find_again(
    frame: FrameCells,
    labels: torch.Tensor,
    known: RememberedFrames,
    classes: Sequence[int | None],
    matcher: Matcher,
) -> torch.Tensor:
    """Take absent objects out of the labels, and look for them in the whole frame.

    Args:
        frame: The frame.
        labels: (h, w, L) of the frame.
        known: What is remembered.
        classes: For each object the position of its class among the named ones, or None.
        matcher: Without reappearance settings, the labels stay as they are.
    """
    settings = matcher.reappearance
    if settings is None:
        return labels
    absent = absent_objects(labels, known, settings)
    if not absent.any():
        return labels
    semantic = None
    if any(number is not None for number in classes):
        semantic = by_label(frame.semantic, classes), by_label(known.semantic, classes)
    present = give_to_background(labels, absent)
    return find_again(frame.cells, present, absent, known, semantic, matcher.vote, settings)


def absent_objects(
    labels: torch.Tensor, known: RememberedFrames, settings: ReappearanceSettings
) -> torch.Tensor:
    """Tell which objects are absent, by how much of them is left.

    Args:
        labels: (h, w, L) of the frame, as matched.
        known: The frames before. Its last frame is the one before this frame.
        settings: The shares below which an object is absent.

    Returns:
        (L,) bool; the background never is.
    """
    references = known.reference_labels
    recent = known.labels[known.reference_count :]
    before_labels = recent if len(recent) else known.labels
    # An object smaller than a cell has a peak below one even where it was given.
    threshold = 0.5 * references.amax((0, 1, 2))  # (L,)
    before = (before_labels > threshold).sum((1, 2))  # (M, L) cells
    now = (labels > threshold).sum((0, 1))  # (L,)
    absent = (before[-1] == 0) | (now <= settings.cut_area_share * before[-1])
    absent |= now <= settings.lost_area_share * before.amax(0)
    absent[0] = False
    return absent


def by_label(semantic: torch.Tensor, classes: Sequence[int | None]) -> torch.Tensor:
    """Turn semantic maps (..., N) of classes into maps (..., L) of labels, NaN without a class."""
    maps = semantic.new_full((*semantic.shape[:-1], len(classes) + 1), torch.nan)
    for label, number in enumerate(classes, start=1):
        if number is not None:
            maps[..., label] = semantic[..., number]
    return maps


def find_again(
    cells: torch.Tensor,
    labels: torch.Tensor,
    absent: torch.Tensor,
    known: RememberedFrames,
    semantic: tuple[torch.Tensor, torch.Tensor] | None,
    vote: VoteSettings,
    settings: ReappearanceSettings,
) -> torch.Tensor:
    """Look for the absent objects in the whole frame.

    PDM's appearance map (eq. 5), or its mean with the semantic map where a class is named (eq. 7),
    proposes cells that look like the object as a whole. Then all cells of the reference frames vote
    there, so that a look-alike on them can object. A few such cells prove nothing: the object stays
    absent until enough of it is seen.

    Args:
        cells: (h, w, C) of the frame.
        labels: (h, w, L) of the frame, without the absent objects.
        absent: (L,) bool.
        known: Its reference frames are searched as a whole.
        semantic: The semantic maps of the frame, (h, w, L), and of the references, (R, h, w, L);
            NaN for a label without a class. None: no class is named.
        vote: How reference cells vote.
        settings: How much of an object must be seen, and how typical its cells must look.

    Returns:
        (h, w, L).
    """
    reference_cells, reference_labels = known.reference_cells, known.reference_labels
    prototypes = instance_prototypes(reference_cells, reference_labels)
    here = appearance_map(cells, prototypes)  # (h, w, L)
    on_reference = appearance_map(reference_cells, prototypes)  # (R, h, w, L)
    if semantic is not None:
        here = fused_on_one_scale(here, semantic[0], on_reference, semantic[1])
        on_reference = fused_on_one_scale(on_reference, semantic[1], on_reference, semantic[1])
    floors = appearance_floor(on_reference, reference_labels, settings.atypical_share)
    likely = (here >= floors) & absent  # (h, w, L)
    # Cells that another object holds are not proposed.
    proposed = likely.any(-1) & (labels.argmax(-1) == 0)
    if not proposed.any():
        return labels
    matches = global_top_k(cells[proposed], reference_cells, vote.top_k)
    voted = propagate_labels(matches, reference_labels, vote.temperature)  # (n, L)
    winner = voted.argmax(-1)  # (n,)
    agreed = likely[proposed].gather(1, winner[:, None])[:, 0]
    found = winner.bincount(weights=agreed.float(), minlength=labels.shape[-1])
    wanted = settings.found_area_share * reference_labels.sum((1, 2)).amax(0)
    agreed &= (found >= wanted)[winner]
    labels = labels.clone()
    labels[proposed] = torch.where(agreed[:, None], voted, labels[proposed])
    return labels
