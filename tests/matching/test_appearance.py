"""PDM's maps against the equations of the paper, cell by cell."""

import math

import pytest
import torch

from propagate.matching.appearance import appearance_floor, appearance_map, instance_prototypes


def test_appearance_map_is_the_papers_mean_of_dot_products():
    """Equations 4 and 5, cell by cell: mask the reference, average its products with a target."""
    reference, target = torch.randn(4, 5, 6), torch.randn(4, 5, 6)
    mask = torch.zeros(4, 5)
    mask[1:3, 2:4] = 1
    expected = torch.zeros(4, 5)
    for y in range(4):
        for x in range(5):
            products = [
                reference[v, u] @ target[y, x] for v in range(4) for u in range(5) if mask[v, u]
            ]
            expected[y, x] = sum(products) / len(products)
    labels = torch.stack([1 - mask, mask], dim=-1)
    found = appearance_map(target, instance_prototypes(reference, labels))
    torch.testing.assert_close(found[..., 1], expected)


def test_appearance_floor_is_reached_by_the_stated_share_of_own_cells():
    appearance = torch.arange(100.0).view(10, 10, 1)
    labels = torch.ones(10, 10, 1)
    floor = appearance_floor(appearance, labels, 0.25)
    assert (appearance >= floor).float().mean() == pytest.approx(0.75, abs=0.01)
    assert appearance_floor(appearance, torch.zeros(10, 10, 1), 0.25).item() == math.inf
