"""The page in a real Chromium, while the command line works in the folder that it shows."""

import numpy as np
import pytest

from propagate.pipeline import Propagator
from propagate.studio.serve import HOST
from tests.studio_server import running

pytestmark = pytest.mark.slow

WAIT_MS = 60_000


def test_an_open_page_shows_what_the_command_line_did(chromium, drawn, tmp_path):
    with running(drawn.mp4.parent, tmp_path / "out", drawn.mp4) as client:
        page = chromium.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://{HOST}:{client.port}/#token={client.keys.token}")
        page.locator("#picture[data-scale]").wait_for(timeout=WAIT_MS)
        assert page.get_by_text("Something wrong?").count() == 0
        answers = []
        page.on("response", lambda response: answers.append(response.url))
        model, options = Propagator("color", device="cpu"), {"backwards": "new", "update": True}
        model.run(drawn.mp4, {0: drawn.truth[0]}, tmp_path / "out", **options)
        page.get_by_text("Something wrong?").first.wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(1000)
        assert any(url.endswith("/timeline") for url in answers), "the scores are fetched too"
        both = {0: drawn.truth[0], 4: np.roll(drawn.truth[4], 2, axis=1)}
        with page.expect_response("**/timeline", timeout=WAIT_MS):
            model.run(drawn.mp4, both, tmp_path / "out", **options)
        assert errors == []
        page.close()
