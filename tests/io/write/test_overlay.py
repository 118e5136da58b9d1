"""Masks drawn over frames."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from propagate.io.masks.display_colours import DisplayColours
from propagate.io.write.overlay import OverlayWriter, draw_overlay, object_labels

FPS = Fraction(30000, 1001)


def scene(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ids = np.zeros((height, width), dtype=np.uint8)
    ids[4:20, 6:30] = 1
    ids[15:40, 20:50] = 2
    ids[30:, 40:] = 255
    ids[0, 0] = 7
    return image, ids


def read_video(path: Path) -> tuple[list[av.VideoFrame], av.VideoStream]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0)), container.streams.video[0]


def peak_signal_to_noise(seen: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((seen.astype(float) - expected.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


COLOURS = {1: (255, 30, 30), 2: (60, 190, 255), 7: (130, 255, 0), 191: (255, 255, 255)}
# Black where the colour is light, white where it is dark; worked out by hand.
EDGES = {1: (0, 0, 0), 2: (0, 0, 0), 7: (0, 0, 0), 191: (0, 0, 0), 9: (255, 255, 255)}


def drawn_pixel_by_pixel(
    image: np.ndarray, ids: np.ndarray, alpha: float, colours=COLOURS, width: int = 1
) -> np.ndarray:
    """What draw_overlay promises, said as a loop in floating point."""
    height, columns = ids.shape
    drawn = image.astype(float)

    def within(y: int, x: int):
        """The ids at most `width` steps up, down, left or right."""
        return {
            int(ids[v, u])
            for v in range(max(0, y - width), min(height, y + width + 1))
            for u in range(max(0, x - width), min(columns, x + width + 1))
            if abs(v - y) + abs(u - x) <= width
        }

    for y in range(height):
        for x in range(columns):
            own = int(ids[y, x])
            if own in (0, 255):
                if near := within(y, x) - {0, 255}:
                    drawn[y, x] = EDGES[max(near)]
                continue
            share = alpha if within(y, x) == {own} else 1.0
            drawn[y, x] = (1 - share) * image[y, x] + share * np.array(colours[own])
    return drawn


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
def test_drawing_agrees_with_a_loop_over_pixels(alpha):
    image, ids = scene()
    expected = drawn_pixel_by_pixel(image, ids, alpha)
    # Rounding alpha to 1/256 may move a value by half a step, rounding the value by another half.
    drawn = draw_overlay(image, ids, alpha, colours=COLOURS)
    assert np.abs(drawn - expected).max() <= 1


def test_outlines_are_wider_in_larger_frames(monkeypatch):
    monkeypatch.setattr("propagate.io.write.overlay.OUTLINE_EVERY_PX", 16)
    image, ids = scene()
    expected = drawn_pixel_by_pixel(image, ids, 0.5, width=3)
    assert np.abs(draw_overlay(image, ids, colours=COLOURS) - expected).max() <= 1


def test_a_dark_colour_has_a_light_edge():
    image, ids = scene()
    ids[ids == 7] = 0
    ids[ids == 2] = 0
    colours = {9: (90, 0, 160)}
    ids[ids == 1] = 9
    expected = drawn_pixel_by_pixel(image, ids, 0.5, colours)
    assert np.abs(draw_overlay(image, ids, colours=colours) - expected).max() <= 1
    assert (draw_overlay(image, ids, colours=colours)[3, 10] == 255).all()


def test_pixels_away_from_objects_stay_and_so_does_the_input():
    image, ids = scene()
    before = image.copy()
    drawn = draw_overlay(image, ids)
    assert np.array_equal(image, before)
    labelled = (ids != 0) & (ids != 255)
    near = labelled.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        near |= np.roll(labelled, step, axis)
    assert np.array_equal(drawn[~near], before[~near])


def test_without_colours_an_object_gets_one_that_stands_out():
    """Red on red would be invisible; the colour of DAVIS for object 1 is dark red."""
    image = np.full((48, 64, 3), (150, 10, 10), np.uint8)
    ids = np.zeros((48, 64), np.uint8)
    ids[10:30, 10:40] = 1
    outline = draw_overlay(image, ids)[10, 20].astype(float)
    assert np.abs(outline - (150, 10, 10)).max() > 100


def test_a_frame_without_objects_is_drawn_as_it_is():
    image, ids = scene()
    assert np.array_equal(draw_overlay(image, np.zeros_like(ids)), image)


def test_white_under_the_brightest_colour_does_not_overflow():
    image = np.full((8, 8, 3), 255, dtype=np.uint8)
    ids = np.full((8, 8), 191, dtype=np.uint8)
    ids[0] = 0
    expected = drawn_pixel_by_pixel(image, ids, 0.5)
    drawn = draw_overlay(image, ids, colours=COLOURS)
    assert np.abs(drawn - expected).max() <= 1


def test_wrong_sizes_and_shares_are_a_programmers_mistake():
    image, ids = scene()
    with pytest.raises(ValueError, match=r"\(47, 64\)"):
        draw_overlay(image, ids[1:])
    with pytest.raises(ValueError, match="alpha"):
        draw_overlay(image, ids, 1.5)


def test_the_video_looks_like_what_was_drawn(tmp_path):
    rows, columns = np.mgrid[:120, :160]
    ids = np.zeros((120, 160), dtype=np.uint8)
    ids[30:90, 20:70] = 1
    ids[40:100, 90:140] = 2
    colours = DisplayColours(COLOURS)
    with OverlayWriter(
        tmp_path / "overlay.mp4", FPS, 160, 120, colours=colours, labels=False
    ) as video:
        image = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
        for index in range(10):
            video.write(image, ids, index / FPS)
    frames, _ = read_video(tmp_path / "overlay.mp4")
    seen = frames[-1].to_ndarray(format="rgb24").astype(float)
    expected = drawn_pixel_by_pixel(image, ids, 0.5)
    assert peak_signal_to_noise(seen, expected) > 28
    for region in (slice(40, 80), slice(30, 60)), (slice(50, 90), slice(100, 130)):
        means = [picture[region].mean(axis=(0, 1)) for picture in (seen, expected)]
        assert np.abs(means[0] - means[1]).max() < 4


def test_the_same_frames_make_the_same_bytes(tmp_path):
    image, ids = scene()
    for name in ("a.mp4", "b.mp4"):
        with OverlayWriter(tmp_path / name, FPS, 64, 48) as video:
            for index in range(30):
                video.write(np.roll(image, index, axis=1), ids, index / FPS)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_frame_of_another_size_is_a_programmers_mistake(tmp_path):
    image, ids = scene()
    with (
        pytest.raises(ValueError, match=r"\(48, 65, 3\)"),
        OverlayWriter(tmp_path / "o.mp4", FPS, 65, 48) as video,
    ):
        video.write(image, ids, Fraction(0))
    assert os.listdir(tmp_path) == []


def test_the_video_is_absent_until_it_is_complete(tmp_path):
    image, ids = scene()
    with OverlayWriter(tmp_path / "overlay.mp4", FPS, 64, 48) as video:
        video.write(image, ids, Fraction(0))
        assert not (tmp_path / "overlay.mp4").exists()
    assert os.listdir(tmp_path) == ["overlay.mp4"]


def test_an_old_video_stays_when_the_run_breaks_off(tmp_path):
    (tmp_path / "overlay.mp4").write_text("old")
    image, ids = scene()

    def write_and_stop() -> None:
        with OverlayWriter(tmp_path / "overlay.mp4", FPS, 64, 48) as video:
            video.write(image, ids, Fraction(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert os.listdir(tmp_path) == ["overlay.mp4"]
    assert (tmp_path / "overlay.mp4").read_text() == "old"


def test_an_object_keeps_its_colour_in_all_frames(tmp_path):
    """Its ground turns to the very colour that it was given, and it keeps it."""
    ids = np.zeros((48, 64), np.uint8)
    ids[10:30, 10:40] = 1
    colours = DisplayColours()
    with OverlayWriter(tmp_path / "o.mp4", FPS, 64, 48, colours=colours) as video:
        video.write(np.full((48, 64, 3), 90, np.uint8), ids, Fraction(0))
        chosen = dict(colours.colours)
        video.write(np.full((48, 64, 3), chosen[1], np.uint8), ids, 1 / FPS)
    assert colours.colours == chosen
    assert draw_overlay(np.full((48, 64, 3), chosen[1], np.uint8), ids)[10, 20].tolist() != list(
        chosen[1]
    )


def test_labels_begin_with_the_second_object_or_with_a_name():
    assert object_labels([1], {}) == {}
    assert object_labels([1, 2], {}) == {1: "1", 2: "2"}
    assert object_labels([1], {1: "cup"}) == {1: "1 cup"}
    assert object_labels([1], {2: "cup"}) == {}


def test_only_objects_in_the_picture_are_labelled():
    image, ids = scene(120, 160)
    with_label = draw_overlay(image, ids, colours=COLOURS, labels={1: "1"})
    plain = draw_overlay(image, ids, colours=COLOURS)
    assert not np.array_equal(with_label, plain)
    absent = draw_overlay(image, ids, colours=COLOURS, labels={3: "3"})
    assert np.array_equal(absent, plain)
