"""Keyboard, pen and fingers on the page, in a real Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.studio.hand import HEIGHT, WAIT_MS, WIDTH, Hand, Studio, ids_in, write_ids

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
pytest.importorskip("propagate.studio.serve", reason="needs the extra studio", exc_type=ImportError)
pytestmark = pytest.mark.slow

OVERLAY_PIXELS = """() => {
    const canvas = document.getElementById("overlay");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i]) count++;
    return count;
}"""


@pytest.fixture
def hand(chromium: Any, shared_studio: tuple[Studio, Path]) -> Iterator[Hand]:
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, has_touch=True)
    hand = Hand(context.new_page())
    hand.open(shared_studio[0].address)
    yield hand
    assert hand.errors == []
    context.close()


def _objects(folder: Path) -> dict[str, Any]:
    file = folder / "project.json"
    return json.loads(file.read_text())["objects"] if file.exists() else {}


def _steps(hand: Hand) -> list[str]:
    return [hand.page.get_attribute(f"#{name}", "title") for name in ("undo", "redo")]


def test_nothing_is_left_of_a_first_stroke_that_is_given_up(
    hand: Hand, shared_studio: tuple[Studio, Path]
) -> None:
    """The first test of this studio: there is no object yet."""
    page, mouse = hand.page, hand.page.mouse
    none = ["Undo (Ctrl+Z)", "Redo (Ctrl+Shift+Z)"]
    for tool in ("x", "b", "s"):
        hand.key(tool)
        mouse.move(*hand.place(20, 20))
        mouse.down()
        mouse.move(*hand.place(60, 60), steps=3)
        assert page.locator(".object").count() == 1
        hand.key("Escape")
        mouse.up()
        page.wait_for_timeout(1000)
        expect(page.locator(".object"), tool).to_have_count(0, timeout=WAIT_MS)
        assert _steps(hand) == none
    # By keyboard, and a box that is too small.
    hand.key("x", "c", "Enter", "ArrowRight", "Escape")
    page.wait_for_timeout(1000)
    assert page.locator(".object").count() == 0
    hand.stroke((30, 30))
    page.wait_for_timeout(1000)
    assert page.locator(".object").count() == 0
    assert _steps(hand) == none
    page.wait_for_timeout(1000)
    assert _objects(shared_studio[1]) == {}
    # An object that was added by hand stays, and so does what was painted.
    hand.key("a", "x", "c", "Enter", "ArrowRight", "Escape")
    assert page.locator(".object").count() == 1
    assert _steps(hand)[0] == "Undo: Add object (Ctrl+Z)"
    hand.key("b")
    hand.stroke((20, 20), (30, 30))
    assert set(np.unique(ids_in(shared_studio[1] / "references" / "00000.png"))) == {0, 1}


@pytest.mark.parametrize("tool", ["s", "x", "b", "e", "p"])
def test_the_keyboard_cursor_shows_for_every_tool(hand: Hand, tool: str) -> None:
    page = hand.page
    hand.key("t", tool)
    page.mouse.move(2, 2)
    page.wait_for_timeout(100)
    assert page.evaluate(OVERLAY_PIXELS) == 0
    hand.key("c")
    page.wait_for_timeout(100)
    assert page.evaluate(OVERLAY_PIXELS) > 60
    hand.key("c")
    page.wait_for_timeout(100)
    if tool in "xp":  # the others show their ring where the pointer would be
        assert page.evaluate(OVERLAY_PIXELS) == 0


def test_after_a_rename_the_keys_go_on(hand: Hand, shared_studio: tuple[Studio, Path]) -> None:
    page = hand.page
    page.set_input_files("#import-file", write_ids(shared_studio[1].parent / "two.png", _two()))
    page.locator(".object").nth(1).wait_for(timeout=WAIT_MS)
    hand.key("1", "F2")
    page.keyboard.type("left cup")
    hand.key("Enter")
    page.locator("text=left cup").first.wait_for()
    assert page.locator("input.rename").count() == 0
    assert page.evaluate("document.activeElement.id") == "overlay"
    hand.key("ArrowRight")
    page.wait_for_timeout(1000)
    assert page.input_value("#frame") == "1"
    # From the list, with the keys of the list.
    page.locator(".object .choose").nth(1).focus()
    hand.key("2", "F2")
    page.keyboard.type("right cup")
    hand.key("Escape")
    assert page.evaluate("document.activeElement.dataset.focus") == "choose2"
    assert page.locator(".object .name").nth(1).inner_text() == "object 2"


def test_a_command_closes_an_open_menu(hand: Hand) -> None:
    page = hand.page
    for key in ("m", "End", "t"):
        page.locator(".object [aria-label^='More for']").first.click()
        page.locator(".menu").wait_for()
        hand.key(key)
        page.wait_for_timeout(100)
        assert page.locator(".menu").count() == 0, key


def _two() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[10:60, 10:60], ids[60:100, 80:150] = 1, 2
    return ids


class Pen:
    """A pen that Chromium is told of by its own protocol."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.session = hand.page.context.new_cdp_session(hand.page)

    def stroke(
        self, *points: tuple[float, float], force: float = 0.5, button: str = "left"
    ) -> None:
        first, last = points[0], points[-1]
        self._send("mouseMoved", first, "none", 0, 0)
        bits = {"left": 1, "right": 2}[button]
        self._send("mousePressed", first, button, bits, force)
        for point in points[1:]:
            self._send("mouseMoved", point, button, bits, force)
        self._send("mouseReleased", last, button, 0, 0)
        self.hand.page.wait_for_timeout(100)
        self.hand.saved()

    def _send(
        self, kind: str, point: tuple[float, float], button: str, bits: int, force: float
    ) -> None:
        x, y = self.hand.place(*point)
        event = {"type": kind, "x": x, "y": y, "button": button, "buttons": bits, "force": force}
        clicks = int(kind != "mouseMoved")
        self.session.send(
            "Input.dispatchMouseEvent", {**event, "clickCount": clicks, "pointerType": "pen"}
        )


def _start_empty(hand: Hand, folder: Path, frame: int) -> Path:
    hand.go_to(frame)
    file = folder / "references" / f"{frame:05d}.png"
    if not hand.page.locator(".object").count():
        hand.key("a")
    hand.page.locator(".object .choose").first.click()
    hand.key("b", "t")
    hand.page.evaluate("document.getElementById('radius').value = 50")
    hand.page.dispatch_event("#radius", "input")
    return file


def test_a_pen_paints_and_its_button_takes_away(
    hand: Hand, shared_studio: tuple[Studio, Path]
) -> None:
    page = hand.page
    kinds = """() => {
        window.kinds = [];
        document.getElementById("overlay").addEventListener("pointerdown",
            (event) => window.kinds.push([event.pointerType, event.button, event.pressure]));
    }"""
    page.evaluate(kinds)
    line = ((40.0, 64.0), (90.0, 64.0), (150.0, 64.0))
    pen = Pen(hand)
    sizes = {}
    for frame, force in ((3, 0.1), (4, 0.9)):
        file = _start_empty(hand, shared_studio[1], frame)
        pen.stroke(*line, force=force)
        sizes[force] = int((ids_in(file) == 1).sum())
    assert [kind[0] for kind in page.evaluate("window.kinds")] == ["pen", "pen"]
    assert page.evaluate("window.kinds[1][2]") == pytest.approx(0.9, abs=0.01)
    # Without "Pen pressure" a pen paints as a mouse does.
    file = _start_empty(hand, shared_studio[1], 5)
    hand.stroke(*line)
    assert sizes == {0.1: (ids_in(file) == 1).sum(), 0.9: (ids_in(file) == 1).sum()}
    # The button of the pen takes away what the pen painted.
    pen.stroke((90.0, 64.0), (92.0, 64.0), button="right")
    left = ids_in(file) == 1
    assert not left[64, 90]
    assert left[64, 45]
    # With it, a light touch paints thinner.
    assert page.locator("#pressure").is_visible()
    page.check("#pressure input")
    for frame, force in ((6, 0.1), (7, 0.9)):
        file = _start_empty(hand, shared_studio[1], frame)
        pen.stroke(*line, force=force)
        sizes[force] = int((ids_in(file) == 1).sum())
    assert sizes[0.1] * 3 < sizes[0.9]


def test_two_fingers_zoom_and_one_paints(hand: Hand, shared_studio: tuple[Studio, Path]) -> None:
    page = hand.page
    file = _start_empty(hand, shared_studio[1], 8)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    def scale() -> float:
        return float(page.get_attribute("#picture", "data-scale"))

    x, y = hand.place(96, 64)
    before = scale()
    # The second finger comes a little later, and no stroke is left of the first.
    touch("touchStart", (x - 40, y))
    touch("touchStart", (x - 40, y), (x + 40, y))
    for step in range(1, 9):
        touch("touchMove", (x - 40 - 5 * step, y), (x + 40 + 5 * step, y))
    touch("touchEnd")
    page.wait_for_timeout(1000)
    assert scale() == pytest.approx(before * 2, rel=0.02)
    assert hand.place(96, 64) == pytest.approx((x, y), abs=3)  # what is between the fingers stays
    assert not file.exists()
    for step in range(8, -1, -1):
        if step == 8:
            touch("touchStart", (x - 80, y), (x + 80, y))
        touch("touchMove", (x - 40 - 5 * step, y), (x + 40 + 5 * step, y))
    touch("touchEnd")
    page.wait_for_timeout(1000)
    assert scale() == pytest.approx(before, rel=0.02)
    assert not file.exists()
    # One finger paints.
    touch("touchStart", hand.place(50, 40))
    for step in range(1, 6):
        touch("touchMove", hand.place(50 + 8 * step, 40))
    touch("touchEnd")
    page.wait_for_timeout(1000)
    hand.saved()
    painted = ids_in(file) == 1
    assert painted[40, 50]
    assert painted[40, 88]
