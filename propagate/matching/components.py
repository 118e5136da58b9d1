"""Parts that are none of an object's: what it left behind, or what was taken for it from afar.

What comes to light behind an object resembles nothing that is remembered so well as the object, and
a look-alike resembles it best. Once such cells carry its label, the next frames match them with
themselves. The references, where a person drew the object, know better; but they are asked only of
parts off the object's largest one, for a body seen from behind may look like none of its reference.

Pure functions; the letters of shapes are those of `matching.py`, and R are reference frames.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from propagate.matching.top_k import global_top_k
from propagate.matching.votes import propagate_labels

# A part is the object's only if the references say so: of what they give to it and to background,
# at least this share is the object's.
OWN_SHARE = 0.3
# Of a part far off, by more than this share of the largest part's height or width and at least by
# some cells, they must say more: of all they give, to other objects as well, this share.
FAR_OWN_SHARE = 0.5
FAR_OFF_SHARE = 0.25
FAR_OFF_CELLS = 3


def without_strays(
    cells: torch.Tensor,
    labels: torch.Tensor,
    reference_cells: Sequence[torch.Tensor],
    reference_labels: torch.Tensor,
    top_k: int,
    temperature: float,
) -> torch.Tensor:
    """Take away the parts of objects that the references do not know.

    Args:
        cells: (h, w, C) of the frame, normalised.
        labels: (h, w, L) of the frame.
        reference_cells: R frames (h, w, C), normalised; each is searched as a whole.
        reference_labels: (R, h, w, L).
        top_k, temperature: See `Matcher`.

    Returns:
        (h, w, L): what an object had of such a part goes to those around it, as far as the
        references give the part to them; where they do not, to background.
    """
    winner = labels.argmax(-1).cpu().numpy()
    parts = np.zeros(winner.shape, np.int64)
    owners, are_far, around = [], [], []
    for label in range(1, labels.shape[-1]):
        for area, part, is_far in _apart(winner == label):
            owners.append(label)
            are_far.append(is_far)
            parts[area][part] = len(owners)
            ring = ndimage.binary_dilation(part, np.ones((3, 3))) & ~part
            around.append(np.bincount(winner[area][ring], minlength=labels.shape[-1]))
    if not owners:
        return labels
    device = labels.device
    part_of = torch.from_numpy(parts).to(device)  # 0: none
    asked = part_of > 0
    matches = global_top_k(cells[asked], torch.stack([*reference_cells]), top_k)
    votes = propagate_labels(*matches, reference_labels, temperature)  # (n, L)
    sums = votes.new_zeros(len(owners), votes.shape[1]).index_add(0, part_of[asked] - 1, votes)
    shares = sums / sums.sum(1, keepdim=True)  # (parts, L)
    owner = torch.tensor(owners, device=device)
    own = shares.gather(1, owner[:, None])[:, 0]
    is_stray = own < OWN_SHARE * (own + shares[:, 0])
    is_stray |= torch.tensor(are_far, device=device) & (own < FAR_OWN_SHARE)
    if not is_stray.any():
        return labels
    heirs = shares * torch.from_numpy(np.stack(around)).to(shares)  # (parts, L)
    heirs[:, 0] += 1e-6
    heirs = heirs / heirs.sum(1, keepdim=True)
    y, x = F.pad(is_stray, (1, 0))[part_of].nonzero().T
    part = part_of[y, x] - 1  # (n,)
    freed = labels[y, x, owner[part]]
    labels = labels.clone()
    labels[y, x, owner[part]] = 0
    labels[y, x] += freed[:, None] * heirs[part]
    return labels


def _apart(held: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray, bool]]:
    """Give the parts of what an object holds, (h, w) bool, but for the largest.

    Parts touch by sides or corners.

    Yields:
        The rows and columns that a part and the cells around it lie in; the part, bool, within
        those; whether it is far off.
    """
    numbers = np.empty(held.shape, np.int32)
    ndimage.label(held, np.ones((3, 3)), output=numbers)
    boxes = ndimage.find_objects(numbers)
    if len(boxes) < 2:
        return
    largest = int(np.bincount(numbers.ravel())[1:].argmax())
    for number, box in enumerate(boxes):
        if number != largest:
            is_far = any(
                max(around.start - side.stop, side.start - around.stop)
                >= max(FAR_OFF_CELLS, FAR_OFF_SHARE * (around.stop - around.start))
                for side, around in zip(box, boxes[largest], strict=True)
            )
            area = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
            yield area, numbers[area] == number + 1, is_far
