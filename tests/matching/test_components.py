"""Components off an object's largest one: which of them the references support, and specks."""

import math
from dataclasses import replace

import pytest
import torch

from propagate.matchers import ComponentSettings, VoteSettings
from propagate.matching.components import clean_mask, drop_specks, drop_unsupported, fill_holes
from tests.matching.drawn_cells import labels_of, remembered

# What a cell shows, each a feature of its own: ground, one object, another, and something that is
# not on the reference.
KINDS = ".abx"
VOTE = VoteSettings(top_k=3, temperature=0.07)
SETTINGS = ComponentSettings(far_cells=3, speck_share=0.1)


def cells_of(rows: list[str]) -> torch.Tensor:
    """(h, w, 4), one direction for each kind, and a little of where the cell is."""
    kinds = torch.tensor([[KINDS.index(c) for c in row] for row in rows])
    return torch.nn.functional.one_hot(kinds, len(KINDS)).float()


# On the reference the object `a` is 1, `b` is 2, and nothing shows x.
REFERENCE = cells_of(["aaa...", "aaa...", "......", "..bbb.", "..bbb.", "......"])
DRAWN = labels_of(["111000", "111000", "000000", "002220", "002220", "000000"])


def cleaned(seen: list[str], found: list[str], reference=REFERENCE, drawn=DRAWN) -> torch.Tensor:
    known = remembered([reference], drawn[None])
    return drop_unsupported(cells_of(seen), labels_of(found), known, VOTE, SETTINGS)


def test_a_component_that_looks_like_the_background_of_the_reference_goes_to_background():
    seen = ["aaaa....", "aaaa....", "........", "........"]
    found = ["11110000", "11110011", "00000011", "00000000"]
    expected = ["11110000", "11110000", "00000000", "00000000"]
    assert torch.equal(cleaned(seen, found), labels_of(expected))


def test_a_component_that_looks_like_the_object_stays_at_any_distance():
    seen = ["aaaa....", "aaaa....", "......aa", "......aa"]
    found = ["11110000", "11110000", "00000011", "00000011"]
    assert torch.equal(cleaned(seen, found), labels_of(found))


def test_the_largest_component_always_stays():
    """From behind, an object may look like nothing of its reference."""
    seen = ["........", "........", "......a.", "........"]
    found = ["11110000", "11110000", "00000010", "00000000"]
    assert torch.equal(cleaned(seen, found), labels_of(found))


def test_components_touch_at_corners():
    seen = ["aaaa....", "aaaa....", "........", "........"]
    found = ["11110000", "11110000", "00001000", "00000000"]
    assert torch.equal(cleaned(seen, found), labels_of(found))


@pytest.mark.parametrize(("gap", "stays"), [(2, True), (3, False)])
def test_a_component_that_looks_like_another_object_stays_only_near(gap: int, stays: bool):
    """Near this object it may be a part of it that looks like the other; far from it, it is not."""
    seen = ["aaaaaa" + "." * gap + "bb" + "..."] * 2 + ["." * (11 + gap)] * 2
    found = ["111111" + "0" * gap + "11" + "000"] * 2 + ["0" * (11 + gap)] * 2
    kept = cleaned(seen, found)
    without_it = ["111111" + "0" * (gap + 5)] * 2 + ["0" * (11 + gap)] * 2
    assert torch.equal(kept, labels_of(found if stays else without_it))


def test_how_far_a_component_may_be_grows_with_the_object():
    """A quarter of 16 cells is more than `far_cells`."""
    for gap, stays in [(3, True), (4, False)]:
        found = ["1" * 16 + "0" * gap + "1" + "0" * (6 - gap)]
        seen = ["a" * 16 + "." * gap + "b" + "." * (6 - gap)]
        expected = found if stays else ["1" * 16 + "0" * 7]
        assert torch.equal(cleaned(seen, found), labels_of(expected))


def test_the_votes_of_a_component_are_counted_together():
    """Of one component two of three cells look like the object, of the other one of four."""
    seen = ["aaaaaaaa", "........", "aa......", "......a."]
    found = ["11111111", "00000000", "11100000", "00001111"]
    kept = cleaned(seen, found)
    expected = ["11111111", "00000000", "11100000", "00000000"]
    assert torch.equal(kept, labels_of(expected))


def test_each_object_is_judged_by_its_own_share_of_the_votes():
    seen = ["aaa..bbb", "aaa..bbb", "........", "b.....aa"]
    found = ["11100222", "11100222", "00000000", "20000011"]
    kept = cleaned(seen, found)
    # b on the left looks like the second object, a on the right like the first: both stay.
    assert torch.equal(kept, labels_of(found))


def test_soft_labels_of_an_unsupported_component_become_background_and_others_keep_theirs():
    labels = labels_of(["11100000", "11100000", "00000000", "00000000"])
    labels[3, 6] = torch.tensor([0.2, 0.5, 0.3])
    seen = ["aaa.....", "aaa.....", "........", "........"]
    known = remembered([REFERENCE], DRAWN[None])
    kept = drop_unsupported(cells_of(seen), labels, known, VOTE, SETTINGS)
    assert kept[3, 6].tolist() == pytest.approx([0.7, 0.0, 0.3])
    assert math.isclose(float(kept.sum()), 32, rel_tol=1e-6)
    kept[3, 6] = labels[3, 6]
    assert torch.equal(kept, labels)


def test_a_component_that_looks_like_the_object_around_it_goes_to_that_object():
    seen = ["aaa......", "aaa......", ".....bbb.", ".....bbb.", ".....bbb."]
    found = ["111000000", "111000000", "000002220", "000002120", "000002220"]
    expected = ["111000000", "111000000", "000002220", "000002220", "000002220"]
    kept = cleaned(seen, found)
    torch.testing.assert_close(kept, labels_of(expected), rtol=0, atol=1e-5)
    # Without cells of that object around it, it goes to background.
    alone = ["111000000", "111000000", "000000000", "000000100", "000000000"]
    expected = ["111000000", "111000000", "000000000", "000000000", "000000000"]
    assert torch.equal(cleaned(seen, alone), labels_of(expected))


def test_a_component_that_any_reference_supports_stays():
    found = ["11110000", "11110000", "00000000", "00000011"]
    seen = ["aaaa....", "aaaa....", "........", "......xx"]
    assert not torch.equal(cleaned(seen, found), labels_of(found))
    later, drawn = cells_of(["xx....", *["......"] * 5]), labels_of(["110000", *["000000"] * 5])
    known = remembered([REFERENCE, later], torch.stack([DRAWN, drawn]), reference_count=2)
    vote = replace(VOTE, top_k=1)
    kept = drop_unsupported(cells_of(seen), labels_of(found), known, vote, SETTINGS)
    assert torch.equal(kept, labels_of(found))


def test_without_settings_all_components_stay():
    seen, found = ["a..x"], ["1101"]
    labels = labels_of(found)
    assert not torch.equal(cleaned(seen, found), labels)
    known = remembered([REFERENCE], DRAWN[None])
    assert drop_unsupported(cells_of(seen), labels, known, VOTE, None) is labels
    left_in = replace(SETTINGS, own_share=0, far_own_share=0)
    assert drop_unsupported(cells_of(seen), labels, known, VOTE, left_in) is labels


# Specks and holes


def test_a_speck_off_the_largest_component_goes_to_background_and_nothing_else_changes():
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
    cleaned = drop_specks(labels, 2, SETTINGS.speck_share)
    # The largest component of the first object has 13 cells: one cell off it is a speck, three are
    # not. That of the second has four, and one off it is a quarter of that.
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
    assert torch.equal(drop_specks(labels, 2, SETTINGS.speck_share), labels)


def test_a_cell_that_touches_at_a_corner_is_no_speck():
    labels = labels_of(["111100", "111100", "111100", "000010", "000000"])
    assert torch.equal(drop_specks(labels, 2, SETTINGS.speck_share), labels)


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
    assert torch.equal(fill_holes(labels, 2), expected)
    between = labels_of(["1122", "1002", "1122"])
    assert torch.equal(fill_holes(between, 2), between)


def test_a_filled_hole_gives_the_object_what_background_had():
    labels = labels_of(["111", "101", "111"])
    labels[1, 1] = torch.tensor([0.6, 0.3, 0.1])
    assert fill_holes(labels, 1)[1, 1].tolist() == pytest.approx([0, 0.9, 0.1])


def test_a_mask_on_the_subcell_grid_has_specks_and_holes_of_four_times_as_many_subcells():
    labels = labels_of(["111101", "100111", "111111", "000000", "000002", "220000"])
    fine = labels.repeat_interleave(2, 0).repeat_interleave(2, 1)
    cleaned_cells = fill_holes(drop_specks(labels, 2, 0.1), 2)
    expected = cleaned_cells.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(clean_mask(labels, 1, SETTINGS), cleaned_cells)
    assert torch.equal(clean_mask(fine, 4, SETTINGS), expected)
    assert not torch.equal(cleaned_cells, labels)


def test_without_settings_or_with_specks_of_no_cell_a_mask_stays_as_it_is():
    labels = labels_of(["1111", "1011", "1111", "0000", "0001"])
    assert clean_mask(labels, 1, None) is labels
    assert clean_mask(labels, 1, replace(SETTINGS, speck_cells=0)) is labels
