"""SAM and SAM 2 as refiners: their prompts, which mask is taken, and where it is written.

The models are real ones of random weights. What they make of a prompt means nothing, but it changes
with each pixel, point and box; so whatever is passed on wrongly shows.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import SamImageProcessorPil

from propagate.errors import ModelError, OutputError
from propagate.io.write.run_folder import RunFolder
from propagate.records import Frame, Result
from propagate.refine.refiner import (
    REFINER_SETTINGS,
    Refiner,
    choose,
    deepest_point,
    load_refiner,
    merge,
    prompts_of,
    without_loose_parts,
)
from propagate.refine.sam import OBJECTS_AT_ONCE, Canvas, Prompts
from tests.tiny_hub import BROKEN, GATED, UNKNOWN, serving
from tests.tiny_sam import MASK_SIDE, SIDE, sam, sam2, sam2_video, save

MODELS: dict[str, Callable] = {"sam": sam, "sam2": sam2}
KINDS = list(MODELS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save(make(), root / kind) for kind, make in MODELS.items()}


@pytest.fixture(scope="module")
def refiners(folders: dict[str, Path]) -> dict[str, Refiner]:
    return {kind: load(folder) for kind, folder in folders.items()}


@pytest.fixture(params=KINDS)
def refiner(request: pytest.FixtureRequest, refiners: dict[str, Refiner]) -> Refiner:
    return refiners[request.param]


def load(folder: Path, dtype: str = "float32") -> Refiner:
    return load_refiner(str(folder), device="cpu", dtype=dtype)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coloured blobs: noise of a sixth of the size, enlarged."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def boxes(height: int, width: int, **drawn: tuple[slice, slice]) -> np.ndarray:
    """Draw rectangles: `_3=(rows, columns)` is object 3."""
    mask = np.zeros((height, width), np.uint8)
    for name, where in drawn.items():
        mask[where] = int(name[1:])
    return mask


# Prompts. The frame is 40 high and 80 wide, so x and y scale differently in one model, and a
# point whose x and y change places falls off it in both.
WIDE = boxes(40, 80, _1=np.s_[4:13, 10:19], _7=np.s_[30:35, 60:65])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "x", "y"), [("sam", 0.8, 0.8), ("sam2", 0.8, 1.6)])
def test_an_object_is_prompted_with_its_deepest_point_the_others_and_its_box(refiners, kind, x, y):
    sam = refiners[kind].sam
    prompts = prompts_of(WIDE, (1, 7), {}, sam.canvas(40, 80), sam.mask_side)
    first, second = (14 * x, 8 * y), (62 * x, 32 * y)
    torch.testing.assert_close(prompts.points, torch.tensor([[first, second], [second, first]]))
    assert prompts.labels.tolist() == [[1, 0], [1, 0]]
    torch.testing.assert_close(
        prompts.boxes,
        torch.tensor([[10 * x, 4 * y, 18 * x, 12 * y], [60 * x, 30 * y, 64 * x, 34 * y]]),
    )


def test_an_object_alone_has_one_point_and_no_negative_one(refiner):
    canvas = refiner.sam.canvas(40, 80)
    prompts = prompts_of(WIDE, (7,), {}, canvas, refiner.sam.mask_side)
    assert prompts.labels.tolist() == [[1]]


def test_of_many_others_the_nearest_are_negative_points_nearest_first():
    rng = np.random.default_rng(3)
    count = REFINER_SETTINGS.max_negatives + 5
    cells = rng.permutation(200)[:count]
    mask = np.zeros((100, 200), np.uint8)
    for i, cell in enumerate(cells, 1):
        row, column = divmod(int(cell), 20)
        mask[10 * row + 4, 10 * column + 4] = i
    canvas = Canvas(100, 200, 100, 200, 200)
    prompts = prompts_of(mask, range(1, count + 1), {}, canvas, 50)
    assert prompts.points.shape == (count, 1 + REFINER_SETTINGS.max_negatives, 2)
    at = {i: np.argwhere(mask == i)[0][::-1] for i in range(1, count + 1)}
    for i, points in enumerate(prompts.points.numpy(), 1):
        assert points[0].tolist() == at[i].tolist()
        distances = sorted(np.hypot(*(at[i] - at[j])) for j in at if j != i)
        found = [np.hypot(*(at[i] - point)) for point in points[1:]]
        np.testing.assert_allclose(found, distances[: REFINER_SETTINGS.max_negatives], rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_deepest_point_agrees_with_a_loop_over_pixels(seed):
    region = np.random.default_rng(seed).random((9, 13)) < 0.8
    outside = [(y, x) for y, x in np.argwhere(~np.pad(region, 1))]
    depths = {
        (x, y): min(np.hypot(y + 1 - v, x + 1 - u) for v, u in outside)
        for y, x in np.argwhere(region)
    }
    found = deepest_point(region)
    assert depths[found] == pytest.approx(max(depths.values()))


def test_the_edge_of_the_frame_is_an_edge_of_the_object():
    region = np.ones((5, 9), bool)
    assert deepest_point(region) == (2, 2)


def test_soft_labels_move_the_point_to_where_the_object_is_sure():
    region = np.ones((7, 21), bool)
    sure_on_the_right = np.linspace(0.2, 1, 21)[None].repeat(7, axis=0)
    x, y = deepest_point(region, sure_on_the_right)
    assert (x, y) == (17, 3)
    # They never move it out of the region.
    region = np.zeros((5, 5), bool)
    region[3, 1] = True
    assert deepest_point(region, 1.0 - region) == (1, 3)


def test_the_mask_prompt_is_certain_inside_and_outside_and_in_between_at_an_edge(refiner):
    side = SIDE
    mask = boxes(side, side, _2=np.s_[8:16, 16:34])
    prompts = prompts_of(mask, (2,), {}, refiner.sam.canvas(side, side), MASK_SIDE)
    expected = torch.full((16, 16), -10.0)
    expected[2:4, 4:8] = 10.0
    expected[2:4, 8] = 0.0  # Two of its four columns.
    torch.testing.assert_close(prompts.masks[0, 0], expected)


def test_the_mask_prompt_lies_where_the_model_sees_the_frame(refiners):
    mask = boxes(32, 64, _2=np.s_[0:16, 32:64])
    padded, stretched = (
        prompts_of(mask, (2,), {}, refiners[kind].sam.canvas(32, 64), MASK_SIDE).masks[0, 0] > 0
        for kind in KINDS
    )
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[:4, 8:] = True  # SAM: the frame is the upper half, padding the lower.
    assert torch.equal(padded, expected)
    expected[:8, 8:] = True
    assert torch.equal(stretched, expected)


# Pixels and masks, beside the libraries' own processors.


@pytest.mark.parametrize("size", [(36, 60), (100, 40), (64, 64), (33, 57)])
def test_sam_sees_a_frame_as_its_own_processor_prepares_it(refiners, size):
    image = picture(*size)
    sam = refiners["sam"].sam
    processor = SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    )
    expected = processor(image, return_tensors="pt")["pixel_values"]
    found = sam.pixels(image, sam.canvas(*size))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(36, 60), (64, 64), (100, 40)])
def test_sam2_sees_a_frame_as_its_own_processor_prepares_it(refiners, size):
    image = picture(*size)
    sam = refiners["sam2"].sam
    # The processor needs torchvision, whose resize of bytes is this one.
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    resized = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    expected = (resized / 255 - mean) / std
    # Pillow and PyTorch round to bytes alike when they enlarge, and one apart when they reduce.
    one_grey_level = 1.01 / 255 / 0.224
    found = sam.pixels(image, sam.canvas(*size))
    tolerance = one_grey_level if max(size) > SIDE else 1e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_masks_come_back_to_the_frame_as_sams_own_processor_brings_them(refiners):
    sam = refiners["sam"].sam
    logits = torch.randn(3, MASK_SIDE, MASK_SIDE, generator=torch.Generator().manual_seed(1))
    canvas = sam.canvas(40, 90)
    expected = SamImageProcessorPil().post_process_masks(
        logits[None, None],
        [(40, 90)],
        [(canvas.rows, canvas.columns)],
        binarize=False,
        pad_size={"height": SIDE, "width": SIDE},
    )[0][0]
    torch.testing.assert_close(sam.to_frame(logits, canvas), expected)


def test_unusual_pixel_settings_are_followed(folders, tmp_path):
    folder = shutil.copytree(folders["sam"], tmp_path / "sam")
    settings = {"do_normalize": False, "image_mean": [0.5] * 3, "rescale_factor": 1, "resample": 0}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    sam = load(folder).sam
    image = picture(SIDE, SIDE)
    found = sam.pixels(image, sam.canvas(SIDE, SIDE))
    assert torch.equal(found[0], torch.from_numpy(image).permute(2, 0, 1).float())


# Choosing, and putting the objects together.


def test_the_candidate_that_overlaps_most_is_chosen_as_by_a_loop():
    rng = np.random.default_rng(5)
    for _ in range(20):
        given = rng.random((6, 7)) < 0.4
        candidates = rng.random((4, 6, 7)) < 0.4
        overlaps = []
        for candidate in candidates:
            both = either = 0
            for a, b in zip(candidate.flat, given.flat, strict=True):
                both += bool(a and b)
                either += bool(a or b)
            overlaps.append(both / either)
        found = choose(torch.from_numpy(candidates), torch.from_numpy(given))
        assert overlaps[found] == max(overlaps)


def test_parts_that_the_given_mask_does_not_touch_are_dropped_and_the_others_stay():
    logits = np.full((6, 12), -1.0, np.float32)
    logits[1:5, 0:3] = logits[1:5, 5:7] = logits[1:5, 9:12] = 2.0
    given = np.zeros((6, 12), bool)
    given[2, 2] = given[2, 5] = True  # Two parts of one object, behind a pole.
    kept = without_loose_parts(logits, given) > 0
    expected = np.zeros((6, 12), bool)
    expected[1:5, 0:3] = expected[1:5, 5:7] = True
    assert np.array_equal(kept, expected)


def as_logits(mask: np.ndarray, height: float = 1.0) -> np.ndarray:
    return np.where(mask, height, -height).astype(np.float32)


@pytest.mark.parametrize(("width", "is_taken"), [(5, True), (4, False)])
def test_a_refinement_that_disagrees_is_refused(width, is_taken):
    given = boxes(6, 20, _3=np.s_[1:5, 2:12])  # 10 wide: half of it is the least that agrees.
    refined = boxes(6, 20, _3=np.s_[1:5, 2 : 2 + width])
    assert REFINER_SETTINGS.agreement == 0.5
    expected = refined if is_taken else given
    assert np.array_equal(merge(given, {3: as_logits(refined == 3)}), expected)


def test_where_refined_objects_overlap_the_higher_logit_wins():
    given = boxes(4, 20, _1=np.s_[:, 0:9], _2=np.s_[:, 9:18])
    first, second = as_logits(given == 1, 1), as_logits(given == 2, 2)
    first[:, 9:12] = 3  # Sure of three columns of the other,
    second[:, 6:9] = 0.5  # which is unsure of three of its.
    merged = merge(given, {1: first, 2: second})
    assert merged[0].tolist() == [1] * 12 + [2] * 6 + [0] * 2


def test_an_object_that_is_refused_keeps_all_its_pixels_from_the_others():
    given = boxes(4, 20, _1=np.s_[:, 0:10], _2=np.s_[:, 10:14])
    greedy = as_logits(np.arange(20)[None].repeat(4, axis=0) < 14, 9)
    elsewhere = as_logits(np.arange(20)[None].repeat(4, axis=0) > 15)
    assert np.array_equal(merge(given, {1: greedy, 2: elsewhere}), given)


def test_an_object_that_another_would_swallow_is_put_back():
    given = boxes(4, 20, _1=np.s_[:, 0:10], _2=np.s_[:, 10:14])
    greedy = as_logits(np.arange(20)[None].repeat(4, axis=0) < 14, 9)
    weak = as_logits(given == 2, 1)
    assert np.array_equal(merge(given, {1: greedy, 2: weak}), given)


def test_void_and_objects_that_were_not_refined_stay():
    given = boxes(4, 12, _1=np.s_[:, 0:4], _2=np.s_[:, 4:8], _255=np.s_[:, 8:12])
    wide = as_logits(np.arange(12)[None].repeat(4, axis=0) < 6)
    assert np.array_equal(merge(given, {1: wide}), given)


def overlap(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def merged_by_a_loop(given: np.ndarray, refined: dict[int, np.ndarray]) -> np.ndarray:
    """The rule in plain words, over sets of pixels."""
    pixels = list(np.ndindex(given.shape))
    before = {i: {p for p in pixels if given[p] == i} for i in np.unique(given) if i}
    standing = {
        i for i in refined if overlap({p for p in pixels if refined[i][p] > 0}, before[i]) >= 0.5
    }
    while True:
        after = {i: set() for i in standing}
        for p in pixels:
            taken = any(p in before[i] for i in before if i not in standing)
            bids = {i: refined[i][p] for i in standing if refined[i][p] > 0}
            if bids and not taken:
                after[max(bids, key=lambda i: bids[i])].add(p)
        lost = {i for i in standing if overlap(after[i], before[i]) < 0.5}
        if not lost:
            break
        standing -= lost
    merged = np.zeros_like(given)
    for i in before:
        for p in after[i] if i in standing else before[i]:
            merged[p] = i
    return merged


@pytest.mark.slow
def test_merging_agrees_with_a_loop_over_pixels():
    rng = np.random.default_rng(11)
    refused = overruled = 0
    for _ in range(200):
        given = boxes(6, 12, _1=np.s_[:, 0:4], _2=np.s_[1:5, 4:7], _3=np.s_[2:, 8:12])
        # Around the given masks, so that some agree and some do not.
        refined = {
            i: (rng.normal(size=given.shape) + rng.uniform(0.5, 2) * np.where(given == i, 1, -1))
            .round(4)
            .astype(np.float32)
            for i in (1, 2, 3)
        }
        expected = merged_by_a_loop(given, refined)
        assert np.array_equal(merge(given, refined), expected)
        agreeing = [i for i in refined if overlap(*as_sets(refined[i] > 0, given == i)) >= 0.5]
        refused += len(agreeing) < 3
        overruled += any(np.array_equal(expected == i, given == i) for i in agreeing)
    assert refused > 20
    assert overruled > 20


def as_sets(*masks: np.ndarray) -> list[set]:
    return [set(map(tuple, np.argwhere(mask))) for mask in masks]


# The whole way, beside the models used alone.

TWO = boxes(36, 60, _1=np.s_[2:34, 2:30], _9=np.s_[6:30, 32:58])


def offered_by_the_library(refiner: Refiner, image: np.ndarray, prompts: Prompts, row: int):
    """What the model offers for one object alone, encoder and all: (4, L, L)."""
    canvas = refiner.sam.canvas(*image.shape[:2])
    inputs = {
        "pixel_values": refiner.sam.pixels(image, canvas),
        "input_points": prompts.points[row][None, None],
        "input_labels": prompts.labels[row][None, None],
        "input_boxes": prompts.boxes[row][None, None],
        "input_masks": prompts.masks[row][None],
    }
    clear, doubtful = (
        refiner.sam.model(**inputs, multimask_output=several).pred_masks[0, 0]
        for several in (False, True)
    )
    return torch.cat([clear, doubtful])


def refined_by_the_library(refiner: Refiner, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What `refine` does, from the library's calls, object by object."""
    canvas = refiner.sam.canvas(*mask.shape)
    ids = [int(i) for i in np.unique(mask) if i]
    prompts = prompts_of(mask, ids, {}, canvas, MASK_SIDE)
    logits = {}
    for row, i in enumerate(ids):
        offered = offered_by_the_library(refiner, image, prompts, row)
        candidates = refiner.sam.to_frame(offered, canvas).numpy()
        given = mask == i
        overlaps = [((c > 0) & given).sum() / ((c > 0) | given).sum() for c in candidates]
        logits[i] = without_loose_parts(candidates[int(np.argmax(overlaps))], given)
    return merge(mask, logits)


def masks_near_the_models_own(refiner: Refiner, image: np.ndarray) -> list[np.ndarray]:
    """Pairs of objects, each cut out of a mask that the model offers for it in `TWO`.

    Random weights agree with no other mask, and all would be refused.
    """
    sam, canvas = refiner.sam, refiner.sam.canvas(*TWO.shape)
    prompts = prompts_of(TWO, (1, 9), {}, canvas, MASK_SIDE)
    first, second = (
        sam.to_frame(offered, canvas).numpy() > 0
        for offered in sam.decode(sam.encode(image, canvas), prompts)
    )
    drawn = []
    for one in first:
        for nine in second:
            mask = np.where(one, 1, np.where(nine, 9, 0)).astype(np.uint8)
            mask[:5] = mask[:, :6] = 0
            if set(np.unique(mask)) == {0, 1, 9}:
                drawn.append(mask)
    return drawn


@pytest.mark.slow
@torch.inference_mode()
def test_refining_agrees_with_the_library_object_by_object(refiner):
    image = picture(36, 60, seed=1)
    changed = set()
    for mask in masks_near_the_models_own(refiner, image):
        found = refiner.refine(image, mask)
        # Batches and single objects round apart, which shows where a logit is nearly zero.
        assert np.mean(found != refined_by_the_library(refiner, image, mask)) < 0.002
        assert set(np.unique(found)) == {0, 1, 9}
        changed |= {i for i in (1, 9) if ((found == i) != (mask == i)).any()}
    # It would say nothing if all had been refused.
    assert changed


@torch.inference_mode()
def test_the_mask_for_a_clear_prompt_is_offered_and_then_those_for_a_doubtful_one(refiner):
    sam, image = refiner.sam, picture(36, 60)
    canvas = sam.canvas(36, 60)
    prompts = prompts_of(TWO, (1, 9), {}, canvas, MASK_SIDE)
    for row, offered in enumerate(sam.decode(sam.encode(image, canvas), prompts)):
        alone = offered_by_the_library(refiner, image, prompts, row)
        assert offered.shape == (4, MASK_SIDE, MASK_SIDE)
        torch.testing.assert_close(offered, alone, rtol=1e-3, atol=1e-4)


def test_refining_changes_no_argument_and_gives_the_same_again(refiner):
    image = picture(36, 60, seed=1)
    mask = masks_near_the_models_own(refiner, image)[-2]
    kept = mask.copy()
    first = refiner.refine(image, mask)
    refiner.refine(picture(36, 60, seed=2), mask)
    assert np.array_equal(refiner.refine(image, mask), first)
    assert np.array_equal(mask, kept)
    assert np.array_equal(image, picture(36, 60, seed=1))


@pytest.mark.parametrize("count", [0, 1, 5, OBJECTS_AT_ONCE + 3])
def test_a_frame_is_encoded_once_however_many_objects_there_are(refiner, count):
    mask = np.zeros((48, 64), np.uint8)
    for i in range(count):
        row, column = divmod(i, 8)
        mask[8 * row : 8 * row + 6, 8 * column : 8 * column + 6] = i + 1
    calls = []
    hook = refiner.sam.model.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        found = refiner.refine(picture(48, 64), mask)
    finally:
        hook.remove()
    assert len(calls) == min(count, 1)
    assert found.shape == mask.shape
    assert count or not found.any()


def test_half_precision_is_the_encoders_alone(folders, refiner):
    kind = "sam" if refiner.sam.model.config.model_type == "sam" else "sam2"
    half = load(folders[kind], dtype="bfloat16")
    assert half.settings["dtype"] == "bfloat16"
    assert {weight.dtype for weight in half.sam.model.parameters()} == {torch.float32}
    canvas = half.sam.canvas(36, 60)
    for ours, theirs in zip(
        half.sam.encode(picture(36, 60), canvas),
        refiner.sam.encode(picture(36, 60), canvas),
        strict=True,
    ):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs)
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_a_mask_of_another_size_or_type_is_a_programmers_mistake(refiner):
    with pytest.raises(ValueError, match="image"):
        refiner.refine(picture(36, 60), np.ones((36, 61), np.uint8))
    with pytest.raises(ValueError, match="ids"):
        refiner.refine(picture(36, 60), np.ones((36, 60), int))


def test_masks_that_are_not_finite_are_one_error_that_names_the_way_out(folders, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["mask_decoder.mask_tokens.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"not finite in float32; its weights are damaged"):
        load(folder).refine(picture(36, 60), TWO)
    with pytest.raises(ModelError, match=r"not finite in bfloat16; pass dtype=.float32."):
        load(folder, "bfloat16").refine(picture(36, 60), TWO)


# Loading.


def test_a_sam2_with_a_memory_is_read_without_it(tmp_path):
    video = sam2_video()
    loaded = load(save(video, tmp_path / "video")).sam.model.state_dict()
    stored = video.state_dict()
    assert loaded
    assert all(torch.equal(weight, stored[name]) for name, weight in loaded.items())


def test_the_settings_of_the_processor_may_lie_where_transformers_5_puts_them(folders, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "sam2")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    settings["image_mean"] = [0.1, 0.2, 0.3]
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    sam = load(folder).sam
    black = sam.pixels(np.zeros((8, 8, 3), np.uint8), sam.canvas(8, 8))
    std = torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(black[0, :, 0, 0], -torch.tensor([0.1, 0.2, 0.3]) / std)


def test_a_result_can_name_its_refiner(folders, refiners):
    def hashes(pattern):
        files = folders["sam2"].glob(pattern)
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert refiners["sam2"].settings == {
        "name": str(folders["sam2"]),
        "source": str(folders["sam2"]),
        "dtype": "float32",
        "weights": hashes("*.safetensors"),
        "model_config": hashes("*config.json"),
        "agreement": 0.5,
        "max_negatives": 8,
        "certain_logit": 10.0,
    }


def failure(name: str | Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_refiner(str(name), device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def rename_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (drop("config.json"), "config.json is missing; compare the folder"),
        (drop("preprocessor_config.json"), "preprocessor_config.json is missing; compare"),
        (drop("model.safetensors"), "model.safetensors is missing; compare the folder"),
        (
            rename_weights,
            "model.safetensors is missing, and pytorch_model.bin is not read because it can",
        ),
        (write("config.json", "{"), "config.json cannot be read"),
        (write("config.json", '{"model_type": "sam3"}'), "holds a sam3 model; pass a SAM or SAM 2"),
        (write("config.json", "{}"), "holds no model; pass a SAM or SAM 2 in transformers layout"),
        (write("model.safetensors", "torn"), "is damaged or of another kind"),
        (lose_a_weight, "the file of its SAM lacks 1 of its weights, for example"),
        (write("preprocessor_config.json", '{"resample": "no"}'), "image processor in"),
        (write("preprocessor_config.json", '{"image_mean": 1}'), "image processor in"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line_that_says_what_is_wrong(
    folders, tmp_path, damage, expected
):
    folder = shutil.copytree(folders["sam2"], tmp_path / "model")
    damage(folder)
    message = failure(folder)
    assert message.startswith(f"model {folder}: ")
    assert expected in message


def test_a_processor_file_without_the_image_processor_is_one_line(folders, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text('{"target_size": 64}')
    assert "preprocessor_config.json is missing; save the image processor" in failure(folder)


def test_a_name_that_is_none_lists_those_there_are(tmp_path):
    assert failure("sam9").startswith("no refiner is named 'sam9': pass one of sam, sam2, a folder")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    assert failure(file) == f"model {file}: {file} is a file; pass the folder of the model"


@pytest.fixture
def hub(folders, tmp_path, monkeypatch):
    """A hub with the SAM 2 as somebody/model, and the same weights in a file that can run code."""
    folder = shutil.copytree(folders["sam2"], tmp_path / "hub")
    (folder / "sam2.1_hiera_tiny.pt").write_bytes(b"x" * 1000)
    with serving({"somebody/model": folder}, tmp_path / "cache", monkeypatch) as hub:
        yield hub


def test_a_hub_model_is_downloaded_once_and_only_the_files_that_are_read(hub):
    assert load_refiner("somebody/model", device="cpu").settings["source"] == "somebody/model"
    assert not any(path.endswith(".pt") for path in hub.requests)
    seen = len(hub.requests)
    load_refiner("somebody/model", device="cpu")
    assert len(hub.requests) == seen


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (GATED, "its owner asks for consent"),
        (UNKNOWN, "the hub has no such model: it has moved"),
        (BROKEN, "it could not be downloaded"),
    ],
)
def test_each_way_of_not_getting_a_model_is_one_line(hub, name, reason):
    message = failure(name)
    assert message.startswith(f"model {name}: {reason}")
    assert message.endswith("without a network, pass a folder in transformers layout")


# The folder of a run.


def frame_and_result(index: int) -> tuple[Frame, Result]:
    mask = boxes(32, 48, _1=np.s_[4:20, 4:20])
    image = np.full((32, 48, 3), 90, np.uint8)
    result = Result(index, None, mask, {1: 0.9}, {1: "tracked"}, {1: 0.8})
    return Frame(image, index, Fraction(index, 25), f"{index:05d}"), result


REFINED = boxes(32, 48, _1=np.s_[4:28, 4:44])


def write_run(path: Path, count: int, *, refined: bool, **options) -> None:
    with RunFolder(path, {"refined": refined}, refined=refined, **options) as folder:
        for index in range(count):
            folder.write(*frame_and_result(index), REFINED if refined else None)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_refined_masks_stand_beside_the_plain_ones(tmp_path):
    with RunFolder(tmp_path / "run", {}, refined=True, formats=("png", "rle")) as folder:
        for index in range(2):
            folder.write(*frame_and_result(index), REFINED)
    assert folder.written[:2] == ["masks/ (2 PNG)", "refined/ (2 PNG)"]
    for name in ("00000.png", "00001.png"):
        plain, refined = (
            np.asarray(Image.open(tmp_path / "run" / kind / name)) for kind in ("masks", "refined")
        )
        assert np.array_equal(plain, frame_and_result(0)[1].mask)
        assert np.array_equal(refined, REFINED)
    # All else is of the plain masks: what a run without a refiner writes.
    with RunFolder(tmp_path / "plain", {}, formats=("png", "rle")) as folder:
        for index in range(2):
            folder.write(*frame_and_result(index))
    both = files(tmp_path / "plain")
    assert files(tmp_path / "run") == both | {"refined/00000.png", "refined/00001.png"}
    for name in both:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_the_overlay_shows_the_refined_masks(tmp_path):
    import av

    for name, refined in (("plain", False), ("refined", True)):
        write_run(tmp_path / name, 2, refined=refined, overlay=True, fps=Fraction(25))
    shown = {}
    for name in ("plain", "refined"):
        with av.open(str(tmp_path / name / "overlay.mp4")) as video:
            shown[name] = next(video.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    # A pixel that only the refined mask covers is grey in one, tinted in the other.
    assert np.ptp(shown["plain"][15, 34]) < 12
    assert np.ptp(shown["refined"][15, 34]) > 40


def test_a_run_without_a_refiner_leaves_nothing_of_one_with_it(tmp_path):
    write_run(tmp_path / "run", 3, refined=True)
    with pytest.raises(OutputError, match="overwrite=True"):
        write_run(tmp_path / "run", 1, refined=False)
    assert len(files(tmp_path / "run")) == 7
    write_run(tmp_path / "run", 1, refined=False, overwrite=True)
    assert files(tmp_path / "run") == {"masks/00000.png", "result.json"}
    assert not (tmp_path / "run" / "refined").exists()


def test_a_refined_run_that_broke_off_is_replaced_by_one_of_the_same_settings(tmp_path):
    def break_off() -> None:
        with RunFolder(tmp_path / "run", {"refined": True}, refined=True) as folder:
            for index in range(3):
                folder.write(*frame_and_result(index), REFINED)
            raise OutputError("enough")

    with pytest.raises(OutputError, match="enough"):
        break_off()
    masks = {f"{kind}/0000{i}.png" for kind in ("masks", "refined") for i in range(3)}
    assert files(tmp_path / "run") == masks | {"incomplete.json", ".run.json"}
    (tmp_path / "run/refined/.00003.png.abcd.part").write_bytes(b"half")
    write_run(tmp_path / "run", 2, refined=True)
    masks = {name for name in masks if not name.endswith("2.png")}
    assert files(tmp_path / "run") == masks | {"result.json"}


def test_a_failure_before_the_first_frame_leaves_no_folder(tmp_path):
    with pytest.raises(OutputError), RunFolder(tmp_path / "run", {}, refined=True):
        raise OutputError("no frame")
    assert not (tmp_path / "run").exists()


def test_a_refined_mask_that_was_not_announced_is_a_programmers_mistake(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder, pytest.raises(ValueError, match="refined"):
        folder.write(*frame_and_result(0), REFINED)
    with (
        RunFolder(tmp_path / "other", {}, refined=True) as folder,
        pytest.raises(ValueError, match="refined"),
    ):
        folder.write(*frame_and_result(0))


@pytest.mark.slow
def test_the_command_refines_every_frame_but_those_that_were_drawn(
    propagate, folders: dict[str, Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    frames, ids = tmp_path / "clip", np.zeros((48, 64), np.uint8)
    frames.mkdir()
    ids[8:32, 8:32] = 3
    for index in range(3):
        image = rng.integers(90, 110, (48, 64, 3)).astype(np.uint8)
        image[8:32, 8 + 4 * index : 32 + 4 * index] = (200, 40, 40)
        Image.fromarray(image).save(frames / f"{index:05}.png")
    Image.fromarray(ids).save(tmp_path / "first.png")

    line = ["run", frames, "-m", tmp_path / "first.png", "-o", tmp_path / "out"]
    line += ["--model", "color", "--device", "cpu", "--refine", folders["sam2"]]
    finished = propagate(*line)
    assert finished.status == 0, finished.stderr

    out = tmp_path / "out" / "clip"
    refiner = load(folders["sam2"], "auto")
    for name in ("00000.png", "00001.png", "00002.png"):
        plain = np.array(Image.open(out / "masks" / name))
        expected = plain
        if name != "00000.png":
            expected = refiner.refine(np.array(Image.open(frames / name)), plain)
        assert np.array_equal(np.array(Image.open(out / "refined" / name)), expected)
    assert json.loads((out / "result.json").read_text())["refiner"] == refiner.settings
