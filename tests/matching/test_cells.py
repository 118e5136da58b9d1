"""Cells of frames against slow literal loops over single cells."""

import pytest
import torch
import torch.nn.functional as F

from propagate.config import MATCHERS
from propagate.features.colors import cell_colors
from propagate.matching.cells import (
    centroid,
    channel_statistics,
    dilate,
    frame_cells,
    join_colors,
    normalize,
    subcell_colors,
    within_reach,
)


def random_cells(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("radius", [1, 3, 30])
def test_within_reach_is_what_a_loop_over_windows_finds(radius):
    rng = torch.Generator().manual_seed(0)
    labels = (torch.rand(3, 9, 14, 3, generator=rng) > 0.99).float()
    labels[..., 0] = 1
    reach = within_reach(labels, radius)
    for y in range(9):
        for x in range(14):
            rows = slice(max(0, y - radius), y + radius + 1)
            columns = slice(max(0, x - radius), x + radius + 1)
            assert reach[y, x] == labels[:, rows, columns, 1:].any()


def test_joined_cosines_are_those_of_features_and_colours_by_weight():
    a, b = random_cells(4, 5, 8), random_cells(4, 5, 8, seed=1)
    c, d = random_cells(4, 5, 3, seed=2), random_cells(4, 5, 3, seed=3)
    joined = join_colors(a, c, 0.5), join_colors(b, d, 0.5)
    expected = ((a * b).sum(-1) + 0.25 * (c * d).sum(-1)) / 1.25
    torch.testing.assert_close((joined[0] * joined[1]).sum(-1), expected)
    torch.testing.assert_close(joined[0].norm(dim=-1), torch.ones(4, 5))


def test_normalized_features_have_length_one_and_channels_last():
    cells = normalize(torch.randn(5, 3, 4))
    assert cells.shape == (3, 4, 5)
    assert cells.is_contiguous()
    torch.testing.assert_close(cells.norm(dim=-1), torch.ones(3, 4))


def test_the_centroid_of_one_cell_is_that_cell():
    weights = torch.zeros(5, 7)
    weights[3, 6] = 0.5
    assert centroid(weights).tolist() == [3, 6]
    weights[3, 2] = 0.5
    assert centroid(weights).tolist() == [3, 4]


@pytest.mark.parametrize("by", [0, 1, 3])
def test_dilated_regions_are_those_a_loop_over_squares_finds(by):
    regions = torch.rand(2, 7, 10, generator=torch.Generator().manual_seed(0)) > 0.95
    found = dilate(regions, by)
    for region, dilated in zip(regions, found, strict=True):
        for y in range(7):
            for x in range(10):
                rows = slice(max(0, y - by), y + by + 1)
                columns = slice(max(0, x - by), x + by + 1)
                assert dilated[y, x] == region[rows, columns].any()


def test_subcells_have_the_colours_of_their_place():
    image = torch.arange(3 * 4 * 6).float().view(1, 3, 4, 6)
    assert torch.equal(subcell_colors(cell_colors(image, (2, 3))[0]), image[0].permute(1, 2, 0))


def test_channels_are_standardized_by_the_statistics_of_the_first_frame():
    rng = torch.Generator().manual_seed(0)
    first, later = 5 + 3 * torch.randn(2, 6, 4, 5, generator=rng)
    colors, later_colors = torch.rand(2, 12, 4, 5, generator=rng)
    nothing = torch.zeros(0, 4, 5)
    _, statistics = frame_cells(first, nothing, colors, None, MATCHERS["default"])
    frame, kept = frame_cells(later, nothing, later_colors, statistics, MATCHERS["default"])
    assert kept is statistics

    def standardized(maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        flat = reference.flatten(1)
        mean, scale = flat.mean(1)[:, None, None], flat.std(1, correction=0)[:, None, None]
        return (maps - mean) / scale

    of_features = F.normalize(standardized(later, first), dim=0)
    of_colors = F.normalize(standardized(later_colors, colors), dim=0)
    expected = torch.cat([of_features, 0.8 * of_colors]) / 1.64**0.5
    torch.testing.assert_close(frame.cells, expected.permute(1, 2, 0))
    assert frame.colors is not None
    fine = subcell_colors(standardized(later_colors, colors))
    torch.testing.assert_close(frame.colors, fine)
    assert frame.semantic.shape == (4, 5, 0)


def test_without_standardizing_features_are_only_normalized():
    features, nothing = torch.randn(6, 4, 5), torch.zeros(0, 4, 5)
    frame, statistics = frame_cells(features, nothing, nothing, None, MATCHERS["dino"])
    assert statistics is None
    assert frame.colors is None
    assert torch.equal(frame.cells, normalize(features))


def test_a_channel_with_one_value_everywhere_becomes_zero():
    features = torch.randn(3, 4, 5)
    features[1] = 7
    cells = normalize(features, *channel_statistics(features))
    assert not cells[..., 1].any()
    torch.testing.assert_close(cells.norm(dim=-1), torch.ones(4, 5))
