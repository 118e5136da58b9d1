"""Labels at objects: legible, inside the picture, and where the object is."""

import numpy as np

from propagate.io.write.object_labels import draw_labels

COLOURS = {i: (255, 235, 0) for i in range(1, 9)}


def changed(ids, labels):
    """The box (top, left, bottom, right) of the pixels that labels change on a grey picture."""
    image = np.full((*ids.shape, 3), 77, np.uint8)
    draw_labels(image, ids, labels, COLOURS)
    rows, columns = np.nonzero((image != 77).any(axis=2))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def blank():
    return np.zeros((240, 320), np.uint8)


def test_a_large_object_bears_its_label_in_its_middle():
    ids = blank()
    ids[60:160, 100:220] = 1
    top, left, bottom, right = changed(ids, {1: "1"})
    assert abs((top + bottom) / 2 - 110) <= 1.5
    assert abs((left + right) / 2 - 160) <= 1.5


def test_a_small_object_has_its_label_above():
    ids = blank()
    ids[100:112, 100:112] = 1
    _, left, bottom, right = changed(ids, {1: "1"})
    assert 94 <= bottom <= 100
    assert abs((left + right) / 2 - 106) <= 1.5


def test_labels_stay_inside_the_picture():
    for y, x in ((0, 0), (0, 310), (230, 0), (230, 310)):
        ids = blank()
        ids[y : y + 10, x : x + 10] = 1
        image = np.full((240, 320, 3), 77, np.uint8)
        draw_labels(image, ids, {1: "1 " + "w" * 20}, COLOURS)
        drawn = (image != 77).any(axis=2)
        plain = blank()
        plain[115:125, 155:165] = 1
        other = np.full((240, 320, 3), 77, np.uint8)
        draw_labels(other, plain, {1: "1 " + "w" * 20}, COLOURS)
        assert drawn.sum() == (other != 77).any(axis=2).sum()  # nothing of it is cut off


def test_a_label_moves_by_no_more_than_its_object():
    """An object that moves by a pixel, and frays by a few, does not make its label jump."""
    rng = np.random.default_rng(3)
    places = []
    for shift in range(20):
        ids = blank()
        ids[60:160, 100 + shift : 180 + shift] = 1
        y, x = rng.integers(50, 170, (2, 30))
        ids[y, x + shift + 40] = 1
        top, left, _, _ = changed(ids, {1: "1"})
        places.append((top, left - shift))
    spread = np.ptp(np.array(places), axis=0)
    assert spread.max() <= 2


def test_labels_of_objects_with_one_middle_do_not_cover_each_other():
    ids = blank()
    ids[40:200, 60:260] = 1
    ids[80:160, 110:210] = 2
    both = np.full((240, 320, 3), 77, np.uint8)
    draw_labels(both, ids, {1: "1", 2: "2"}, {1: (255, 235, 0), 2: (60, 190, 255)})
    for colour in ((255, 235, 0), (60, 190, 255)):
        assert (both == colour).all(axis=2).sum() > 30


def test_letters_contrast_with_the_label():
    ids = blank()
    ids[60:160, 100:220] = 1
    image = np.full((240, 320, 3), 77, np.uint8)
    draw_labels(image, ids, {1: "1"}, {1: (40, 0, 90)})
    assert (image == 255).all(axis=2).any()
    assert (image == (40, 0, 90)).all(axis=2).any()


def test_a_name_that_the_font_cannot_write_leaves_the_id():
    ids = blank()
    ids[60:160, 100:220] = 1
    assert changed(ids, {1: "1 \u676f\u5b50"}) == changed(ids, {1: "1"})


def test_a_frame_smaller_than_a_label_is_no_error():
    ids = np.ones((6, 5), np.uint8)
    image = np.zeros((6, 5, 3), np.uint8)
    draw_labels(image, ids, {1: "1 cup"}, COLOURS)
