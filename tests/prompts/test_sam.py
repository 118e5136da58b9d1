"""Masks by SAM and SAM 2: small real models of random weights, saved and loaded as usual.

What they make of a prompt means nothing, but changes with each point and box; so transformers'
own call of the model says what must come out.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import propagate
from propagate import Box, Point, Polygon, Stroke
from propagate.prompts.sam import SamPrompter
from propagate.refine.refiner import load_refiner
from tests.tiny_sam import SIDE, sam, sam2, save

KINDS = {"sam": sam, "sam2": sam2}
IMAGE = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return save(KINDS[request.param](), tmp_path_factory.mktemp("model") / request.param)


def expected(prompter, several, points=None, labels=None, box=None):
    """The mask by the model itself: (H, W) bool."""
    model = prompter.sam.model
    canvas = prompter.sam.canvas(48, 64)
    x, y = canvas.columns / 64, canvas.rows / 48
    inputs = {}
    if points:
        inputs["input_points"] = torch.tensor([[[[a * x, b * y] for a, b in points]]]).float()
        inputs["input_labels"] = torch.tensor([[labels]])
    if box:
        inputs["input_boxes"] = torch.tensor([[[box[0] * x, box[1] * y, box[2] * x, box[3] * y]]])
    with torch.inference_mode():
        pixels = prompter.sam.pixels(IMAGE, canvas)
        found = model(pixel_values=pixels, multimask_output=several, **inputs)
        best = found.iou_scores[0, 0].argmax()
        logits = found.pred_masks[0, :1, best]
        if model.config.model_type == "sam":
            logits = F.interpolate(logits[None], (SIDE, SIDE), mode="bilinear")[0]
            logits = logits[..., : canvas.rows, : canvas.columns]
        large = F.interpolate(logits[None], (48, 64), mode="bilinear")[0, 0]
    return (large >= 0).numpy()


@pytest.mark.parametrize(
    ("prompts", "call"),
    [
        ([Point(1, 20.5, 30.5)], {"several": True, "points": [(20.5, 30.5)], "labels": [1]}),
        (
            [Point(1, 20.5, 30.5), Point(1, 50.5, 9.5, on=False)],
            {"several": False, "points": [(20.5, 30.5), (50.5, 9.5)], "labels": [1, 0]},
        ),
        (
            [Stroke(1, ((10, 30), (14, 33)), 1)],
            {"several": False, "points": [(10, 30), (14, 33)], "labels": [1, 1]},
        ),
        ([Box(1, 8, 6, 40, 44)], {"several": False, "box": (8.0, 6.0, 39.0, 43.0)}),
    ],
    ids=["a point", "two points", "a stroke", "a box"],
)
def test_the_mask_is_that_of_the_model_with_the_paint_over_it(folder, prompts, call):
    prompter = SamPrompter(load_refiner(str(folder), device="cpu", dtype="float32").sam)
    mask = prompter.prompt(IMAGE, prompts)
    free = np.ones((48, 64), bool)
    for prompt in prompts:
        if not isinstance(prompt, Box):
            for x, y in prompt.corners:
                free[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = False
        else:
            outside = np.ones((48, 64), bool)
            outside[6:44, 8:40] = False
            assert not mask.ids[outside].any()
            free &= ~outside
    # Both ways of calling the model agree to rounding, so a pixel on the outline may differ.
    assert ((mask.ids == 1) != expected(prompter, **call))[free].sum() <= 3
    assert mask.ids[30, 20] == 1 or not isinstance(prompts[0], Point)


def test_boxes_apart_are_asked_for_one_by_one(folder):
    prompter = SamPrompter(load_refiner(str(folder), device="cpu", dtype="float32").sam)
    left, right = Box(1, 2, 6, 24, 44), Box(1, 40, 10, 62, 40)
    on_left, on_right = Point(1, 8.5, 20.5), Point(1, 50.5, 20.5)
    both = prompter.prompt(IMAGE, [left, right, on_left, on_right]).ids
    alone = [prompter.prompt(IMAGE, p).ids for p in ([left, on_left], [right, on_right])]
    assert np.array_equal(both, alone[0] | alone[1])


def test_a_propagator_loads_it_once_and_keeps_the_maps_of_a_frame(folder):
    propagator = propagate.Propagator("color", device="cpu", dtype="float32")
    first = propagator.prompt(IMAGE, [Point(1, 20, 30)], "sam", sam=str(folder))
    (prompter,) = propagator._sams.values()
    kept = prompter._last
    assert kept is not None
    again = propagator.prompt(IMAGE, [Point(1, 20, 30)], method="sam", sam=str(folder))
    assert np.array_equal(first.ids, again.ids)
    assert list(propagator._sams.values()) == [prompter]
    assert prompter._last is kept
    other = np.ascontiguousarray(IMAGE[::-1])
    propagator.prompt(other, [Point(1, 20, 30)], "sam", sam=str(folder))
    assert prompter._last is not None
    assert np.array_equal(prompter._last[0], other)


def test_a_polygon_alone_needs_no_model(folder):
    prompter = SamPrompter(load_refiner(str(folder), device="cpu", dtype="float32").sam)
    mask = prompter.prompt(IMAGE, [Polygon(2, ((0, 0), (10, 0), (10, 8), (0, 8)))])
    assert (mask.ids == 2).sum() == 80
    assert prompter._last is None


def test_a_sam_that_is_not_there_is_one_line():
    propagator = propagate.Propagator("color", device="cpu")
    with pytest.raises(propagate.ModelError, match="no refiner is named 'sam9'"):
        propagator.prompt(IMAGE, [Point(1, 20, 30)], "sam", sam="sam9")
