"""Parts off an object's largest one, and whether the references know them."""

import math

import pytest
import torch

from propagate.matching.components import FAR_OFF_CELLS, without_strays

# What a cell shows, as a feature of its own: ground, one object, another, and what nobody drew.
KINDS = ".abx"
TOP_K, TEMPERATURE = 3, 0.07


def cells_of(picture: list[str]) -> torch.Tensor:
    """(h, w, 4), one direction for each kind, and a little of where the cell is."""
    kinds = torch.tensor([[KINDS.index(c) for c in row] for row in picture])
    return torch.nn.functional.one_hot(kinds, len(KINDS)).float()


def labels_of(picture: list[str]) -> torch.Tensor:
    """(h, w, 3) labels of rows of digits, sure of every cell."""
    ids = torch.tensor([[int(c) for c in row] for row in picture])
    return torch.nn.functional.one_hot(ids, 3).float()


# On the reference the object `a` is 1, `b` is 2, and x is not to be seen.
REFERENCE = cells_of(["aaa...", "aaa...", "......", "..bbb.", "..bbb.", "......"])
DRAWN = labels_of(["111000", "111000", "000000", "002220", "002220", "000000"])


def cleaned(seen: list[str], found: list[str], reference=REFERENCE, drawn=DRAWN) -> torch.Tensor:
    return without_strays(
        cells_of(seen), labels_of(found), [reference], drawn[None], TOP_K, TEMPERATURE
    )


def test_a_part_that_looks_like_the_background_of_the_reference_goes_to_background():
    seen = ["aaaa....", "aaaa....", "........", "........"]
    found = ["11110000", "11110011", "00000011", "00000000"]
    expected = ["11110000", "11110000", "00000000", "00000000"]
    assert torch.equal(cleaned(seen, found), labels_of(expected))


def test_a_part_that_looks_like_the_object_stays_however_far_off():
    seen = ["aaaa....", "aaaa....", "......aa", "......aa"]
    found = ["11110000", "11110000", "00000011", "00000011"]
    assert torch.equal(cleaned(seen, found), labels_of(found))


def test_the_largest_part_is_not_asked_about():
    """From behind, an object may look like nothing of its reference."""
    seen = ["........", "........", "......a.", "........"]
    found = ["11110000", "11110000", "00000010", "00000000"]
    assert torch.equal(cleaned(seen, found), labels_of(found))


def test_parts_that_touch_at_a_corner_are_one():
    seen = ["aaaa....", "aaaa....", "........", "........"]
    found = ["11110000", "11110000", "00001000", "00000000"]
    assert torch.equal(cleaned(seen, found), labels_of(found))


@pytest.mark.parametrize(("gap", "stays"), [(FAR_OFF_CELLS - 1, True), (FAR_OFF_CELLS, False)])
def test_a_part_that_looks_like_another_object_stays_only_near(gap: int, stays: bool):
    """It may be that one, seen behind: but far off it is no part of this one."""
    seen = ["aaaaaa" + "." * gap + "bb" + "..."] * 2 + ["." * (11 + gap)] * 2
    found = ["111111" + "0" * gap + "11" + "000"] * 2 + ["0" * (11 + gap)] * 2
    kept = cleaned(seen, found)
    without_it = ["111111" + "0" * (gap + 5)] * 2 + ["0" * (11 + gap)] * 2
    assert torch.equal(kept, labels_of(found if stays else without_it))


def test_a_large_object_has_parts_farther_off():
    """A quarter of 16 cells is more than `FAR_OFF_CELLS`."""
    for gap, stays in [(3, True), (4, False)]:
        found = ["1" * 16 + "0" * gap + "1" + "0" * (6 - gap)]
        seen = ["a" * 16 + "." * gap + "b" + "." * (6 - gap)]
        expected = found if stays else ["1" * 16 + "0" * 7]
        assert torch.equal(cleaned(seen, found), labels_of(expected))


def test_the_votes_of_a_part_are_counted_together():
    """Of one part two cells of three look like the object, of the other one of four."""
    seen = ["aaaaaaaa", "........", "aa......", "......a."]
    found = ["11111111", "00000000", "11100000", "00001111"]
    kept = cleaned(seen, found)
    expected = ["11111111", "00000000", "11100000", "00000000"]
    assert torch.equal(kept, labels_of(expected))


def test_each_object_is_judged_by_its_own_part_of_the_votes():
    seen = ["aaa..bbb", "aaa..bbb", "........", "b.....aa"]
    found = ["11100222", "11100222", "00000000", "20000011"]
    kept = cleaned(seen, found)
    # b on the left looks like the second object, a on the right like the first: both stay.
    assert torch.equal(kept, labels_of(found))


def test_soft_labels_of_a_stray_part_become_background_and_the_others_keep_theirs():
    labels = labels_of(["11100000", "11100000", "00000000", "00000000"])
    labels[3, 6] = torch.tensor([0.2, 0.5, 0.3])
    seen = ["aaa.....", "aaa.....", "........", "........"]
    kept = without_strays(cells_of(seen), labels, [REFERENCE], DRAWN[None], TOP_K, TEMPERATURE)
    assert kept[3, 6].tolist() == pytest.approx([0.7, 0.0, 0.3])
    assert math.isclose(float(kept.sum()), 32, rel_tol=1e-6)
    kept[3, 6] = labels[3, 6]
    assert torch.equal(kept, labels)


def test_a_part_that_is_the_other_objects_goes_to_that_one_around_it():
    seen = ["aaa......", "aaa......", ".....bbb.", ".....bbb.", ".....bbb."]
    found = ["111000000", "111000000", "000002220", "000002120", "000002220"]
    expected = ["111000000", "111000000", "000002220", "000002220", "000002220"]
    kept = cleaned(seen, found)
    torch.testing.assert_close(kept, labels_of(expected), rtol=0, atol=1e-5)
    # With nothing of that object beside it, nobody knows what it is.
    alone = ["111000000", "111000000", "000000000", "000000100", "000000000"]
    expected = ["111000000", "111000000", "000000000", "000000000", "000000000"]
    assert torch.equal(cleaned(seen, alone), labels_of(expected))


def test_a_part_known_on_any_of_the_references_stays():
    found = ["11110000", "11110000", "00000000", "00000011"]
    seen = ["aaaa....", "aaaa....", "........", "......xx"]
    assert not torch.equal(cleaned(seen, found), labels_of(found))
    later, drawn = cells_of(["xx....", *["......"] * 5]), labels_of(["110000", *["000000"] * 5])
    kept = without_strays(
        cells_of(seen),
        labels_of(found),
        [REFERENCE, later],
        torch.stack([DRAWN, drawn]),
        1,
        TEMPERATURE,
    )
    assert torch.equal(kept, labels_of(found))
