"""Colours that stand out, held against the CIELAB of scikit-image."""

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from propagate.io.masks.display_colours import (
    HUES,
    DisplayColours,
    choose_colours,
    cielab,
    contrasting,
    from_hex,
    to_hex,
)
from propagate.io.masks.palette import palette
from tests.paths import DEV, ROOT


def lab(colours) -> np.ndarray:
    return rgb2lab(np.asarray(colours, np.float64).reshape(1, -1, 3) / 255)[0]


def distance(a, b) -> np.ndarray:
    return np.linalg.norm(lab(a)[:, None] - lab(b)[None], axis=2)


def square(ground, own, size=(60, 80)):
    image = np.full((*size, 3), ground, np.uint8)
    ids = np.zeros(size, np.uint8)
    ids[20:40, 20:50] = 1
    image[ids == 1] = own
    return image, ids


def test_cielab_is_that_of_scikit_image():
    colours = np.random.default_rng(0).integers(0, 256, (500, 3), np.uint8)
    colours[:3] = [(0, 0, 0), (255, 255, 255), (3, 10, 11)]
    assert np.abs(cielab(colours) - lab(colours)).max() < 0.01


def test_hues_are_vivid_and_apart():
    values = lab(HUES)
    assert np.hypot(values[:, 1], values[:, 2]).min() > 40
    assert values[:, 0].min() > 50
    away = distance(HUES, HUES)
    assert away[~np.eye(len(HUES), dtype=bool)].min() > 35


@pytest.mark.parametrize("ground", [(40, 90, 40), (128, 128, 128), (20, 20, 30), (240, 240, 235)])
@pytest.mark.parametrize("own", [(150, 10, 10), (20, 40, 160), (230, 220, 40), (90, 90, 90)])
def test_of_two_flat_colours_the_chosen_hue_is_farthest(ground, own):
    chosen = choose_colours(*square(ground, own))[1]
    nearest = distance(HUES, [ground, own]).min(axis=1)
    assert distance([chosen], [ground, own]).min() == pytest.approx(nearest.max(), abs=0.01)


def test_objects_differ_until_all_hues_are_used():
    image = np.full((40, 260, 3), 100, np.uint8)
    ids = np.zeros((40, 260), np.uint8)
    for i in range(1, 26):
        ids[10:30, 10 * i : 10 * i + 8] = i
    colours = choose_colours(image, ids)
    assert len(colours) == 25
    assert set(list(colours.values())[:12]) == set(HUES)
    counts = [list(colours.values()).count(hue) for hue in HUES]
    assert max(counts) - min(counts) == 1


def test_a_colour_keeps_away_from_one_that_was_given():
    image, ids = square((128, 128, 128), (128, 128, 128))
    alone = choose_colours(image, ids)[1]
    other = choose_colours(image, ids, {5: alone})[1]
    assert distance([alone], [other]).item() > 35
    assert choose_colours(image, ids, {1: (1, 2, 3)}) == {}


def test_background_and_void_get_no_colour():
    image, ids = square((0, 0, 0), (9, 9, 9))
    ids[50:] = 255
    assert set(choose_colours(image, ids)) == {1}
    assert choose_colours(image, np.zeros_like(ids)) == {}


def test_an_object_that_fills_the_picture_gets_a_colour():
    image = np.full((20, 30, 3), (255, 0, 255), np.uint8)
    chosen = choose_colours(image, np.ones((20, 30), np.uint8))[1]
    assert distance([chosen], [(255, 0, 255)]).item() > 100


def test_colours_of_a_video_are_chosen_once_and_new_objects_get_others():
    colours = DisplayColours({3: (1, 2, 3)})
    image, ids = square((30, 80, 30), (120, 20, 20))
    first = dict(colours.add(image, ids))
    ids[45:55, 5:15] = 2
    later = colours.add(np.full_like(image, first[1]), ids)
    assert later[1] == first[1]
    assert later[3] == (1, 2, 3)
    assert later[2] not in (first[1], (1, 2, 3))


def real_frames():
    """A frame of the sample clip, and of clips with cars, with their first masks."""
    yield ROOT / "samples" / "clip" / "clip.mp4", ROOT / "samples" / "clip" / "first.png"
    for name in ("davis/{}/480p/car-turn", "davis/{}/480p/bus", "multi/{}/480p/highway-a"):
        folder = DEV / name.format("JPEGImages")
        yield folder, DEV / name.format("Annotations")


@pytest.mark.parametrize("source", list(real_frames()), ids=lambda s: s[0].stem)
def test_in_real_frames_the_chosen_hue_beats_the_colour_of_davis(source):
    from propagate.io.decode.one_frame import read_frame

    frames, masks = source
    if not masks.exists():
        pytest.skip(f"needs {frames}")
    mask = masks if masks.is_file() else min(masks.glob("*.png"))
    image, ids = read_frame(frames).image, np.array(Image.open(mask))
    for object_id, chosen in choose_colours(image, ids).items():
        own = image[ids == object_id][::7]
        away = [np.quantile(distance([c], own), 0.1) for c in (chosen, palette()[object_id])]
        assert away[0] > 40
        assert object_id > 1 or away[0] > away[1]


def test_hexadecimal_colours_go_there_and_back():
    assert to_hex((255, 140, 0)) == "#ff8c00"
    assert from_hex("#FF8c00") == (255, 140, 0)
    for wrong in ("ff8c00", "#ff8c0", "#ff8c0g", "red", "#+f8c00", ""):
        with pytest.raises(ValueError, match="no colour such as"):
            from_hex(wrong)


def test_the_contrast_of_a_colour_is_black_or_white():
    assert contrasting((255, 235, 0)) == (0, 0, 0)
    assert contrasting((128, 0, 0)) == (255, 255, 255)
