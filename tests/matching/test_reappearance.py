"""Which objects are absent, and how they are found again, on small grids."""

from dataclasses import replace

import pytest
import torch

from propagate.config import MATCHERS
from propagate.matchers import ReappearanceSettings, VoteSettings
from propagate.matching.cells import FrameCells
from propagate.matching.reappearance import (
    absent_objects,
    by_label,
    find_again,
    remove_and_find_again,
)
from tests.matching.drawn_cells import labels_of, remembered

SETTINGS = ReappearanceSettings(cut_area_share=0.1, lost_area_share=0.03)


def absent_now(labels: torch.Tensor, before: torch.Tensor) -> list[bool]:
    """Whether each label is absent, after frames of which the first is the reference."""
    known = remembered([torch.zeros(*labels.shape[:2], 1)] * len(before), before)
    return absent_objects(labels, known, SETTINGS).tolist()


@pytest.mark.parametrize(
    ("cells_now", "is_absent"), [(0, True), (1, True), (2, True), (3, False), (20, False)]
)
def test_an_object_is_absent_if_a_cut_leaves_no_more_than_a_tenth_of_it(
    cells_now: int, is_absent: bool
):
    """It had 20 cells in the frame before, and on the reference."""

    def labels(cells: int) -> torch.Tensor:
        flat = torch.zeros(30, 2)
        flat[:cells, 1] = 1
        flat[cells:, 0] = 1
        return flat.view(5, 6, 2)

    before = labels(20)[None]
    assert absent_now(labels(cells_now), before) == [False, is_absent]


def test_an_object_that_left_slowly_is_absent_at_a_small_share_of_its_largest_area():
    def labels(cells: int) -> torch.Tensor:
        flat = torch.zeros(200, 2)
        flat[:cells, 1] = 1
        flat[cells:, 0] = 1
        return flat.view(10, 20, 2)

    before = torch.stack([labels(200), labels(200), labels(8)])
    assert absent_now(labels(7), before) == [False, False]
    assert absent_now(labels(6), before) == [False, True]


# What a cell shows, as a feature of its own: ground, one object, another.
KINDS = ".ab"


def cells_of(rows: list[str]) -> torch.Tensor:
    kinds = torch.tensor([[KINDS.index(c) for c in row] for row in rows])
    return torch.nn.functional.one_hot(kinds, len(KINDS)).float()


REFERENCE = cells_of(["aaaaa.....", "aaaaa..bb.", ".......bb."])
DRAWN = labels_of(["1111100000", "1111100220", "0000000220"])
VOTE = VoteSettings(top_k=2, temperature=0.05)


@pytest.mark.parametrize(("count", "is_back"), [(1, False), (2, True), (5, True)])
def test_an_object_is_back_once_a_fifth_of_its_cells_is_seen(count: int, is_back: bool):
    """It has ten on the reference. The second object is absent too, and stays so."""
    seen = ["." * 10, "." * (10 - count) + "a" * count, "." * 10]
    nothing = labels_of(["0" * 10] * 3)
    absent = torch.tensor([False, True, True])
    known = remembered([REFERENCE], DRAWN[None])
    found = find_again(cells_of(seen), nothing, absent, known, None, VOTE, SETTINGS)
    expected = ["0" * 10, "0" * (10 - count) + "1" * count, "0" * 10]
    torch.testing.assert_close(found, labels_of(expected) if is_back else nothing)


def test_cells_of_other_objects_are_not_given_to_one_that_is_found_again():
    seen = cells_of(["aaaaaaaaaa", "..........", ".........."])
    labels = labels_of(["2222200000", "0000000000", "0000000000"])
    absent = torch.tensor([False, True, False])
    known = remembered([REFERENCE], DRAWN[None])
    found = find_again(seen, labels, absent, known, None, VOTE, SETTINGS)
    torch.testing.assert_close(found, labels_of(["2222211111", "0000000000", "0000000000"]))


def test_maps_of_classes_become_maps_of_labels():
    semantic = torch.rand(3, 4, 2)
    maps = by_label(semantic, [1, None, 0, 1])
    assert maps.shape == (3, 4, 5)
    assert torch.equal(maps[..., [1, 3, 4]], semantic[..., [1, 0, 1]])
    assert maps[..., [0, 2]].isnan().all()


def test_what_is_left_of_an_absent_object_becomes_background():
    matcher = MATCHERS["default"]
    labels = labels_of(["0" * 10] * 3)
    labels[0, 0] = torch.tensor([0.4, 0.4, 0.2])
    frame = FrameCells(cells_of(["." * 10] * 3), torch.zeros(3, 10, 0))
    known = remembered([REFERENCE, REFERENCE], torch.stack([DRAWN, DRAWN]))
    found = remove_and_find_again(frame, labels, known, [None, None], matcher)
    torch.testing.assert_close(found, labels_of(["0" * 10] * 3))
    without = replace(matcher, reappearance=None)
    assert remove_and_find_again(frame, labels, known, [None, None], without) is labels
