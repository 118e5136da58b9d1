"""Connected components: which parts of an object stay, beside its largest one.

Newly uncovered background matches the object better than anything else in the memory, and a
look-alike matches it better still. Once such cells carry its label, later frames match them with
themselves. So they are compared with the references, where a person drew the object. Only
components other than the largest are, because an object seen from behind may look like none of its
references.

Components touch by sides or corners. Shapes: see `cells.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from propagate.matchers import ComponentSettings, VoteSettings
from propagate.matching.cells import RememberedFrames
from propagate.matching.labels import give_to_background
from propagate.matching.top_k import global_top_k
from propagate.matching.votes import propagate_labels

NEIGHBOURHOOD = np.ones((3, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A component of an object, other than its largest.

    Attributes:
        area: The rows and columns of its bounding box and one cell around.
        cells: bool, within that area.
        is_far: Whether it is far from the largest component.
    """

    area: tuple[slice, ...]
    cells: np.ndarray
    is_far: bool


def drop_unsupported(
    cells: torch.Tensor,
    labels: torch.Tensor,
    known: RememberedFrames,
    vote: VoteSettings,
    settings: ComponentSettings | None,
) -> torch.Tensor:
    """Remove the components that an object's references do not support.

    Args:
        cells: (h, w, C) of the frame.
        labels: (h, w, L) of the frame.
        known: Its reference frames are searched as a whole.
        vote: How their cells vote.
        settings: None: all components stay.

    Returns:
        (h, w, L). An unsupported component goes to the labels around it, in proportion to what the
        references give them there, or else to background.
    """
    if settings is None:
        return labels
    winner = labels.argmax(-1).cpu().numpy()
    numbers = np.zeros(winner.shape, np.int64)
    owners, are_far, around = [], [], []
    for label in range(1, labels.shape[-1]):
        for component in _off_the_largest(winner == label, settings):
            owners.append(label)
            are_far.append(component.is_far)
            numbers[component.area][component.cells] = len(owners)
            ring = ndimage.binary_dilation(component.cells, NEIGHBOURHOOD) & ~component.cells
            around.append(np.bincount(winner[component.area][ring], minlength=labels.shape[-1]))
    if not owners:
        return labels
    device = labels.device
    component_of = torch.from_numpy(numbers).to(device)  # (h, w), 0: none
    asked = component_of > 0
    matches = global_top_k(cells[asked], known.reference_cells, vote.top_k)
    votes = propagate_labels(matches, known.reference_labels, vote.temperature)  # (n, L)
    sums = votes.new_zeros(len(owners), votes.shape[1])
    sums.index_add_(0, component_of[asked] - 1, votes)
    shares = sums / sums.sum(1, keepdim=True)  # (components, L)
    owner = torch.tensor(owners, device=device)
    own = shares.gather(1, owner[:, None])[:, 0]
    is_unsupported = own < settings.own_share * (own + shares[:, 0])
    is_unsupported |= torch.tensor(are_far, device=device) & (own < settings.far_own_share)
    if not is_unsupported.any():
        return labels
    taken_by = shares * torch.from_numpy(np.stack(around)).to(shares)  # (components, L)
    taken_by[:, 0] += 1e-6
    taken_by = taken_by / taken_by.sum(1, keepdim=True)
    y, x = F.pad(is_unsupported, (1, 0))[component_of].nonzero().T
    component = component_of[y, x] - 1  # (n,)
    freed = labels[y, x, owner[component]]
    labels = labels.clone()
    labels[y, x, owner[component]] = 0
    labels[y, x] += freed[:, None] * taken_by[component]
    return labels


def _off_the_largest(owned: np.ndarray, settings: ComponentSettings) -> Iterator[Component]:
    """Find the components of what an object owns, (h, w) bool, except the largest one."""
    numbers = np.empty(owned.shape, np.int32)
    ndimage.label(owned, NEIGHBOURHOOD, output=numbers)
    boxes = ndimage.find_objects(numbers)
    if len(boxes) < 2:
        return
    largest = int(np.bincount(numbers.ravel())[1:].argmax())
    for number, box in enumerate(boxes):
        if number != largest:
            is_far = any(
                max(around.start - side.stop, side.start - around.stop)
                >= max(settings.far_cells, settings.far_share * (around.stop - around.start))
                for side, around in zip(box, boxes[largest], strict=True)
            )
            area = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
            yield Component(area, numbers[area] == number + 1, is_far)


def clean_mask(
    labels: torch.Tensor, labels_per_cell: int, settings: ComponentSettings | None
) -> torch.Tensor:
    """Drop the specks of objects and fill their small holes, in the mask only.

    What is remembered keeps them: an object that comes out from behind an obstacle begins as a
    speck.

    Args:
        labels: (h, w, L), or (2h, 2w, L) with four labels per cell.
        labels_per_cell: 1 or 4.
        settings: None, or with `speck_cells` 0: nothing changes.
    """
    if settings is None or not settings.speck_cells:
        return labels
    largest_speck = settings.speck_cells * labels_per_cell
    return fill_holes(drop_specks(labels, largest_speck, settings.speck_share), largest_speck)


def drop_specks(labels: torch.Tensor, most_cells: int, speck_share: float) -> torch.Tensor:
    """Give specks to background: small components outside the bounding box of the largest one.

    Larger components stay, and so do all inside that box, because an obstacle in front of an object
    can cut it into pieces.

    Args:
        labels: (h, w, L).
        most_cells: Largest size of a speck, in cells.
        speck_share: A speck is smaller than this share of the largest component.
    """
    winner = labels.argmax(-1).cpu().numpy()
    numbers, specks = np.empty(winner.shape, np.int32), np.zeros(winner.shape, bool)
    for label in range(1, labels.shape[-1]):
        ndimage.label(winner == label, NEIGHBOURHOOD, output=numbers)
        sizes = np.bincount(numbers.ravel())
        if len(sizes) > 2:
            largest = int(sizes[1:].argmax()) + 1
            is_speck = (sizes <= most_cells) & (sizes < speck_share * sizes[largest])
            is_speck[np.unique(numbers[ndimage.find_objects(numbers)[largest - 1]])] = False
            specks |= is_speck[numbers]
    if not specks.any():
        return labels
    return give_to_background(labels, torch.from_numpy(specks).to(labels.device)[..., None])


def fill_holes(labels: torch.Tensor, most_cells: int) -> torch.Tensor:
    """Fill the small holes of objects: background with one object all around it.

    Args:
        labels: (h, w, L).
        most_cells: Largest size of a hole, in cells. Its cells touch by sides. A hole at the border
            of the frame stays.
    """
    winner = np.pad(labels.argmax(-1).cpu().numpy(), 1, constant_values=-1)
    numbers = np.empty(winner.shape, np.int32)
    ndimage.label(winner == 0, output=numbers)
    owners = np.zeros(winner.shape, winner.dtype)
    for i, box in enumerate(ndimage.find_objects(numbers), start=1):
        around = tuple(slice(side.start - 1, side.stop + 1) for side in box)
        hole = numbers[around] == i
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
