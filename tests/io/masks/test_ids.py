"""Which arrays are masks."""

import numpy as np
import pytest

from propagate.io.masks.ids import check_object, check_size, mask_from_array
from tests.small_masks import refusal, squares


def test_255_beside_other_ids_is_void():
    mask = mask_from_array(squares([1, 2, 255]))
    assert mask.object_ids == (1, 2)
    assert 255 in mask.ids
    assert not mask.binary


def test_ids_0_and_1_are_not_black_and_white():
    mask = mask_from_array(squares([1]))
    assert mask.object_ids == (1,)
    assert not mask.binary


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_arrays_of_any_integer_type_are_taken_and_copied(dtype):
    array = squares([3, 254]).astype(dtype)
    mask = mask_from_array(array)
    array[:] = 0
    assert mask.object_ids == (3, 254)
    assert mask.ids.dtype == np.uint8


def test_a_boolean_array_is_one_object():
    array = squares([1]).astype(bool)
    mask = mask_from_array(array)
    assert mask.binary
    assert np.array_equal(mask.ids, array)


def test_a_full_set_of_254_ids_is_a_mask():
    grid = np.arange(1, 255).reshape(2, 127).repeat(5, axis=0).repeat(5, axis=1)
    assert mask_from_array(np.pad(grid, 1)).object_ids == tuple(range(1, 255))


@pytest.mark.parametrize("side", [4, 8, 20])
@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("seed", [None, 0])
def test_touching_objects_are_not_soft(side, void, seed):
    ids = np.arange(1, 61)
    if seed is not None:
        ids = np.random.default_rng(seed).permutation(ids)
    grid = ids.reshape(6, 10).repeat(side, axis=0).repeat(side, axis=1).astype(np.uint8)
    framed = np.pad(np.pad(grid, 5, constant_values=255 if void else 0), 5)
    assert mask_from_array(framed).object_ids == tuple(range(1, 61))


def test_thin_objects_on_the_rim_of_another_are_not_soft():
    ids = squares([3], side=30)
    ids[10:30, 2:4] = 1
    ids[10:30, 30:32] = 2
    assert mask_from_array(ids).object_ids == (1, 2, 3)


def test_a_mask_without_an_object_says_that_none_is_visible():
    assert mask_from_array(np.zeros((9, 9), np.uint8)).object_ids == ()
    refusal(lambda: check_object(mask_from_array(np.zeros((9, 9), bool))), "no object")


def test_a_mask_of_void_alone_says_nothing():
    array = np.full((9, 9), 255, dtype=np.uint8)
    refusal(lambda: mask_from_array(array, source="clip.png"), "clip.png", "every pixel is void")


def test_more_than_254_objects_are_refused():
    array = np.arange(300).reshape(15, 20)
    refusal(lambda: mask_from_array(array, source="labels"), "labels", "299", "254")


def test_a_negative_id_is_refused():
    refusal(lambda: mask_from_array(np.array([[-1, 1]]), source="labels"), "labels", "-1")


def test_floats_and_wrong_shapes_are_a_programmers_mistake():
    with pytest.raises(TypeError, match="float64"):
        mask_from_array(np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"\(4, 4, 1\)"):
        mask_from_array(np.ones((4, 4, 1), dtype=np.uint8))


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    mask = mask_from_array(np.ones((480, 640), dtype=np.uint8), source="first.png")
    check_size(mask, 480, 640)
    refusal(lambda: check_size(mask, 480, 854), "first.png", "640x480", "854x480")
    refusal(lambda: check_size(mask, 640, 480), "640x480", "480x640")
