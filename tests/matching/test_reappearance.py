"""Objects that left and parts that are none of theirs, on small grids."""

import pytest
import torch

from propagate.matching.reappearance import lost_objects, without_holes, without_specks


def labels_of(picture: list[str]) -> torch.Tensor:
    """(h, w, 3) labels of rows of digits, sure of every cell."""
    ids = torch.tensor([[int(c) for c in row] for row in picture])
    return torch.nn.functional.one_hot(ids, 3).float()


def test_a_speck_apart_from_the_largest_part_goes_to_background_and_nothing_else_changes():
    labels = labels_of(
        [
            "11110001",
            "11000000",
            "11010022",
            "11110022",
            "00000000",
            "10000000",
            "11000002",
        ]
    )
    cleaned = without_specks(labels, 2)
    # The largest part of the first object has 13 cells: one cell off it is a speck, three are not.
    # The second has four, and one off them is a quarter of that.
    expected = labels_of(
        [
            "11110000",
            "11000000",
            "11010022",
            "11110022",
            "00000000",
            "10000000",
            "11000002",
        ]
    )
    assert torch.equal(cleaned, expected)


def test_what_an_obstacle_cuts_off_within_the_box_of_the_object_stays():
    labels = labels_of(["11111111", "11111111", "11000000", "11001000", "11000000"])
    assert torch.equal(without_specks(labels, 2), labels)


def test_parts_that_touch_at_a_corner_are_one():
    labels = labels_of(["111100", "111100", "111100", "000010", "000000"])
    assert torch.equal(without_specks(labels, 2), labels)


def test_small_holes_are_filled_by_the_one_object_around_them():
    labels = labels_of(
        [
            "1111110111",
            "1011110111",
            "1111001110",
            "1111111111",
            "1100011222",
            "1111111202",
            "1111112222",
        ]
    )
    # Left alone: those at the border of the frame, and one of three cells.
    expected = labels_of(
        [
            "1111110111",
            "1111110111",
            "1111111110",
            "1111111111",
            "1100011222",
            "1111111222",
            "1111112222",
        ]
    )
    assert torch.equal(without_holes(labels, 2), expected)
    between = labels_of(["1122", "1002", "1122"])
    assert torch.equal(without_holes(between, 2), between)


def test_a_filled_hole_gives_the_object_what_background_had():
    labels = labels_of(["111", "101", "111"])
    labels[1, 1] = torch.tensor([0.6, 0.3, 0.1])
    assert without_holes(labels, 1)[1, 1].tolist() == pytest.approx([0, 0.9, 0.1])


@pytest.mark.parametrize(
    ("cells_now", "is_lost"), [(0, True), (1, True), (2, True), (3, False), (20, False)]
)
def test_of_an_object_a_cut_leaves_no_more_than_a_tenth(cells_now: int, is_lost: bool):
    """It had 20 cells in the frame before, and on the reference."""

    def labels(cells: int) -> torch.Tensor:
        flat = torch.zeros(30, 2)
        flat[:cells, 1] = 1
        flat[cells:, 0] = 1
        return flat.view(5, 6, 2)

    before = labels(20)[None]
    assert lost_objects(labels(cells_now), before, before).tolist() == [False, is_lost]


def test_an_object_that_went_away_slowly_is_lost_at_a_fraction_of_what_it_was():
    def labels(cells: int) -> torch.Tensor:
        flat = torch.zeros(200, 2)
        flat[:cells, 1] = 1
        flat[cells:, 0] = 1
        return flat.view(10, 20, 2)

    remembered = torch.stack([labels(200), labels(8)])
    assert lost_objects(labels(7), remembered, remembered[:1]).tolist() == [False, False]
    assert lost_objects(labels(6), remembered, remembered[:1]).tolist() == [False, True]
