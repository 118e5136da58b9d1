"""Masks in the forms in which callers give them."""

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.errors import MaskError
from propagate.io.masks.given import as_mask, mask_from_objects
from propagate.io.masks.ids import mask_from_array
from propagate.io.masks.png import write_mask
from propagate.records import Mask

IDS = np.zeros((6, 8), np.uint8)
IDS[1:4, 1:4], IDS[4:, 5:] = 1, 7


@pytest.fixture
def forms(tmp_path):
    write_mask(tmp_path / "mask.png", IDS)
    objects = {1: IDS == 1, 7: IDS == 7}
    return {
        "mask": Mask(IDS),
        "array": IDS,
        "int64": IDS.astype(np.int64),
        "tensor": torch.from_numpy(IDS.copy()),
        "objects": objects,
        "tensors": {i: torch.from_numpy(pixels) for i, pixels in objects.items()},
        "image": Image.fromarray(IDS),
        "path": tmp_path / "mask.png",
        "text": str(tmp_path / "mask.png"),
    }


@pytest.mark.parametrize(
    "form", ["mask", "array", "int64", "tensor", "objects", "tensors", "image", "path", "text"]
)
def test_every_form_is_the_same_mask(forms, form):
    mask = as_mask(forms[form], "m")
    assert np.array_equal(mask.ids, IDS)
    assert mask.object_ids == (1, 7)


def test_a_read_only_array_is_taken_without_a_warning():
    ids = IDS.copy()
    ids.flags.writeable = False
    assert np.array_equal(as_mask(ids, "m").ids, IDS)


@pytest.mark.parametrize("given", [[[0, 1]], None, 3, object()])
def test_another_type_is_named(given):
    with pytest.raises(TypeError, match=rf"m: must be an \(H, W\).*not {type(given).__name__}"):
        as_mask(given, "m")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({}, "no object in this mask"),
        ({0: IDS == 1}, r"the id 0 is not one of 1\.\.254"),
        ({255: IDS == 1}, "the id 255 is not"),
        ({1: IDS == 1, 2: IDS > 0}, "object 2 overlaps object 1"),
        ({1: IDS == 1, 2: IDS == 2}, "object 2 has no pixel"),
        ({1: IDS == 1, 2: (IDS == 7)[:5]}, "object 2 is 8x5, the others are 8x6"),
    ],
)
def test_objects_that_make_no_mask(objects, message):
    with pytest.raises(MaskError, match=message):
        mask_from_objects(objects)


@pytest.mark.parametrize("objects", [{1: IDS}, {"1": IDS == 1}, {True: IDS == 1}, {1: IDS[0] == 1}])
def test_objects_of_another_type(objects):
    with pytest.raises(TypeError):
        mask_from_objects(objects)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("ring", [1, 2])
@pytest.mark.parametrize("value", [1, 200])
def test_a_small_object_in_a_ring_of_void_is_not_soft(side, ring, value):
    ids = np.pad(np.full((side, side), value, np.uint8), ring, constant_values=255)
    assert mask_from_array(np.pad(ids, 4)).object_ids == (value,)


@pytest.mark.parametrize("side", [3, 5, 9])
def test_a_small_object_with_blurred_edges_is_soft(side):
    ids = np.pad(np.pad(np.full((side, side), 255, np.uint8), 1, constant_values=127), 4)
    with pytest.raises(MaskError, match="soft"):
        mask_from_array(ids)
