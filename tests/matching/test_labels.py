"""From object ids to labels of the grid, and back, against loops and PyTorch's own resizing."""

import pytest
import torch
import torch.nn.functional as F

from propagate.matchers import MaskSettings
from propagate.matching.labels import give_to_background, ids_from_labels, labels_from_ids


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
    ids, strength, margin = ids_from_labels(labels, [9, 4], size, MaskSettings(), 8)
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
        labels, [7, 5, 3, 2, 1], size, MaskSettings(stretch_above=stretch_above), 8
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
    plain, _, _ = ids_from_labels(labels, [1], (32, 32), MaskSettings(), 8)
    settings = MaskSettings(stretch_above=0, through_grid=True)
    stretched, strength, margin = ids_from_labels(labels, [1], (32, 32), settings, 8)
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
    ids, _, _ = ids_from_labels(labels, [1, 2], (32, 32), MaskSettings(stretch_above=0.25), 8)
    assert set(ids.unique().tolist()) == {0, 2}


def test_dropped_labels_become_background_and_the_sum_of_a_cell_stays():
    labels = torch.rand(3, 4, 3, generator=torch.Generator().manual_seed(0))
    by_label = torch.tensor([False, False, True])
    by_cell = torch.rand(3, 4, 3, generator=torch.Generator().manual_seed(1)) > 0.5
    by_cell[..., 0] = False
    for dropped in (by_label, by_cell):
        found = give_to_background(labels, dropped)
        for y in range(3):
            for x in range(4):
                expected = labels[y, x].clone()
                for label in (1, 2):
                    if dropped.expand(3, 4, 3)[y, x, label]:
                        expected[0] += labels[y, x, label]
                        expected[label] = 0
                torch.testing.assert_close(found[y, x], expected)
