"""A mask from what a person marks: as `Propagator.prompt` makes it of the frame that is shown."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from propagate.pipeline import Propagator
from propagate.prompts.records import Box, Point, Polygon, Stroke
from propagate.studio import prompting
from propagate.studio.prompting import Prompter
from tests.studio_server import running

PROMPTS = {
    "box": ([{"kind": "box", "box": [3, 5, 21, 23]}], [Box(1, 3, 5, 21, 23)]),
    "points": (
        [
            {"kind": "point", "x": 12.5, "y": 14, "on": True},
            {"kind": "point", "x": 50, "y": 34, "on": False},
        ],
        [Point(1, 12.5, 14), Point(1, 50, 34, on=False)],
    ),
    "stroke": (
        [{"kind": "stroke", "points": [[8, 10], [16, 18]], "radius": 2, "on": True}],
        [Stroke(1, ((8, 10), (16, 18)), radius=2)],
    ),
    "polygon": (
        [{"kind": "polygon", "points": [[4, 6], [20, 6], [20, 22]]}],
        [Polygon(1, ((4, 6), (20, 6), (20, 22)))],
    ),
}


@pytest.fixture(scope="module")
def client(drawn, tmp_path_factory):
    with running(drawn.mp4.parent, tmp_path_factory.mktemp("out"), drawn.mp4) as client:
        yield client


@pytest.fixture
def path(client):
    [project] = client.get("/api/state").json["projects"]
    return f"/api/projects/{project['id']}"


@pytest.mark.parametrize(("sent", "records"), PROMPTS.values(), ids=PROMPTS)
def test_the_mask_is_the_one_of_the_library(client, path, sent, records):
    body = {"frame": 0, "object": 7, "prompts": sent, "method": "walker"}
    answer = client.post(f"{path}/prompt", body)
    assert answer.status == 200, answer.body
    shown = Image.open(io.BytesIO(client.get(f"{path}/frames/0").body)).convert("RGB")
    expected = Propagator("color").prompt(np.asarray(shown), records).ids
    found = np.asarray(Image.open(io.BytesIO(answer.body)))
    assert set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"frame": 0},
        {"frame": 0, "prompts": []},
        {"frame": 0, "prompts": [1]},
        {"frame": 0, "prompts": [{"kind": "circle"}]},
        {"frame": 0, "prompts": [{"kind": "box", "box": [1, 2, 3]}]},
        {"frame": 0, "prompts": [{"kind": "box", "box": [5, 5, 1, 1]}]},
        {"frame": 0, "prompts": [{"kind": "point", "x": 640, "y": 1}]},
        {"frame": 0, "prompts": [{"kind": "point", "x": 1e999, "y": 1}]},
        {"frame": 0, "prompts": [{"kind": "stroke", "points": [[1, 1]], "radius": -1}]},
        {"frame": 0, "prompts": [{"kind": "point", "x": 5, "y": 5}], "method": "magic"},
        {"frame": 99, "prompts": [{"kind": "point", "x": 5, "y": 5}]},
        {"frame": 0, "prompts": {"kind": "point", "x": 5, "y": 5}},
        {"frame": 0, "prompts": [{"kind": "point", "x": 5, "y": 5}] * 1001},
    ],
)
def test_prompts_that_make_no_sense_are_one_line(client, path, body):
    answer = client.post(f"{path}/prompt", body)
    assert answer.status in (400, 404), answer.body
    assert "\n" not in answer.json["error"]


def test_the_features_of_the_last_frames_are_kept(drawn):
    propagator = Propagator("color")
    computed = []

    class Counting:
        def prompt_frame(self, image):
            computed.append(image)
            return propagator.prompt_frame(image)

        def prompt(self, *given, **options):
            return propagator.prompt(*given, **options)

    prompter = Prompter(lambda: Counting())  # type: ignore[arg-type,return-value]
    jpegs = []
    for image in drawn.images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG")
        jpegs.append(file.getvalue())
    point = [{"kind": "point", "x": 12, "y": 14}]
    for frame in (0, 0, 1, 0, 2, 3):
        prompter.mask("p", frame, jpegs[frame], point, "walker")
    assert len(computed) == prompting.KEPT_FRAMES == 4
    prompter.mask("p", 4, jpegs[4], point, "walker")
    prompter.mask("p", 0, jpegs[0], point, "walker")
    assert len(computed) == 5
    prompter.mask("p", 1, jpegs[1], point, "walker")
    assert len(computed) == 6
    started = time.monotonic()
    prompter.mask("p", 1, jpegs[1], point, "walker")
    assert time.monotonic() - started < 5
