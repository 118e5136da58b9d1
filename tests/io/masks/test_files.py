"""Which files are masks, and what their pixels mean."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from propagate import MaskReading, read_mask, read_masks
from propagate.io.masks.palette import palette
from propagate.io.masks.png import read_ids, write_mask
from propagate.plan import as_masks
from tests.paths import SHARED
from tests.small_masks import refusal, squares

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is absent")
INPUTS = SHARED / "data" / "inputs" / "m"


def disc(value: int = 255, size: tuple[int, int] = (160, 120)) -> Image.Image:
    image = Image.new("L", size)
    ImageDraw.Draw(image).ellipse((40, 20, 110, 90), fill=value)
    return image


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_ids_of_a_grey_and_of_a_palette_image_are_its_values(tmp_path, mode):
    ids = squares([1, 5, 38])
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(bytes(3) + bytes(range(250)) * 3)  # black at 0; ids have any colours
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


SCENE = np.zeros((60, 80), np.uint8)  # three objects, 1 to 3
SCENE[5:25, 5:30] = 1
SCENE[30:50, 10:22] = 2
SCENE[20:40, 45:75] = 3


def painted(*colours: tuple[int, int, int], ids: np.ndarray = SCENE) -> Image.Image:
    """The scene with a colour for each id, that of the background first."""
    return Image.fromarray(np.array(colours, np.uint8)[ids])


def test_colours_of_davis_have_its_ids(tmp_path):
    Image.fromarray(palette()[SCENE]).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").ids, SCENE)
    assert np.array_equal(read_ids(tmp_path / "m.png"), SCENE)


def test_other_flat_colours_are_objects_and_the_mapping_is_told(tmp_path):
    painted((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert np.array_equal(mask.ids, SCENE)  # red, green, blue: in decreasing order
    assert "rgb(255,0,0) is object 1, rgb(0,255,0) is object 2" in mask.notes[0]
    refusal(lambda: read_ids(tmp_path / "m.png"), "colours that are not those of DAVIS")


def test_a_colour_is_the_same_object_in_all_masks_that_are_read_together(tmp_path):
    painted((0, 0, 0), (250, 10, 10), (10, 250, 10), (0, 0, 0)).save(tmp_path / "a.png")
    painted((0, 0, 0), (0, 0, 0), (10, 250, 10), (10, 10, 250)).save(tmp_path / "b.png")
    first, second = read_masks([tmp_path / "a.png", tmp_path / "b.png"])
    assert (first.object_ids, second.object_ids) == ((1, 2), (2, 3))
    given = as_masks({0: tmp_path / "a.png", 5: str(tmp_path / "b.png")})
    assert [mask.object_ids for mask in given.values()] == [(1, 2), (2, 3)]


def test_transparent_pixels_of_a_coloured_picture_are_background(tmp_path):
    image = painted((200, 200, 200), (255, 0, 0), (0, 255, 0), (0, 0, 255)).convert("RGBA")
    image.putalpha(Image.fromarray(np.uint8(255) * (SCENE > 0)))
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").ids, SCENE)


def test_a_grey_picture_of_colours_holds_ids(tmp_path):
    Image.fromarray(SCENE).convert("RGB").save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").ids, SCENE)


def test_colours_without_background_are_refused_with_their_areas(tmp_path):
    painted((255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)).save(tmp_path / "m.png")
    refusal(
        lambda: read_mask(tmp_path / "m.png"),
        "no pixel is black",
        "rgb(255,0,0): 500 px",
        'value_255="background"',
    )
    white = MaskReading(value_255="background")
    assert np.array_equal(read_mask(tmp_path / "m.png", white).ids, SCENE)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_photograph_is_refused(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png"), "m.png", f"mode {mode}", "colours", "index")


def test_smoothed_edges_of_colours_are_refused(tmp_path):
    image = painted((0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200))
    image.resize((86, 66), Image.Resampling.BILINEAR).quantize(40).convert("RGB").save(
        tmp_path / "m.png"
    )
    refusal(lambda: read_mask(tmp_path / "m.png"), "m.png", "soft", "smoothing")


@pytest.mark.parametrize("black", [0, 1, 3])
def test_the_background_of_a_palette_is_its_black(tmp_path, black):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    colours.insert(black, (0, 0, 0))
    order = np.array([black, *(i for i in range(4) if i != black)], np.uint8)
    image = Image.fromarray(order[SCENE])
    image.putpalette(bytes(value for colour in colours for value in colour))
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").ids, SCENE)


def test_a_palette_without_black_is_refused_with_its_colours(tmp_path):
    image = Image.fromarray(SCENE)
    image.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png"), "index 0 is rgb(9,9,9)", "2 rgb(0,255,0): 240")


def test_a_palette_with_too_few_colours_keeps_its_ids(tmp_path):
    image = Image.fromarray(SCENE)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "m.tif")
    assert np.array_equal(read_mask(tmp_path / "m.tif").ids, SCENE)


@pytest.mark.parametrize(
    "colours", [[(200, 30, 40), (30, 180, 60)], [(250, 250, 0), (100, 0, 255)]]
)
def test_dithered_colours_are_refused(tmp_path, colours):
    painted((0, 0, 0), *colours, colours[0]).convert("P").save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png"), "m.png", "dithered")


def test_touching_and_thin_objects_are_not_dithered(tmp_path):
    ids = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((4, 4), int)).astype(np.uint8)
    image = np.zeros((60, 60), np.uint8)
    image[10:50, 10:50] = ids
    image[2, 5:45] = 200  # a line
    write_mask(tmp_path / "m.png", image)
    assert np.array_equal(read_mask(tmp_path / "m.png").ids, image)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_wide_values_are_ids_while_they_fit(tmp_path, dtype):
    path = tmp_path / "m.tif"
    Image.fromarray(SCENE.astype(dtype)).save(path)
    assert np.array_equal(read_mask(path).ids, SCENE)
    Image.fromarray(SCENE.astype(dtype) * 200).save(path)
    refusal(lambda: read_mask(path), "m.tif", "600", "1..254")


def test_floats_between_ids_are_refused(tmp_path):
    Image.fromarray(SCENE.astype(np.float32) / 2).save(tmp_path / "m.tif")
    refusal(lambda: read_mask(tmp_path / "m.tif"), "whole numbers")


def test_255_is_void_an_object_or_the_background(tmp_path):
    values = np.array([0, 85, 170, 255], np.uint8)[SCENE]
    Image.fromarray(values).save(tmp_path / "m.png")
    void = read_mask(tmp_path / "m.png")
    assert void.object_ids == (85, 170)
    assert "255 is void: 600 pixels" in void.notes[0]
    as_object = read_mask(tmp_path / "m.png", MaskReading(value_255="object"))
    assert as_object.object_ids == (85, 170, 254)
    assert np.array_equal(as_object.ids == 254, SCENE == 3)

    Image.fromarray(np.array([255, 1, 2, 3], np.uint8)[SCENE]).save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png"), "nothing is background", 'value_255="backg')
    white = MaskReading(value_255="background")
    assert np.array_equal(read_mask(tmp_path / "m.png", white).ids, SCENE)
    Image.fromarray(np.uint8(255) * (SCENE == 0)).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", white).ids, SCENE > 0)


@pytest.mark.parametrize("grey", [255, 0, 90])
def test_a_mask_in_the_alpha_channel_is_named_and_can_be_read(tmp_path, grey):
    image = Image.new("L", (80, 60), grey)
    image.putalpha(Image.fromarray(np.uint8(255) * (SCENE > 0)))
    image.save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png"), "in the alpha channel", "alpha=True")
    assert np.array_equal(read_mask(tmp_path / "m.png", MaskReading(alpha=True)).ids, SCENE > 0)


def test_a_cut_out_photograph_is_read_by_its_alpha(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    image = Image.fromarray(noise)
    image.putalpha(Image.fromarray(np.uint8(255) * (SCENE > 0)))
    image.save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png"), "colours instead of ids", "alpha=True")
    assert np.array_equal(read_mask(tmp_path / "m.png", MaskReading(alpha=True)).ids, SCENE > 0)
    image.convert("RGB").save(tmp_path / "m.png")
    refusal(lambda: read_mask(tmp_path / "m.png", MaskReading(alpha=True)), "no alpha channel")


def test_a_mask_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(SCENE).save(tmp_path / "m.png", exif=exif)
    mask = read_mask(tmp_path / "m.png")
    assert np.array_equal(mask.ids, np.rot90(SCENE, -1))
    assert "EXIF" in mask.notes[0]


def test_arrays_are_read(tmp_path):
    np.save(tmp_path / "bool.npy", SCENE == 2)
    np.save(tmp_path / "ids.npy", SCENE.astype(np.int64))
    np.save(tmp_path / "layers.npy", np.stack([i == SCENE for i in (1, 2, 3)]))
    np.savez(tmp_path / "one.npz", mask=SCENE)
    assert np.array_equal(read_mask(tmp_path / "bool.npy").ids, SCENE == 2)
    for name in ("ids.npy", "layers.npy", "one.npz"):
        assert np.array_equal(read_mask(tmp_path / name).ids, SCENE), name


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.linspace(0, 1, 12).reshape(3, 4), "whole numbers"),
        (np.zeros((2, 3, 4), np.uint8), "shape (2, 3, 4)"),
        (np.full((3, 4), 300), "value 300"),
        (np.ones((2, 3, 4), bool), "overlap"),
        (np.array([["a"]]), "array of"),
    ],
)
def test_arrays_that_are_no_masks_are_refused(tmp_path, array, said):
    np.save(tmp_path / "m.npy", array)
    refusal(lambda: read_mask(tmp_path / "m.npy"), "m.npy", said)


def test_an_array_of_python_objects_is_not_executed(tmp_path):
    np.save(tmp_path / "m.npy", np.array([{}], object), allow_pickle=True)
    refusal(lambda: read_mask(tmp_path / "m.npy"), "m.npy", "no readable array")


def test_a_file_of_several_pictures_is_refused(tmp_path):
    pages = [Image.fromarray(SCENE), Image.fromarray(SCENE[::-1].copy())]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    refusal(lambda: read_mask(tmp_path / "m.tif"), "m.tif", "2 pictures")


def test_a_mask_may_say_that_no_object_is_visible(tmp_path):
    write_mask(tmp_path / "m.png", np.zeros_like(SCENE))
    assert read_mask(tmp_path / "m.png").object_ids == ()


@needs_shared
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("indexed_by_pillow_quantize.png", True),
        ("indexed_black_last.png", True),
        ("rgb_davis_colours.png", True),
        ("rgba_coloured.png", True),
        ("u16_small_ids.png", True),
        ("indexed_by_pillow_convert.png", False),
        ("grey_antialiased.png", False),
        ("jpeg_mask.jpg", False),
        ("la_alpha_is_mask.png", False),
    ],
)
def test_files_as_people_have_them(name, read):
    truth = read_mask(INPUTS.parent / "base" / "mask.png").ids
    if read:
        assert np.array_equal(read_mask(INPUTS / name).ids, truth)
    else:
        refusal(lambda: read_mask(INPUTS / name), name)
