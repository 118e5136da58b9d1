"""How masks are written as PNGs."""

import numpy as np
import pytest
from PIL import Image

from propagate.io.masks.palette import palette
from propagate.io.masks.png import write_mask
from tests.paths import SHARED
from tests.small_masks import squares

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is absent")


def test_the_palette_is_that_of_pascal_voc():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert palette().shape == (256, 3)
    assert [tuple(colour) for colour in palette()[:6].tolist()] == expected
    assert palette()[8].tolist() == [64, 0, 0]
    assert palette()[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette(), axis=0)) == 256


@needs_shared
def test_the_palette_is_that_of_a_davis_annotation():
    file = SHARED / "data/dev/davis/Annotations/480p/bear/00000.png"
    with Image.open(file) as image:
        theirs = np.array(image.getpalette("RGB")).reshape(-1, 3)
    assert np.array_equal(palette()[: len(theirs)], theirs)


def test_a_written_mask_reads_back_with_every_id_and_the_whole_palette(tmp_path):
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32).repeat(5, axis=0)
    write_mask(tmp_path / "00000.png", ids)
    with Image.open(tmp_path / "00000.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), ids)
        assert bytes(image.getpalette("RGB") or []) == palette().tobytes()
        assert np.array_equal(np.array(image.convert("RGB")), palette()[ids])


def test_the_same_mask_is_written_as_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        write_mask(tmp_path / name, squares([1, 2, 3]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_only_uint8_ids_are_written(tmp_path):
    with pytest.raises(ValueError, match="int64"):
        write_mask(tmp_path / "a.png", np.ones((4, 4), dtype=np.int64))
