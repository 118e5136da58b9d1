"""The page in a real Chromium, with the real server and the model `tiny`."""

import json
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.studio.hand import (
    FRAMES,
    HEIGHT,
    WAIT_MS,
    WIDTH,
    Hand,
    Studio,
    centre,
    ids_in,
    masks_of,
    opened,
    studio,
    write_ids,
)

pytest.importorskip("propagate.studio.serve", reason="needs the extra studio", exc_type=ImportError)
pytestmark = pytest.mark.slow


def test_mending_changes_only_frames_up_to_the_next_reference(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path, propagate: Callable[..., Any]
) -> None:
    video, truth = clip
    project = tmp_path / "out" / "cups"
    write_ids(tmp_path / "first.png", truth)
    with studio(video, tmp_path / "out") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        page.set_input_files("#import-file", tmp_path / "first.png")
        page.locator("#undo[title*=Import]").wait_for(timeout=WAIT_MS)
        hand.saved()
        hand.follow()
        hand.go_to(9)
        hand.key("b")
        # A reference that names all objects; a stroke that changes nothing would make none.
        for object_id in (1, 2, 3):
            hand.key(str(object_id))
            x, y = np.argwhere(truth == object_id).max(axis=0)[::-1] + 2.0
            hand.stroke((x, y), (x + 3, y))
        assert set(np.unique(ids_in(project / "references" / "00009.png"))) == {0, 1, 2, 3}
        hand.key("1")
        hand.follow()
        before = masks_of(project)
        hand.go_to(6)
        hand.key("e")
        hand.stroke(centre(truth, 1))
        hand.follow()
        after = masks_of(project)
        changed = {frame for frame in before if before[frame] != after[frame]}
        assert 6 in changed
        assert changed <= {6, 7, 8}
        given = ids_in(project / "references" / "00006.png")
        assert set(np.unique(given)) == {0, 1, 2, 3}
        assert np.array_equal(ids_in(project / "masks" / "00006.png"), given)
        page.close()

    # The command line goes on with the folder, and finds nothing to do.
    options = ["-o", tmp_path / "out", "--model", "tiny", "--update", "--backwards", "new"]
    done = propagate("run", video, "-m", project / "references", *options)
    assert done.status == 0, done.stderr
    assert "left as it is" in done.stdout
    assert masks_of(project) == after


def test_paint_follow_mend_undo_export_and_go_on(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    video, truth = clip
    project = tmp_path / "out" / "cups"
    with studio(video, tmp_path / "out") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        assert hand.hint == "Paint the object you want to follow"
        assert page.locator("#follow").is_disabled()

        # The smart brush finds the cup; the right button takes away what is too much.
        x, y = centre(truth, 1)
        hand.stroke((x - 8, y), (x + 8, y + 2))
        hand.stroke((x - 30, y + 26), (x, y + 28), button="right")
        first = project / "references" / "00000.png"
        found = ids_in(first)
        assert set(np.unique(found)) == {0, 1}
        both = (found == 1) & (truth == 1)
        assert both.sum() / ((found == 1) | (truth == 1)).sum() > 0.5
        assert hand.hint.startswith("Press Follow")

        # Undo takes one stroke, and redo brings back the same pixels.
        hand.key("Control+z")
        page.locator("#redo:enabled").wait_for()
        hand.saved()
        page.wait_for_timeout(500)
        assert not np.array_equal(ids_in(first), found)
        hand.key("Control+Shift+z")
        page.wait_for_timeout(600)
        hand.saved()
        assert np.array_equal(ids_in(first), found)

        # A second object by the plain brush.
        hand.key("a", "b")
        hand.stroke(centre(truth, 2), (centre(truth, 2)[0] + 10, centre(truth, 2)[1]))
        assert set(np.unique(ids_in(first))) == {0, 1, 2}

        hand.follow()
        before = masks_of(project)
        assert sorted(before) == list(range(FRAMES))
        assert "Something wrong?" in hand.hint

        # A frame that is computed becomes a reference, and starts from its mask.
        hand.go_to(6)
        hand.key("e")
        hand.stroke(centre(truth, 1))
        mended = ids_in(project / "references" / "00006.png")
        computed = np.array(Image.open(project / "masks" / "00006.png"))
        assert not np.array_equal(mended, computed)
        assert set(np.unique(mended)) == {0, 1, 2}
        assert np.array_equal(mended[mended != 0], computed[mended != 0])
        assert "hatched" in hand.hint
        hand.key("Control+z")
        page.wait_for_timeout(800)
        hand.saved()
        assert not (project / "references" / "00006.png").exists()
        hand.key("Control+Shift+z")
        page.wait_for_timeout(800)
        hand.saved()
        assert np.array_equal(ids_in(project / "references" / "00006.png"), mended)
        hand.follow()
        after = masks_of(project)
        assert np.array_equal(ids_in(project / "masks" / "00006.png") == 1, mended == 1)
        assert sorted(after) == list(range(FRAMES))

        page.click("#export")
        with page.expect_download(timeout=WAIT_MS) as download:
            page.click("dialog button[type=submit]")
        download.value.save_as(tmp_path / "export.zip")
        with zipfile.ZipFile(tmp_path / "export.zip") as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(names) >= FRAMES
        assert hand.errors == []
        page.close()

    # Closed and opened again, everything is there.
    with studio(video, tmp_path / "out") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        assert page.locator(".object").count() == 2
        assert "Something wrong?" in hand.hint
        hand.key("r")
        page.wait_for_timeout(300)
        assert page.input_value("#frame") == "6"
        page.close()
    assert masks_of(project) == after


@pytest.mark.parametrize(
    ("frame", "ratio", "zoom"), [(0, 1, 1.0), (1, 1, 4.7), (2, 2, 1.0), (3, 2, 4.7)]
)
def test_ids_are_exact_at_any_zoom(
    chromium: Any,
    shared_studio: tuple[Studio, Path],
    tmp_path: Path,
    frame: int,
    ratio: int,
    zoom: float,
) -> None:
    running, project = shared_studio
    rng = np.random.default_rng(1)
    ids = rng.choice(np.array([0, 1, 2, 254], np.uint8), (HEIGHT // 8, WIDTH // 8))
    ids = ids.repeat(8, axis=0).repeat(8, axis=1)
    ids[:8, :40] = rng.choice(np.array([0, 1, 2, 254], np.uint8), (8, 40))
    ids[40:90, 60:140] = 0
    write_ids(tmp_path / "given.png", ids)
    reference = project / "references" / f"{frame:05d}.png"
    page = chromium.new_page(viewport={"width": 1366, "height": 768}, device_scale_factor=ratio)
    hand = Hand(page)
    hand.open(running.address)
    hand.go_to(frame)
    page.set_input_files("#import-file", tmp_path / "given.png")
    page.locator("#undo[title*=Import]").wait_for(timeout=WAIT_MS)
    hand.saved()
    assert np.array_equal(ids_in(reference), ids)

    # Zoom around a point off the centre, so that nothing lies on whole CSS pixels.
    page.mouse.move(*hand.place(97.3, 61.7))
    scale = float(page.get_attribute("#picture", "data-scale"))
    page.mouse.wheel(0, float(np.log(scale / zoom) / 0.002))
    page.wait_for_timeout(300)
    assert float(page.get_attribute("#picture", "data-scale")) == pytest.approx(zoom, rel=0.02)

    # With id 254: a filled box, from the middle of a pixel to the middle of another.
    page.locator(".object .choose").nth(2).click()
    hand.key("x")
    page.keyboard.down("Shift")
    hand.stroke((80.5, 50.5), (91.5, 57.5))
    page.keyboard.up("Shift")
    expected = ids.copy()
    expected[50:58, 80:92] = 254
    assert np.array_equal(ids_in(reference), expected)

    # A brush of one pixel, near an edge of the pixel.
    hand.key("b", *["["] * 40)
    edge = 0.5 - 0.5 / zoom if zoom > 1 else 0
    for x, y in ((100, 60), (101, 62), (104, 70)):
        hand.stroke((x + 0.5 + edge * 0.9, y + 0.5 - edge * 0.9))
        expected[y, x] = 254
    assert np.array_equal(ids_in(reference), expected)

    if zoom > 2:
        # What is seen is what is saved: the middle of each pixel has the colour of its object.
        page.locator("#opacity").fill("1")
        hand.key("t")
        page.mouse.move(2, 2)
        page.wait_for_timeout(300)
        page.screenshot(path=tmp_path / "seen.png")
        seen = np.array(Image.open(tmp_path / "seen.png").convert("RGB"))
        colour = page.evaluate(
            "getComputedStyle(document.querySelectorAll('.object .swatch')[2]).backgroundColor"
        )
        wanted = [int(value) for value in re.findall(r"\d+", colour)]
        for x, y in ((85, 53), (81, 51), (90, 56)):
            left, top = hand.place(x + 0.5, y + 0.5)
            pixel = seen[int(top * ratio), int(left * ratio)]
            assert pixel.tolist() == wanted
    assert hand.errors == []
    page.close()


def _draw_polygon(hand: Hand) -> None:
    hand.key("p")
    for point in ((20, 30), (60, 30), (60, 70), (20, 70)):
        hand.page.mouse.click(*hand.place(*point))
    hand.key("Enter")


def _rename(hand: Hand) -> None:
    hand.key("F2")
    hand.page.keyboard.type("espresso cup")
    hand.key("Enter")


def _recolour(hand: Hand) -> None:
    hand.page.locator(".object .swatch").first.click()
    hand.page.locator(".menu .swatch:not([aria-current])").last.click()


def _swap(hand: Hand) -> None:
    hand.key("Shift+S")
    hand.page.locator("dialog button[type=submit]").click()


def _brush(hand: Hand) -> None:
    hand.key("b")
    hand.stroke((150, 90), (160, 95))


def test_every_change_is_one_step_that_undo_takes_back(
    chromium: Any, shared_studio: tuple[Studio, Path], tmp_path: Path
) -> None:
    running, project = shared_studio
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[10:60, 10:60], ids[60:100, 80:150] = 1, 2
    write_ids(tmp_path / "given.png", ids)
    hand = opened(chromium, running.address)
    page = hand.page
    hand.go_to(7)
    page.set_input_files("#import-file", tmp_path / "given.png")
    page.locator("#undo[title*=Import]").wait_for(timeout=WAIT_MS)
    hand.saved()

    def kept() -> tuple[Any, dict[str, bytes]]:
        """Everything that the studio has saved of what a person did."""
        files = sorted((project / "references").glob("*.png"))
        objects = json.loads((project / "project.json").read_text())["objects"]
        return objects, {file.stem: ids_in(file).tobytes() for file in files}

    def becomes(expected: Any) -> bool:
        for _ in range(60):
            with suppress(FileNotFoundError):  # a file that is taken away at this moment
                if kept() == expected:
                    return True
            page.wait_for_timeout(100)
        return False

    page.locator(".object .choose").first.click()
    steps: dict[str, Callable[[Hand], None]] = {
        "Brush": _brush,
        "Polygon": _draw_polygon,
        "Add object": lambda hand: hand.key("a"),
        "Rename": _rename,
        "Colour": _recolour,
        "Swap": _swap,
        "Delete object": lambda hand: hand.key("Shift+Delete"),
        "Delete reference": lambda hand: hand.key("Delete"),
    }
    for label, act in steps.items():
        if label != "Brush":
            page.locator(".object .choose").first.click()
        before = kept()
        act(hand)
        page.locator(f"#undo[title*='{label}']").wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(400)
        hand.saved()
        after = kept()
        assert after != before, label
        hand.key("Control+z")
        assert becomes(before), f"undo: {label}"
        hand.key("Control+Shift+z")
        assert becomes(after), f"redo: {label}"
        hand.key("Control+z")
        assert becomes(before), f"undo again: {label}"
    assert hand.errors == []
    page.close()


def test_a_video_is_opened_by_browsing(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "videos" / "kitchen"
    folder.mkdir(parents=True)
    (folder / "cups.mp4").write_bytes(clip[0].read_bytes())
    with studio(None, tmp_path / "out", "--root", str(tmp_path / "videos")) as running:
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.goto(running.address)
        page.get_by_text("kitchen").click()
        page.get_by_text("cups.mp4").click()
        page.locator("body:not(.without-video)").wait_for(timeout=WAIT_MS)
        page.locator("#picture[data-scale]").wait_for(timeout=WAIT_MS)
        assert page.inner_text("#hint") == "Paint the object you want to follow"
        assert page.evaluate("document.documentElement.scrollHeight") == 768
        page.close()
