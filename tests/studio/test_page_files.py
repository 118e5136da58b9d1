"""Choosing and sending files on the page, in a real Chromium."""

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.studio.hand import FRAMES, WAIT_MS, Hand, opened, studio

pytest.importorskip("propagate.studio.serve", reason="needs the extra studio", exc_type=ImportError)
pytestmark = pytest.mark.slow

FOCUSED = "document.activeElement.querySelector('.name')?.textContent"


def test_the_dialog_begins_at_a_video_and_says_where_it_is(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    root = tmp_path / "videos"
    for folder in ("archive", "kitchen"):
        (root / folder).mkdir(parents=True)
    for place in ("b.mp4", "kitchen/deep.mp4"):
        (root / place).write_bytes(clip[0].read_bytes())
    (root / "kitchen" / "more").mkdir()
    images = root / "photos"
    images.mkdir()
    for i in range(3):
        Image.new("RGB", (64, 48), (i * 40, 90, 120)).save(images / f"{i:05d}.png")
    with studio(None, tmp_path / "out", "--root", str(root)) as running:
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        hand = Hand(page)
        page.goto(running.address)
        page.locator("dialog .file").first.wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(1000)
        assert page.evaluate(FOCUSED) == "b.mp4"
        assert page.inner_text(".path") == "videos"
        page.locator("dialog .file", has_text="kitchen").click()
        page.get_by_text("deep.mp4").wait_for()
        assert page.evaluate(FOCUSED) == "deep.mp4"
        assert page.inner_text(".path").split() == ["videos", "/", "kitchen"]
        page.locator("dialog .file", has_text="more").click()
        page.get_by_text("There is no video here.").wait_for()
        assert page.inner_text(".path").split() == ["videos", "/", "kitchen", "/", "more"]
        page.locator(".path button").first.click()
        page.get_by_text("photos").click()
        page.locator("body:not(.without-video)").wait_for(timeout=WAIT_MS)
        page.locator("dialog").wait_for(state="detached")
        hand.key("Control+o")
        page.get_by_text("b.mp4").click()
        page.locator("#title", has_text="b").wait_for(timeout=WAIT_MS)
        page.locator("dialog").wait_for(state="detached")

        # A folder of images is open too: it comes first, and looks like images.
        hand.key("Control+o")
        shown = page.locator(".projects .file")
        page.locator(".projects [data-icon=images]").wait_for(timeout=WAIT_MS)
        assert shown.count() == 1
        assert page.evaluate(FOCUSED) == shown.locator(".name").inner_text()
        assert hand.errors == []
        page.close()


DROP = """async ([name, type, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], name, { type }));
    window.said = [];
    new MutationObserver(() => {
        const lines = document.querySelectorAll(".notice");
        window.said.push(...[...lines].map((each) => each.innerText.trim()));
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
    const event = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
}"""


def _drop(hand: Hand, name: str, data: bytes, kind: str = "") -> None:
    hand.page.evaluate(DROP, [name, kind, base64.b64encode(data).decode()])


def _said(hand: Hand, words: str) -> str:
    page = hand.page
    page.wait_for_function("(words) => window.said.some((line) => line.includes(words))", arg=words)
    return next(line for line in page.evaluate("window.said") if words in line)


def test_a_video_that_is_dropped_is_sent_and_opened(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    data = clip[0].read_bytes()
    with studio(None, tmp_path / "out", "--root", str(tmp_path), "--uploads") as running:
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        hand = Hand(page)
        page.goto(running.address)
        page.locator("dialog .file, dialog .soft").first.wait_for(timeout=WAIT_MS)
        # No video by its name, and none by its content: one line each, and nothing opens.
        _drop(hand, "notes.txt", b"hello")
        assert "notes.txt" in _said(hand, "no video by its name")
        _drop(hand, "broken.mp4", b"hello" * 1000, "video/mp4")
        _said(hand, "Sending broken.mp4")
        page.locator(".notice.error", has_text="broken.mp4").wait_for(timeout=WAIT_MS)
        assert page.locator("body.without-video").count() == 1
        assert page.locator(".notice.progress").count() == 0
        hand.errors.clear()  # the browser notes the two answers that refuse

        _drop(hand, "from my phone.mp4", data, "video/mp4")
        _said(hand, "Sending from my phone.mp4")
        page.locator("body:not(.without-video)").wait_for(timeout=WAIT_MS)
        page.locator("#picture[data-scale]").wait_for(timeout=WAIT_MS)
        _said(hand, "Opening from my phone.mp4")
        page.locator(".notice.progress").wait_for(state="detached", timeout=WAIT_MS)
        page.locator("#frame-count", has_text=f"of 0 to {FRAMES - 1}").wait_for(timeout=WAIT_MS)
        # Chosen in the dialog, it is the same.
        hand.key("Control+o")
        page.set_input_files("#upload", clip[0])
        page.locator("dialog").wait_for(state="detached", timeout=WAIT_MS)
        page.locator("#title", has_text=clip[0].stem).wait_for(timeout=WAIT_MS)
        # A file that is no mask is refused in one line.
        _drop(hand, "notes.txt", b"hello")
        page.locator(".notice.error", has_text="notes.txt").wait_for(timeout=WAIT_MS)
        page.close()


def test_how_much_was_sent_is_said(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    with studio(clip[0], tmp_path / "out", "--uploads") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        session = page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 5, "downloadThroughput": -1}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 400_000})
        _drop(hand, "long.mp4", clip[0].read_bytes() + bytes(800_000), "video/mp4")
        until = time.monotonic() + WAIT_MS / 1000
        # Not `wait_for_function`: the page forbids what that does.
        while not page.evaluate("window.said.some((line) => /long.mp4: [1-9][0-9]? %/.test(line))"):
            assert time.monotonic() < until
            page.wait_for_timeout(20)
        page.locator("#title", has_text="long").wait_for(timeout=WAIT_MS)
        page.close()


def test_without_uploads_a_dropped_video_is_not_sent(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    with studio(clip[0], tmp_path / "out") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        _drop(hand, "other.mp4", clip[0].read_bytes(), "video/mp4")
        assert "--uploads" in _said(hand, "Files cannot be sent here")
        assert hand.errors == []
        page.close()
