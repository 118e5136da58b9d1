"""Sheets of labelled pictures, to the pixel."""

import numpy as np
import pytest
from PIL import Image

from propagate.errors import OutputError
from propagate.io.write.panels import (
    INK,
    LINE_PX,
    MARGIN_PX,
    PAPER,
    Panel,
    contact_sheet,
    draw_caption,
    fitted_size,
    write_contact_sheet,
)

RED, BLUE = (200, 30, 30), (30, 30, 200)
# A place of a sheet of 100 x 160 px pictures: the picture, two lines, margins; 160 < 320 columns.
PITCH = 100 + 2 * LINE_PX + 2 * MARGIN_PX, 320 + 2 * MARGIN_PX


def plain(color, height=100, width=160):
    return np.full((height, width, 3), color, np.uint8)


def written(area):
    """Whether there is anything on the paper."""
    return bool((area != PAPER).any())


def test_a_sheet_has_rows_of_places_of_one_size():
    panels = [Panel(plain(RED), f"{i}") for i in range(5)]
    assert contact_sheet(panels, columns=2).shape == (3 * PITCH[0], 2 * PITCH[1], 3)
    assert contact_sheet(panels[:1], columns=4).shape == (PITCH[0], PITCH[1], 3)


def test_pictures_stand_in_order_from_left_to_right_each_in_the_middle_of_its_place():
    sheet = contact_sheet([Panel(plain(c), "") for c in (RED, BLUE, BLUE, RED)], columns=2)
    for i, color in enumerate((RED, BLUE, BLUE, RED)):
        top = i // 2 * PITCH[0] + MARGIN_PX
        left = i % 2 * PITCH[1] + MARGIN_PX + (320 - 160) // 2
        assert (sheet[top : top + 100, left : left + 160] == color).all()
        assert tuple(sheet[top - 1, left]) == PAPER
        assert tuple(sheet[top, left - 1]) == PAPER
        assert tuple(sheet[top + 100, left]) == PAPER
        assert tuple(sheet[top, left + 160]) == PAPER


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((480, 854), (180, 320)),
        ((854, 480), (240, 135)),
        ((24, 32), (24, 32)),
        ((1, 999), (1, 320)),
    ],
)
def test_a_picture_is_shrunk_in_proportion_and_never_enlarged(size, fitted):
    assert fitted_size(size[0], size[1], (240, 320)) == fitted


def test_a_low_picture_stands_half_way_up_the_place_of_a_high_one():
    sheet = contact_sheet([Panel(plain(RED), ""), Panel(plain(BLUE, 20, 320), "")])
    column = sheet[:, PITCH[1] + MARGIN_PX + 10]
    assert np.flatnonzero((column == BLUE).all(-1)).tolist() == list(range(46, 66))


def test_each_line_of_text_is_written_under_its_picture():
    sheet = contact_sheet([Panel(plain(RED), "1. bear.mp4", "0.93"), Panel(plain(RED), "", "0.9")])
    title = slice(MARGIN_PX + 100, MARGIN_PX + 100 + LINE_PX)
    note = slice(title.stop, title.stop + LINE_PX)
    first, second = slice(0, PITCH[1]), slice(PITCH[1], None)
    assert written(sheet[title, first])
    assert written(sheet[note, first])
    assert not written(sheet[title, second])
    assert written(sheet[note, second])


def test_a_title_that_is_too_long_stays_in_its_place_and_keeps_both_ends():
    names = ["a" * 100 + end for end in ("1", "2")]
    sheets = [contact_sheet([Panel(plain(RED), name), Panel(plain(RED), "")]) for name in names]
    for sheet in sheets:
        assert not written(sheet[PITCH[0] - 2 * LINE_PX - MARGIN_PX :, PITCH[1] - MARGIN_PX :])
    assert (sheets[0] != sheets[1]).any()


def test_letters_that_the_font_lacks_are_replaced():
    shown = contact_sheet([Panel(plain(RED), "видео.mp4")])
    assert np.array_equal(shown, contact_sheet([Panel(plain(RED), "?????.mp4")]))


def test_a_label_covers_the_corner_of_a_new_image_and_nothing_else():
    image = plain(RED)
    labelled = draw_caption(image, "object 1")
    assert (image == RED).all()
    assert tuple(labelled[0, 0]) == PAPER
    assert (labelled[:LINE_PX, :60].max((0, 1)) >= np.array(INK) - 40).all()
    assert (labelled[LINE_PX:] == RED).all()
    assert (labelled[:, 100:] == RED).all()


def test_a_label_fits_an_image_narrower_than_its_text():
    assert draw_caption(plain(RED, 8, 10), "object 1").shape == (8, 10, 3)


def test_a_sheet_is_written_as_the_picture_it_is(tmp_path):
    panels = [Panel(plain(RED), "1. a"), Panel(plain(BLUE), "2. b")]
    write_contact_sheet(tmp_path / "sheet.png", panels)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), contact_sheet(panels))
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_sheet_that_cannot_be_written_is_one_error(tmp_path):
    with pytest.raises(OutputError, match=r"missing/sheet\.png: cannot be written"):
        write_contact_sheet(tmp_path / "missing/sheet.png", [Panel(plain(RED), "a")])


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(ValueError, match="panels needs at least one"):
        contact_sheet([])
