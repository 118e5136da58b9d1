"""Which images are masks, and how masks are written as PNGs."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from propagate.io.masks.png import palette, read_mask, write_mask
from tests.paths import SHARED
from tests.small_masks import refusal, squares

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is absent")


def disc(value: int = 255, size: tuple[int, int] = (160, 120)) -> Image.Image:
    image = Image.new("L", size)
    ImageDraw.Draw(image).ellipse((40, 20, 110, 90), fill=value)
    return image


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_ids_of_a_grey_and_of_a_palette_image_are_its_values(tmp_path, mode):
    ids = squares([1, 5, 38])
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    if mode == "LA":
        image.putalpha(7)
    image.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert np.array_equal(mask.ids, ids)
    assert mask.object_ids == (1, 5, 38)
    assert not mask.binary
    assert mask.source == str(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["L", "1"])
def test_black_and_white_is_one_object(tmp_path, mode):
    disc().convert(mode).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.binary
    assert mask.object_ids == (1,)
    assert np.array_equal(mask.ids, np.asarray(disc()) // 255)


@needs_shared
def test_no_published_annotation_is_refused():
    files = sorted((SHARED / "data" / "dev").glob("*/Annotations/480p/*/*.png"))
    firsts = {file.parent: file for file in reversed(files)}.values()
    assert len(firsts) > 30
    for file in firsts:
        with Image.open(file) as image:
            expected = np.array(image)
        assert np.array_equal(read_mask(file).ids, expected), file


def test_a_missing_mask_is_refused(tmp_path):
    refusal(lambda: read_mask(tmp_path / "no.png"), str(tmp_path / "no.png"), "no such")


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "mask.png").write_text("hello")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "no readable image")


def test_a_truncated_mask_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 9, (90, 90), dtype=np.uint8)
    write_mask(tmp_path / "mask.png", noise)
    whole = (tmp_path / "mask.png").read_bytes()
    for size in range(0, len(whole) - 12, 97):  # Twelve bytes of end marker hold no pixel.
        (tmp_path / "mask.png").write_bytes(whole[:size])
        refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_refused(tmp_path, mode):
    disc().convert(mode).save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", mode, "index")


def test_16_bits_are_refused(tmp_path):
    Image.fromarray(squares([1, 2]).astype(np.uint16)).save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "16 bits", "8-bit")


def test_floats_in_a_file_are_refused(tmp_path):
    Image.fromarray(squares([1]).astype(np.float32)).save(tmp_path / "mask.tif")
    refusal(lambda: read_mask(tmp_path / "mask.tif"), "mask.tif", "16 bits or more")


def test_a_jpeg_is_refused(tmp_path):
    disc().save(tmp_path / "mask.jpg")
    refusal(lambda: read_mask(tmp_path / "mask.jpg"), "mask.jpg", "JPEG")


SOFT = {
    "blurred a little": lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "blurred a lot": lambda image: image.filter(ImageFilter.GaussianBlur(12)),
    "halved": lambda image: image.reduce(2),
    "shrunk": lambda image: image.resize((107, 80), Image.Resampling.LANCZOS),
    "enlarged": lambda image: image.resize((400, 300), Image.Resampling.BILINEAR),
    "enlarged, never white": lambda image: image.resize((400, 300)).point(lambda v: v * 0.9),
    "quantised": lambda image: image.resize((400, 300)).point(lambda v: v // 16 * 17),
}


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("how", SOFT)
def test_a_soft_mask_is_refused(tmp_path, how, mode):
    SOFT[how](disc()).convert(mode).save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "soft", "threshold")


def test_a_mask_that_went_through_jpeg_is_refused(tmp_path):
    disc().save(tmp_path / "mask.jpg", quality=90)
    with Image.open(tmp_path / "mask.jpg") as image:
        image.save(tmp_path / "mask.png")
    refusal(lambda: read_mask(tmp_path / "mask.png"), "mask.png", "soft")


@needs_shared
def test_the_antialiased_masks_of_the_oracle_are_refused():
    files = sorted((SHARED / "oracle/eval/cases/c14_antialiased/pred").glob("*/*.png"))
    assert files
    for file in files:
        refusal(lambda file=file: read_mask(file), str(file), "soft")


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
