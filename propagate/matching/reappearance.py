"""Objects that left: seeing that one did, and finding it again anywhere in the frame.

Pure functions; the letters of shapes are those of `matching.py`, and

    R    reference frames
"""

import numpy as np
import torch
from scipy import ndimage

from propagate.matching.appearance import (
    appearance_floor,
    appearance_map,
    fused_on_one_scale,
    instance_prototypes,
)
from propagate.matching.top_k import global_top_k
from propagate.matching.votes import propagate_labels

# An object left when no more than this share of its cells in the remembered frames is left, or of
# those in the last one: what a cut leaves of it are chance likenesses. It is back when at least
# another share of its cells on the reference is seen, counting those that look like all but the
# least typical of them.
LOST_AREA_SHARE = 0.03
CUT_AREA_SHARE = 0.1
REAPPEAR_AREA_SHARE = 0.2
REAPPEAR_ATYPICAL_SHARE = 0.25
# Of a small object, two cells are more than a speck.
SPECK_SHARE = 0.1


def lost_objects(
    labels: torch.Tensor, recent_labels: torch.Tensor, reference_labels: torch.Tensor
) -> torch.Tensor:
    """Tell which objects have left.

    Args:
        labels: (h, w, L) of the frame, as matched.
        recent_labels: (M, h, w, L) of the frames before, the last one last.
        reference_labels: (R, h, w, L).

    Returns:
        (L,) bool; the background never does.
    """
    # An object smaller than a cell peaks below one even where it was given.
    held = 0.5 * reference_labels.amax((0, 1, 2))  # (L,)
    before = (recent_labels > held).sum((1, 2))  # (M, L) cells
    now = (labels > held).sum((0, 1))  # (L,)
    lost = (before[-1] == 0) | (now <= CUT_AREA_SHARE * before[-1])
    lost |= now <= LOST_AREA_SHARE * before.amax(0)
    lost[0] = False
    return lost


def without(labels: torch.Tensor, lost: torch.Tensor) -> torch.Tensor:
    """Soft labels (h, w, L) without the lost ones, (L,) or (h, w, L): theirs is background."""
    kept = torch.where(lost, 0, labels)
    kept[..., 0] += (labels * lost).sum(-1)
    return kept


def without_specks(labels: torch.Tensor, most_cells: int) -> torch.Tensor:
    """Take away an object's specks: what lies off its largest part, and is next to nothing.

    Larger parts stay, and all within the box of the largest: what stands in front of an object cuts
    it into pieces.

    Args:
        labels: (h, w, L).
        most_cells: A part of so many cells, or fewer, that is less than `SPECK_SHARE` of the
            largest part goes to background. Parts touch by sides or corners.
    """
    winner = labels.argmax(-1).cpu().numpy()
    parts, specks = np.empty(winner.shape, np.int32), np.zeros(winner.shape, bool)
    for label in range(1, labels.shape[-1]):
        ndimage.label(winner == label, np.ones((3, 3)), output=parts)
        sizes = np.bincount(parts.ravel())
        if len(sizes) > 2:
            largest = int(sizes[1:].argmax()) + 1
            is_speck = (sizes <= most_cells) & (sizes < SPECK_SHARE * sizes[largest])
            is_speck[np.unique(parts[ndimage.find_objects(parts)[largest - 1]])] = False
            specks |= is_speck[parts]
    if not specks.any():
        return labels
    return without(labels, torch.from_numpy(specks).to(labels.device)[..., None])


def without_holes(labels: torch.Tensor, most_cells: int) -> torch.Tensor:
    """Fill an object's smallest holes: background with nothing but the object around it.

    Args:
        labels: (h, w, L).
        most_cells: A hole of so many cells, or fewer, goes to the object; one at the border of the
            frame is none. Its cells touch by sides.
    """
    winner = np.pad(labels.argmax(-1).cpu().numpy(), 1, constant_values=-1)
    parts = np.empty(winner.shape, np.int32)
    ndimage.label(winner == 0, output=parts)
    owners = np.zeros(winner.shape, winner.dtype)
    for i, box in enumerate(ndimage.find_objects(parts), start=1):
        around = tuple(slice(side.start - 1, side.stop + 1) for side in box)
        hole = parts[around] == i
        if np.count_nonzero(hole) <= most_cells:
            edge = np.unique(winner[around][ndimage.binary_dilation(hole) & ~hole])
            if len(edge) == 1 and edge[0] > 0:
                owners[around][hole] = edge[0]
    if not owners.any():
        return labels
    filled = labels.clone()
    y, x = np.nonzero(owners[1:-1, 1:-1])
    owner = owners[y + 1, x + 1]
    filled[y, x, owner] += filled[y, x, 0]
    filled[y, x, 0] = 0
    return filled


def find_again(
    cells: torch.Tensor,
    labels: torch.Tensor,
    lost: torch.Tensor,
    reference_cells: torch.Tensor,
    reference_labels: torch.Tensor,
    semantic: tuple[torch.Tensor, torch.Tensor] | None,
    top_k: int,
    temperature: float,
) -> torch.Tensor:
    """Look for the lost objects in the whole frame.

    PDM's appearance map (eq. 5), or where a class is named the mean of that and the semantic map
    (eq. 7), proposes cells that look like the object as a whole; the reference frames' cells, all
    of them, then vote there, so that a look-alike on them can object. Few such cells prove nothing:
    what left stays away until enough of it is seen.

    Args:
        cells: (h, w, C) of the frame, normalised.
        labels: (h, w, L) of the frame, without the lost objects.
        lost: (L,) bool.
        reference_cells: (R, h, w, C), normalised.
        reference_labels: (R, h, w, L).
        semantic: The semantic maps of the frame, (h, w, L), and of the references, (R, h, w, L),
            NaN for a label without a class. None: no class is named.
        top_k, temperature: See `Matcher`.

    Returns:
        (h, w, L).
    """
    prototypes = instance_prototypes(reference_cells, reference_labels)
    here = appearance_map(cells, prototypes)  # (h, w, L)
    on_reference = appearance_map(reference_cells, prototypes)  # (R, h, w, L)
    if semantic is not None:
        here = fused_on_one_scale(here, semantic[0], on_reference, semantic[1])
        on_reference = fused_on_one_scale(on_reference, semantic[1], on_reference, semantic[1])
    floors = appearance_floor(on_reference, reference_labels, REAPPEAR_ATYPICAL_SHARE)
    likely = (here >= floors) & lost  # (h, w, L)
    # What another object holds is not up for grabs.
    proposed = likely.any(-1) & (labels.argmax(-1) == 0)
    if not proposed.any():
        return labels
    matches = global_top_k(cells[proposed], reference_cells, top_k)
    voted = propagate_labels(*matches, reference_labels, temperature)  # (n, L)
    winner = voted.argmax(-1)  # (n,)
    agreed = likely[proposed].gather(1, winner[:, None])[:, 0]
    found = winner.bincount(weights=agreed.float(), minlength=labels.shape[-1])
    wanted = REAPPEAR_AREA_SHARE * reference_labels.sum((1, 2)).amax(0)
    agreed &= (found >= wanted)[winner]
    labels = labels.clone()
    labels[proposed] = torch.where(agreed[:, None], voted, labels[proposed])
    return labels
