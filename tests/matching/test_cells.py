"""Matching against slow literal loops over single cells."""

import math

import pytest
import torch
import torch.nn.functional as F

from propagate.matching.appearance import appearance_floor, appearance_map, instance_prototypes
from propagate.matching.cells import centre, join_colors, moved_instance, normalize, within_reach
from propagate.matching.labels import ids_from_labels, labels_from_ids
from propagate.matching.votes import best_cosines, doubted, propagate_labels


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


def test_labels_are_averaged_by_a_softmax_of_cosines():
    values = torch.tensor([[[0.8, 0.6, -math.inf]]])
    labels = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]]])  # (1, 3, 1, 2)
    voted = propagate_labels(values, torch.tensor([[[0, 1, 0]]]), labels, temperature=0.1)
    near, far = math.exp(8), math.exp(6)
    expected = torch.tensor([near / (near + far), far / (near + far)])
    torch.testing.assert_close(voted[0, 0], expected)


def test_void_cells_do_not_vote():
    values = torch.tensor([[[0.9, 0.2]]])
    labels = torch.tensor([[[[0.0, 0.0]], [[0.0, 1.0]]]])  # the best match is void
    voted = propagate_labels(values, torch.tensor([[[0, 1]]]), labels, temperature=1.0)
    torch.testing.assert_close(voted[0, 0], torch.tensor([0.0, 1.0]))


def test_where_nothing_votes_there_is_background():
    labels = torch.zeros(1, 2, 2, 3)
    voted = propagate_labels(torch.ones(1, 1, 1), torch.zeros(1, 1, 1).long(), labels, 1.0)
    assert voted[0, 0].tolist() == [1, 0, 0]


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


def test_soft_labels_are_the_share_of_the_cell_that_each_id_covers():
    ids = torch.zeros(16, 24, dtype=torch.uint8)
    ids[:8, :4] = 7
    ids[8:, 8:16] = 2
    ids[0, 23] = 255
    labels = labels_from_ids(ids, [7, 2], (2, 3), "share")
    assert labels[0, 0].tolist() == [0.5, 0.5, 0.0]
    assert labels[1, 1].tolist() == [0.0, 0.0, 1.0]
    assert labels[0, 2].tolist() == pytest.approx([63 / 64, 0, 0])


def test_hard_labels_are_those_of_one_pixel_of_each_cell():
    ids = torch.zeros(16, 16, dtype=torch.uint8)
    ids[:8, :8] = 1
    ids[8:, 8:] = 255
    labels = labels_from_ids(ids, [1], (2, 2), "nearest")
    assert labels.flatten(0, 1).tolist() == [[0, 1], [1, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (5, 4)])
def test_the_largest_enlarged_label_wins_each_pixel(size):
    labels = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0))
    ids, strength, margin = ids_from_labels(labels, [9, 4], size)
    large = F.interpolate(labels.permute(2, 0, 1)[None], size, mode="bilinear")[0]
    assert torch.equal(ids.long(), torch.tensor([0, 9, 4])[large.argmax(0)])
    torch.testing.assert_close(strength, large.amax(0))
    first, second = large.sort(dim=0, descending=True).values[:2]
    torch.testing.assert_close(margin, first - second)


@pytest.mark.parametrize("size", [(80, 96), (83, 91), (7, 9)])
@pytest.mark.parametrize("stretch_above", [None, 0.0, 0.3])
def test_labels_compete_where_they_are_as_if_they_were_everywhere(size, stretch_above):
    """Objects of one cell, at borders, of a whole row, and one that is nowhere."""
    labels = torch.zeros(10, 12, 6)
    labels[0, 0, 1], labels[9, 11, 2], labels[4, :, 3], labels[3:6, 5:8, 4] = 0.9, 0.2, 0.5, 0.45
    labels[..., 0] = 1 - labels.sum(-1)
    ids, strength, margin = ids_from_labels(
        labels, [7, 5, 3, 2, 1], size, stretch_above=stretch_above
    )
    large = F.interpolate(labels.permute(2, 0, 1)[None], size, mode="bilinear")[0]
    rivals = large.clone()
    for rival in rivals:
        low, high = rival.min(), rival.max()
        if stretch_above is not None and high >= stretch_above and high - low > 1e-6 * high:
            rival.sub_(low).div_(high - low)
    won = rivals.argmax(0)
    assert torch.equal(ids.long(), torch.tensor([0, 7, 5, 3, 2, 1])[won])
    torch.testing.assert_close(strength, large.gather(0, won[None])[0], rtol=0, atol=1e-6)
    others = large.scatter(0, won[None], -torch.inf).amax(0)
    torch.testing.assert_close(margin, strength - others, rtol=0, atol=1e-6)


def test_labels_are_stretched_before_they_compete():
    """DINO's `norm_mask`: an object whose label peaks at 0.2 still wins at its peak."""
    labels = torch.zeros(4, 4, 2)
    labels[..., 0] = 0.8
    labels[1, 1] = torch.tensor([0.75, 0.2])
    plain, _, _ = ids_from_labels(labels, [1], (32, 32))
    stretched, strength, margin = ids_from_labels(labels, [1], (32, 32), stretch_above=0, stride=8)
    assert not plain.any()
    assert stretched[12, 12] == 1
    assert stretched[30, 30] == 0
    # What is said of an object is from before the stretch.
    assert strength.max() < 0.81
    assert margin[12, 12] < 0


def test_a_label_that_peaks_too_low_is_not_stretched():
    labels = torch.zeros(4, 4, 3)
    labels[..., 0] = 0.6
    labels[1, 1] = torch.tensor([0.5, 0.2, 0.3])
    ids, _, _ = ids_from_labels(labels, [1, 2], (32, 32), stretch_above=0.25)
    assert set(ids.unique().tolist()) == {0, 2}


def test_normalized_features_have_length_one_and_channels_last():
    cells = normalize(torch.randn(5, 3, 4))
    assert cells.shape == (3, 4, 5)
    assert cells.is_contiguous()
    torch.testing.assert_close(cells.norm(dim=-1), torch.ones(3, 4))


def test_the_centre_of_one_cell_is_that_cell():
    weights = torch.zeros(5, 7)
    weights[3, 6] = 0.5
    assert centre(weights).tolist() == [3, 6]
    weights[3, 2] = 0.5
    assert centre(weights).tolist() == [3, 4]


@pytest.mark.parametrize("by", [(0, 0), (2, -1), (-3, 4), (9, 0), (0, -9)])
def test_a_moved_instance_lies_where_a_loop_puts_it(by):
    features, labels = torch.randn(5, 6, 3), torch.zeros(5, 6, 3)
    labels[2:4, 1:3, 2] = 0.75
    labels[0, :, 1] = 1
    moved_features, moved_labels = moved_instance(features, labels, 2, by)
    expected_features, expected_labels = torch.zeros(5, 6, 3), torch.zeros(5, 6, 3)
    for y in range(2, 4):
        for x in range(1, 3):
            v, u = y + by[0], x + by[1]
            if 0 <= v < 5 and 0 <= u < 6:
                expected_features[v, u] = features[y, x]
                expected_labels[v, u, 2] = 0.75
    assert torch.equal(moved_features, expected_features)
    assert torch.equal(moved_labels, expected_labels)


def test_background_votes_beside_the_matches_as_one_more_of_them() -> None:
    rng = torch.Generator().manual_seed(3)
    values = torch.rand(2, 3, 4, generator=rng).sort(-1, descending=True).values
    cells = torch.randint(30, (2, 3, 4), generator=rng)
    memory = torch.rand(1, 5, 6, 3, generator=rng).softmax(-1)
    rival = torch.rand(2, 3, generator=rng)
    rival[0, 0] = -torch.inf
    values[1, 2] = -torch.inf
    labels = propagate_labels(values, cells, memory, 0.05)
    found = doubted(labels, values, rival, 0.05)
    flat = memory.flatten(0, 2)
    for y in range(2):
        for x in range(3):
            cosines = [*values[y, x].tolist(), rival[y, x].item()]
            weights = [math.exp(cosine / 0.05) for cosine in cosines]
            voted = weights[4] * torch.tensor([1.0, 0.0, 0.0])
            for weight, cell in zip(weights[:4], cells[y, x].tolist(), strict=True):
                voted = voted + weight * flat[cell]
            assert torch.allclose(found[y, x], voted / sum(weights), atol=1e-5)


def test_the_usual_cosine_of_a_label_is_the_median_over_the_cells_it_wins() -> None:
    best = torch.tensor([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]])
    labels = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])[torch.tensor([[0, 0, 0], [1, 1, 1]])]
    medians = best_cosines(best, labels)
    assert medians[0] == pytest.approx(0.2)
    assert medians[1] == pytest.approx(0.7)
    assert medians[2].isnan()
