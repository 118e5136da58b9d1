"""What a person sees on the page, and when, in a real Chromium."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.studio.hand import (
    FRAMES,
    HEIGHT,
    WAIT_MS,
    WIDTH,
    Hand,
    Studio,
    opened,
    studio,
    write_ids,
)

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
pytest.importorskip("propagate.studio.serve", reason="needs the extra studio", exc_type=ImportError)
pytestmark = pytest.mark.slow

SIZES = [(1366, 768), (1024, 640), (3840, 2160)]


@pytest.fixture(scope="module")
def running(
    clip: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    with studio(clip[0], tmp_path_factory.mktemp("looks")) as started:
        yield started


def _address(running: Studio) -> str:
    return running.address.split("#")[0]


def test_the_welcome_waits_until_no_video_is_known_to_be_open(
    chromium: Any, running: Studio, tmp_path: Path
) -> None:
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    page.add_init_script("""
        window.welcomed = false;
        (function look() {
            const empty = document.getElementById("empty");
            if (empty?.checkVisibility()) window.welcomed = true;
            requestAnimationFrame(look);
        })();
    """)

    def late(route: Any) -> None:
        page.wait_for_timeout(1000)
        route.continue_()

    page.route(re.compile(r"/api/(state|projects/\w+)$"), late)
    hand = Hand(page)
    hand.open(running.address)
    assert page.evaluate("window.welcomed") is False
    page.close()
    with studio(None, tmp_path / "none", "--root", str(tmp_path)) as empty:
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.goto(empty.address)
        page.locator("#empty").wait_for(timeout=WAIT_MS)
        page.close()


def test_a_page_that_is_loaded_again_comes_back_to_video_and_frame(
    chromium: Any, running: Studio
) -> None:
    hand = opened(chromium, running.address)
    page = hand.page
    hand.go_to(7)
    page.reload()
    page.locator("body:not(.without-video)").wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(1000)
    assert page.input_value("#frame") == "7"
    assert page.url == _address(running)
    assert "token" not in page.evaluate("JSON.stringify(sessionStorage)")
    page.close()


def test_another_video_comes_back_too(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.mp4").write_bytes(clip[0].read_bytes())
    second = str(tmp_path / "second.mp4")
    with studio(tmp_path / "first.mp4", tmp_path / "out", second) as started:
        hand = opened(chromium, started.address)
        page = hand.page
        assert page.inner_text("#title") == "first"
        hand.key("Control+o")
        page.locator(".projects").get_by_text("second").click()
        page.locator("#title", has_text="second").wait_for(timeout=WAIT_MS)
        page.locator("dialog[open]").wait_for(state="hidden", timeout=WAIT_MS)
        hand.go_to(3)
        expect(page.locator("#frame")).to_have_value("3", timeout=WAIT_MS)
        page.reload()
        page.locator("#title", has_text="second").wait_for(timeout=WAIT_MS)
        expect(page.locator("#frame")).to_have_value("3", timeout=WAIT_MS)
        page.close()


def test_the_theme_outlives_the_port(
    chromium: Any, clip: tuple[Path, np.ndarray], running: Studio, tmp_path: Path
) -> None:
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    page = context.new_page()
    Hand(page).open(running.address)
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "light"
    (cookie,) = [each for each in context.cookies() if each["name"] == "propagate_theme"]
    assert cookie["value"] == "light"
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == "/"
    with studio(clip[0], tmp_path / "out") as again:
        assert _address(again) != _address(running)
        page.goto("about:blank")
        Hand(page).open(again.address)
        assert page.get_attribute("html", "data-theme") == "light"
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    context.close()


def _boxes(page: Any, *names: str) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for name in names:
        box = page.locator(name).bounding_box()
        found[name] = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    return found


def _touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("size", SIZES)
def test_nothing_lies_on_the_picture(chromium: Any, running: Studio, size: tuple[int, int]) -> None:
    page = chromium.new_page(viewport={"width": size[0], "height": size[1]})
    hand = Hand(page)
    hand.open(running.address)
    hand.key("r")  # there is no reference: a notice says so
    page.locator(".notice").wait_for()
    left, top = hand.place(0, 0)
    right, bottom = hand.place(WIDTH, HEIGHT)
    picture = (left, top, right, bottom)
    for name, box in _boxes(page, "#zoom", "#options", ".notice", "#follow").items():
        assert not _touch(box, picture), name
        assert 0 <= box[0] < box[2] <= size[0], name
    for a, b in combinations(_boxes(page, "#zoom", "#options", ".notice", "#follow").values(), 2):
        assert not _touch(a, b)
    assert page.evaluate("document.documentElement.scrollHeight") == size[1]
    page.close()


def test_frames_are_counted_in_one_way(chromium: Any, running: Studio) -> None:
    hand = opened(chromium, running.address)
    page = hand.page
    page.locator("#frame-count", has_text=f"of 0 to {FRAMES - 1}").wait_for(timeout=WAIT_MS)
    hand.key("End")
    page.wait_for_timeout(1000)
    assert page.input_value("#frame") == str(FRAMES - 1)
    page.close()


def test_a_frame_that_cannot_be_loaded_is_not_shown_as_another_one(
    chromium: Any, running: Studio
) -> None:
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    hand = Hand(page)
    page.route("**/frames/2", lambda route: route.abort())
    hand.open(running.address)
    hand.go_to(2)
    assert page.input_value("#frame") == "2"
    missing = page.locator("#missing")
    assert missing.inner_text() == "Frame 2 could not be loaded."
    (box, stage) = _boxes(page, "#missing", "#stage").values()
    assert box == stage  # nothing is seen of the frame before
    hand.key("ArrowRight")
    missing.wait_for(state="hidden")
    page.unroute("**/frames/2")
    hand.key("ArrowLeft")
    page.wait_for_timeout(600)
    assert missing.is_hidden()

    # One that takes long is announced, and no other picture stands below its number meanwhile.
    held: list[Any] = []
    page.route("**/frames/11", lambda route: held.append(route))
    page.reload()
    page.locator("body:not(.without-video)").wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(1000)
    hand.go_to(11)
    page.locator("#missing", has_text="Frame 11 is being loaded").wait_for(timeout=WAIT_MS)
    for route in held:
        route.continue_()
    missing.wait_for(state="hidden", timeout=WAIT_MS)
    page.close()


def test_names_stand_on_their_objects_and_not_on_each_other(
    chromium: Any, running: Studio, tmp_path: Path
) -> None:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[60:100, 20:60], ids[60:68, 40:48] = 1, 2  # one upon the other
    ids[20:30, 5:15], ids[90:120, 150:190] = 3, 3  # two parts, far apart
    hand = opened(chromium, running.address)
    page = hand.page
    hand.go_to(5)
    page.set_input_files("#import-file", write_ids(tmp_path / "given.png", ids))
    page.locator(".object").nth(2).wait_for(timeout=WAIT_MS)
    hand.saved()
    page.wait_for_timeout(1000)
    names = {
        i: (x, y, x + width, y + height)
        for i, x, y, width, height in json.loads(page.get_attribute("#overlay", "data-names"))
    }
    assert sorted(names) == [1, 2, 3]
    assert not any(_touch(a, b) for a, b in combinations(names.values(), 2))
    stage = page.locator("#stage").bounding_box()
    left, top = hand.place(150, 90)
    right, _ = hand.place(190, 90)
    x0, _, x1, y1 = names[3]
    assert left - stage["x"] <= (x0 + x1) / 2 <= right - stage["x"]
    assert 0 <= top - stage["y"] - y1 <= 8
    # One form of the name, before and after it is given another one.
    assert page.locator(".object .name").all_inner_texts() == ["object 1", "object 2", "object 3"]
    page.close()


def test_the_timeline_is_as_high_as_its_rows(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    with studio(clip[0], tmp_path / "out") as started:
        hand = opened(chromium, started.address)
        page = hand.page
        heights = []
        for count in range(8):
            if count:
                hand.key("a")
                page.locator(".track-names button").nth(count - 1).wait_for()
                page.wait_for_timeout(100)
            line = page.locator("#timeline").bounding_box()
            heights.append(line["height"])
            if count in (1, 2):
                row = page.locator(".track-names button").last.bounding_box()
                empty = line["y"] + line["height"] - row["y"] - row["height"]
                assert 0 <= empty <= 6
        assert heights[0] == heights[1] < heights[2]
        assert heights[-1] == heights[-2] <= 0.2 * 768  # then it scrolls
        page.close()
