"""What of a frame becomes a reference when a person paints on it, in a real Chromium."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.studio.hand import (
    HEIGHT,
    WAIT_MS,
    WIDTH,
    centre,
    ids_in,
    opened,
    studio,
    write_ids,
)

pytest.importorskip("propagate.studio.serve", reason="needs the extra studio", exc_type=ImportError)
pytestmark = pytest.mark.slow

NAMED = "document.querySelector('#overlay').dataset.names"


def test_only_what_was_painted_becomes_a_reference(
    chromium: Any,
    clip: tuple[Path, np.ndarray],
    write_video: Callable[..., Path],
    tmp_path: Path,
) -> None:
    with av.open(str(clip[0])) as container:
        images = [
            frame.reformat(WIDTH // 2, HEIGHT // 2).to_ndarray(format="rgb24")
            for _, frame in zip(range(5), container.decode(video=0), strict=False)
        ]
    video, truth = write_video(tmp_path / "cups.mp4", images), clip[1][::2, ::2]
    project = tmp_path / "out" / "cups"
    with studio(video, tmp_path / "out") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        first = write_ids(tmp_path / "first.png", np.where(truth == 1, 1, 0).astype(np.uint8))
        page.set_input_files("#import-file", first)
        page.locator("#undo[title*=Import]").wait_for(timeout=WAIT_MS)
        hand.saved()
        page.click("#follow")
        counted = page.locator("#follow-text", has_text=re.compile(r"Stop · \d+ of 5 frames"))
        counted.wait_for(timeout=WAIT_MS)
        page.locator("#follow:not(.running)").wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(1000)
        # What is said afterwards promises nothing.
        said = page.locator(".notice").inner_text()
        assert "look through the video all the same" in said

        # A second object on a frame where the run shows the first one.
        hand.go_to(3)
        shown = ids_in(project / "masks" / "00003.png")
        assert (shown == 1).any()
        hand.key("a", "b")
        free = np.argwhere(shown[6:-6, 6:-6] == 0)[0] + 6
        hand.stroke((free[1], free[0]), (free[1] + 6.0, free[0] + 2.0))
        reference = project / "references" / "00003.png"
        painted = ids_in(reference)
        stroke = painted == 2
        assert set(np.unique(painted)) == {0, 2}
        assert "[1," in page.evaluate(NAMED)  # the first one is still seen
        assert page.locator("#undo[title*='Brush']").count() == 1

        # A new object lies upon what the run finds: it alone is named.
        hand.stroke(centre(shown, 1))
        assert set(np.unique(ids_in(reference))) == {0, 2}
        hand.key("Control+z")
        page.wait_for_timeout(600)
        hand.saved()
        assert np.array_equal(ids_in(reference), painted)

        hand.follow()
        after = ids_in(project / "masks" / "00003.png")
        assert np.array_equal(after == 2, stroke)
        assert np.array_equal(after == 1, (shown == 1) & ~stroke)

        # Mending one that another frame names makes a reference of all that is seen, and says so.
        hand.go_to(1)
        seen = ids_in(project / "masks" / "00001.png")
        hand.key("1")
        free = np.argwhere(seen[6:-6, 6:-6] == 0)[-1] + 6
        hand.stroke((free[1], free[0]))
        mended = ids_in(project / "references" / "00001.png")
        assert np.array_equal(mended == 2, seen == 2)
        assert (mended == 1).sum() > (seen == 1).sum()
        if (seen == 2).any():
            assert "is now a reference of object 2 too" in page.locator(".notice").inner_text()
        hand.go_to(3)

        # Erased as a whole, it says where the other one is.
        hand.key("1", "x")
        page.keyboard.down("Shift")
        box = np.argwhere(after == 1)
        (top, left), (bottom, right) = box.min(0), box.max(0)
        page.keyboard.down("Alt")
        hand.stroke((left + 0.5, top + 0.5), (right + 0.5, bottom + 0.5))
        page.keyboard.up("Alt")
        page.keyboard.up("Shift")
        assert "no pixel is left" in page.locator(".notice").inner_text()
        assert set(np.unique(ids_in(reference))) <= {0, 2}
        assert hand.errors == []
        page.close()


def test_a_mask_file_is_a_reference_as_a_whole(
    chromium: Any, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[10:60, 10:60], ids[60:100, 80:150] = 1, 2
    reference = tmp_path / "out" / "cups" / "references" / "00000.png"
    with studio(clip[0], tmp_path / "out") as running:
        hand = opened(chromium, running.address)
        page = hand.page
        for name, given in (("a", ids), ("b", np.where(ids == 1, 1, 0).astype(np.uint8))):
            page.set_input_files("#import-file", write_ids(tmp_path / f"{name}.png", given))
            page.wait_for_timeout(800)
            hand.saved()
            assert np.array_equal(ids_in(reference), given)
        page.close()
