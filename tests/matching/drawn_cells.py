"""Small grids of cells for the tests of the matching stages."""

from collections.abc import Sequence

import torch

from propagate.matching.cells import RememberedFrames, Subcells


def remembered(
    cells: Sequence[torch.Tensor],
    labels: torch.Tensor,
    reference_count: int = 1,
    subcells: Sequence[Subcells] = (),
) -> RememberedFrames:
    """Frames (h, w, C) with labels (M, h, w, L), without flow, and without named classes."""
    height, width, _ = cells[0].shape
    return RememberedFrames(
        cells=tuple(cells),
        labels=labels,
        reference_count=reference_count,
        flows=torch.zeros(len(cells), height, width, 2),
        subcells=tuple(subcells),
        semantic=torch.zeros(reference_count, height, width, 0),
    )


def labels_of(rows: Sequence[str]) -> torch.Tensor:
    """(h, w, 3) labels of rows of digits, each cell wholly of one label."""
    ids = torch.tensor([[int(digit) for digit in row] for row in rows])
    return torch.nn.functional.one_hot(ids, 3).float()
