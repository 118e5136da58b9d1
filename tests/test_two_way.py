"""References on any frame: gone forwards and backwards from, merged between, on drawn clips."""

import gc
import json
import os
import sys
import tempfile
import weakref
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.config import MATCHERS, Config
from propagate.errors import MaskError, OutputError, Stopped, VideoError
from propagate.feature_cache import FeatureCache, frame_bytes
from propagate.features.extract import channel_count
from propagate.pipeline import Propagator
from propagate.records import Frame, Mask
from propagate.stage_clock import StageClock
from propagate.two_way import (
    Block,
    follow_both_ways,
    forward_share,
    merge_labels,
    plan_blocks,
)
from tests.batch_runs import assert_same

HEIGHT, WIDTH, SIDE = 96, 192, 32
RED, BLUE, REDDISH = (190, 50, 50), (50, 50, 190), (190, 80, 40)


def texture(seed: int, side: int, height: int, width: int, strength: int) -> np.ndarray:
    """Noise of so coarse a grain. On flat colours cells would tie, and rounding would decide."""
    noise = np.random.default_rng(seed).integers(
        -strength, strength + 1, (height // side, width // side, 3)
    )
    return np.kron(noise, np.ones((side, side, 1)))


GROUND = 130 + texture(0, 8, HEIGHT, WIDTH, 20) + texture(1, 1, HEIGHT, WIDTH, 8)
SQUARE = texture(2, 4, SIDE, SIDE, 30)
SMALL = Config(short_side_px=HEIGHT)


def draw(*squares: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    """A frame with textured squares at (y, x) of a colour; the later hide the earlier."""
    frame = GROUND.copy()
    for y, x, colour in squares:
        frame[y : y + SIDE, x : x + SIDE] = colour + SQUARE
    return frame.clip(0, 255).astype(np.uint8)


def region(*squares: tuple[int, int, int]) -> np.ndarray:
    """The ids of squares at (y, x) with an id."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for y, x, object_id in squares:
        ids[y : y + SIDE, x : x + SIDE] = object_id
    return ids


def save(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:05d}.png")
    return folder


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max(1, (a | b).sum())


@pytest.fixture(scope="module")
def color() -> Propagator:
    return Propagator("color", device="cpu", config=SMALL)


@pytest.fixture(scope="module")
def passing(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """Two squares of different colours that pass each other: the folder, and the truth."""
    lanes = [((4, 8 + 8 * i), (60, 152 - 8 * i)) for i in range(12)]
    images = [draw((*a, RED), (*b, BLUE)) for a, b in lanes]
    folder = save(tmp_path_factory.mktemp("passing") / "passing", images)
    return folder, [region((*a, 1), (*b, 2)) for a, b in lanes]


def only(truth: np.ndarray, *object_ids: int) -> np.ndarray:
    return np.where(np.isin(truth, object_ids), truth, 0).astype(np.uint8)


def masks_of(propagator: Propagator, source, references, **options) -> list[np.ndarray]:
    return [result.mask for result in propagator.propagate(source, references, **options)]


# What comes out


@pytest.mark.parametrize("matcher", MATCHERS)
def test_an_object_is_reached_backwards_from_a_later_reference(passing, matcher):
    folder, truth = passing
    config = Config(matcher=MATCHERS[matcher], short_side_px=HEIGHT)
    propagator = Propagator("color", device="cpu", config=config)
    masks = masks_of(propagator, folder, {7: truth[7]})
    assert len(masks) == 12
    for mask, true in zip(masks, truth, strict=True):
        for object_id in (1, 2):
            assert iou(mask == object_id, true == object_id) > 0.6
    np.testing.assert_array_equal(masks[7], truth[7])


def test_without_going_back_frames_before_a_reference_come_out_empty(color, passing):
    folder, truth = passing
    masks = masks_of(color, folder, {7: truth[7]}, backwards="none")
    assert [bool(mask.any()) for mask in masks] == [False] * 7 + [True] * 5


@pytest.mark.slow
def test_what_no_reference_follows_comes_out_as_it_does_one_way(color, passing):
    folder, truth = passing
    references = {0: truth[0], 4: truth[4]}
    one_way = masks_of(color, folder, references, backwards="none")
    both = masks_of(color, folder, references)
    for index in (0, *range(4, 12)):
        np.testing.assert_array_equal(one_way[index], both[index])


def test_a_single_mask_of_the_first_frame_is_followed_one_way(color, passing):
    """Nothing is to gain, so no file is made: the same code, and the same masks to the bit."""
    folder, truth = passing
    one_way = masks_of(color, folder, {0: truth[0]}, backwards="none")
    for a, b in zip(one_way, masks_of(color, folder, {0: truth[0]}), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_crossing_that_swaps_objects_one_way_is_right_both_ways(color, tmp_path):
    """Two equal squares; one hides the other on its way: who is who shows only at the end."""
    left = [8, 24, 40, 56, 72, 80, 88, 104, 120, 136, 152]
    right = left[::-1]
    lanes = list(zip(left, right, strict=True))
    folder = save(tmp_path / "crossing", [draw((32, a, RED), (32, b, RED)) for a, b in lanes])
    truth = [region((32, a, 1), (32, b, 2)) for a, b in lanes]
    references = {0: truth[0], 10: truth[10]}
    one_way = masks_of(color, folder, {0: truth[0]})
    both = masks_of(color, folder, references)
    parted = [0, 1, 2, 8, 9, 10]

    def right_ids(masks):
        return [min(iou(masks[i] == j, truth[i] == j) for j in (1, 2)) > 0.7 for i in parted]

    assert right_ids(one_way) == [True] * 3 + [False] * 3
    assert all(right_ids(both))


def test_given_masks_are_exact_to_the_pixel_on_their_frames(color, passing):
    folder, truth = passing
    references = {}
    for index in (3, 6, 10):
        references[index] = truth[index].copy()
        references[index][40:43, index : 2 * index] = 9
    masks = masks_of(color, folder, references)
    for index, reference in references.items():
        np.testing.assert_array_equal(masks[index], reference)


def test_an_object_named_on_one_reference_only_is_followed_from_that_one(color, passing):
    folder, truth = passing
    references = {2: only(truth[2], 1), 9: only(truth[9], 2)}
    results = list(color.propagate(folder, references))
    for result, true in zip(results, truth, strict=True):
        for object_id in (1, 2):
            assert iou(result.mask == object_id, true == object_id) > 0.75
    assert list(results[0].scores) == [1, 2]


def test_an_object_is_carried_back_across_a_reference_that_does_not_name_it(color, passing):
    folder, truth = passing
    references = {0: only(truth[0], 1), 5: only(truth[5], 1), 10: only(truth[10], 2)}
    for mask, true in zip(masks_of(color, folder, references), truth, strict=True):
        for object_id in (1, 2):
            # On every other frame an edge halves its cells, and background votes there.
            assert iou(mask == object_id, true == object_id) > 0.7


@pytest.mark.parametrize("model", ["color", "tiny"])
@pytest.mark.slow
def test_the_batch_size_changes_no_mask(passing, model):
    folder, truth = passing
    propagator = Propagator(model, device="cpu", config=SMALL)
    references = {2: truth[2], 7: truth[7]}
    one = masks_of(propagator, folder, references, max_frames=9, batch_size=1)
    many = masks_of(propagator, folder, references, max_frames=9, batch_size=4)
    assert len(one) == len(many) == 9
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_plain_frames_are_followed_forwards_only(color, passing):
    _, truth = passing
    lanes = ((4, 8 + 8 * i) for i in range(12))
    frames = (
        Frame(draw((*lane, RED)), i, Fraction(i, 25), f"{i:05d}") for i, lane in enumerate(lanes)
    )
    masks = masks_of(color, frames, {3: only(truth[3], 1)})
    assert [bool(mask.any()) for mask in masks] == [False] * 3 + [True] * 9


def test_results_carry_their_frames_numbers_times_and_soft_labels(color, drawn):
    results = list(color.propagate(drawn.mp4, {6: drawn.truth[6]}, probabilities=True))
    assert [result.index for result in results] == list(range(12))
    assert results[3].time_s == pytest.approx(3 / 25)
    for result in results:
        assert result.probabilities is not None
        np.testing.assert_allclose(sum(result.probabilities.values()), 1, atol=2e-3)


# The blocks


def test_the_blocks_end_at_references_and_do_not_overlap():
    assert plan_blocks({0: {1}}, 99) == []
    assert plan_blocks({5: {1}}, 99) == [Block(0, 5, True)]
    assert plan_blocks({0: {1}, 5: {1}, 9: {1}}, 99) == [Block(1, 5, True), Block(6, 9, True)]
    assert plan_blocks({4: {1}, 5: {1}}, 99) == [Block(0, 4, True)]


def test_a_block_goes_on_where_a_reference_lacks_objects_of_later_ones():
    assert plan_blocks({0: {1}, 5: {1}, 9: {2}}, 99) == [Block(0, 9, True)]
    assert plan_blocks({0: {1, 2}, 5: {1}, 9: {2}}, 99) == [Block(1, 9, True)]
    named = {0: {1, 2}, 5: {2}, 9: {1, 2}, 12: {1}}
    assert plan_blocks(named, 99) == [Block(1, 9, True), Block(10, 12, True)]


def test_a_block_is_cut_to_the_limit_and_says_so():
    assert plan_blocks({0: {1}, 50: {1}}, 20) == [Block(31, 50, False)]
    assert plan_blocks({0: {1}, 20: {1}}, 20) == [Block(1, 20, True)]
    # The object of frame 9 is not carried on beyond frame 6, for all nine are too many.
    assert plan_blocks({0: {1}, 5: {1}, 9: {2}}, 6) == [Block(1, 5, True), Block(6, 9, False)]


def test_the_limit_keeps_its_word_in_bytes(color, passing, tmp_path, monkeypatch, caplog):
    folder, truth = passing
    limit = 4 * frame_bytes(
        channel_count(color.backbone, color.config),
        (HEIGHT // 8, WIDTH // 8),
        2,
        color.config.matcher.labels_per_cell,
    )
    sizes = []
    put = FeatureCache.put
    monkeypatch.setattr(
        FeatureCache,
        "put",
        lambda self, tensor: sizes.append(tensor.numel() * 2) or put(self, tensor),
    )
    masks = masks_of(color, folder, {7: truth[7]}, feature_cache_bytes=limit)
    assert [bool(mask.any()) for mask in masks] == [False] * 4 + [True] * 8
    assert iou(masks[4] == 1, truth[4] == 1) > 0.75
    assert 0 < sum(sizes) <= limit
    assert "going back from frame 7 ends at frame 4" in caplog.text


def test_a_limit_below_one_byte_is_a_value_error(color, passing):
    folder, truth = passing
    with pytest.raises(ValueError, match="feature_cache_bytes: above 0"):
        next(color.propagate(folder, {7: truth[7]}, feature_cache_bytes=0))


# Merging


def test_labels_are_merged_object_by_object_as_a_loop_does():
    generator = torch.Generator().manual_seed(0)
    forward = torch.rand(3, 4, 3, generator=generator).softmax(-1)
    backward = torch.rand(3, 4, 4, generator=generator).softmax(-1)
    share = [0.25, 1.0, 0.0]
    merged = merge_labels(forward, backward, torch.tensor(share))
    for y in range(3):
        for x in range(4):
            objects = []
            for label in (1, 2, 3):
                one = float(forward[y, x, label]) if label < 3 else 0.0
                other = float(backward[y, x, label])
                objects.append(share[label - 1] * one + (1 - share[label - 1]) * other)
            expected = [max(0.0, 1 - sum(objects)), *objects]
            expected = [value / sum(expected) for value in expected]
            np.testing.assert_allclose(merged[y, x], expected, rtol=1e-5)


def test_before_any_object_the_backward_pass_stands_alone():
    backward = torch.rand(2, 2, 3).softmax(-1)
    assert torch.equal(merge_labels(None, backward, torch.zeros(2)), backward)


def test_a_pass_counts_by_the_distance_of_the_reference_that_names_the_object():
    named = {0: {1, 2}, 5: {1}, 10: {1, 3}}
    assert forward_share(2, [1, 2, 3], named) == [3 / 5, 1.0, 0.0]
    assert forward_share(5, [1, 2, 3], named) == [0.5, 1.0, 0.0]
    assert forward_share(8, [1], {0: {1}, 10: {1}}) == pytest.approx([0.2])


# What is held, and that it goes


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at open files in /proc")


@pytest.fixture
def open_caches(tmp_path, monkeypatch):
    """Counts the temporary files that are open, and fails where one has a name."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def count() -> int:
        assert not list(folder.iterdir())
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                links.append(os.readlink(entry))
            except FileNotFoundError:  # the one that lists them
                continue
        return sum(link.startswith(str(folder)) for link in links)

    return count


@linux
def test_the_temporary_file_is_gone_after_the_last_frame(color, passing, open_caches):
    folder, truth = passing
    results = color.propagate(folder, {7: truth[7]})
    next(results)
    assert open_caches() == 1
    list(results)
    assert open_caches() == 0


@linux
def test_the_temporary_file_is_gone_when_nobody_asks_for_more(color, passing, open_caches):
    folder, truth = passing
    results = color.propagate(folder, {7: truth[7]})
    next(results)
    assert open_caches() == 1
    del results
    gc.collect()
    assert open_caches() == 0


@linux
def test_the_temporary_file_is_gone_after_a_failure(color, passing, open_caches, tmp_path):
    folder, truth = passing
    seen = []

    class Stop(BaseException):
        pass

    def stop(done: int, total: int | None) -> None:
        seen.append(open_caches())
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        color.run(folder, {7: truth[7]}, tmp_path / "out", progress=stop)
    assert seen == [1, 1, 1]
    assert open_caches() == 0


def test_no_room_for_the_temporary_file_is_one_error(color, passing, file_size_limit):
    folder, truth = passing
    results = color.propagate(folder, {7: truth[7]})
    with file_size_limit(2000), pytest.raises(OutputError, match="set TMPDIR to a folder with"):
        list(results)


def test_a_feature_cache_gives_back_what_was_put_into_it():
    tensors = [torch.randn(3, 4, 5), torch.tensor([[1e9, -1e9, 0.0]])]
    with FeatureCache() as cache:
        places = [cache.put(tensor) for tensor in tensors]
        torch.testing.assert_close(cache.get(places[0]), tensors[0], rtol=1e-3, atol=1e-3)
        assert cache.get(places[1]).tolist() == [[65504.0, -65504.0, 0.0]]
        cache.clear()
        assert torch.equal(cache.get(cache.put(tensors[1] * 0)), tensors[1] * 0)


def test_pixels_are_not_kept_while_a_block_is_read(color):
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0
    session = color.session()

    def read():
        nonlocal most
        for index in range(12):
            frame = Frame(draw((4, 8 + 8 * index, RED)), index, Fraction(index), f"{index:05d}")
            alive.append(weakref.ref(frame.image))
            yield frame, session.extract([frame])[0]
            most = max(most, sum(image() is not None for image in alive))

    masks = {11: Mask(region((4, 8 + 88, 1)))}
    results = list(follow_both_ways(session, read(), masks, [Block(0, 11, True)], StageClock()))
    assert all(result.mask.any() for result in results)
    assert most <= 2


# Sources that end or break


def broken(frames: int):
    for index in range(frames):
        yield Frame(draw((4, 8 + 8 * index, RED)), index, Fraction(index), f"{index:05d}")
    raise VideoError(f"clip.mp4: damaged after frame {frames - 1}")


def test_a_break_inside_a_block_comes_after_its_frames_which_go_back_from_what_was_read(color):
    session = color.session()
    read = ((frame, session.extract([frame])[0]) for frame in broken(9))
    masks = {5: Mask(region((4, 48, 1))), 40: Mask(region((4, 48, 2)))}
    results = follow_both_ways(session, read, masks, [Block(0, 40, True)], StageClock())
    for index in range(9):
        assert iou(next(results).mask == 1, region((4, 8 + 8 * index, 1)) == 1) > 0.7
    with pytest.raises(VideoError, match="damaged after frame 8"):
        next(results)


@pytest.mark.slow
def test_a_reference_past_the_end_comes_after_all_frames(color, drawn):
    results = color.propagate(drawn.mp4, {0: drawn.truth[0], 40: drawn.truth[0]})
    assert len(list(islice(results, 12))) == 12
    with pytest.raises(MaskError, match=r"frame 40 is past the end.*12 frames"):
        next(results)


# The command


@pytest.fixture
def run(propagate, drawn, tmp_path):
    def call(*options, source=None):
        return propagate(
            *("run", source or drawn.mp4, "-o", tmp_path / "out", "--model", "color", *options)
        )

    return call


@pytest.fixture
def masks(drawn, tmp_path) -> list[Path]:
    """The true mask of each frame of the drawn clip, as a file."""
    paths = [tmp_path / f"mask{index}.png" for index in range(12)]
    for path, ids in zip(paths, drawn.truth, strict=True):
        Image.fromarray(ids).save(path)
    return paths


def pngs(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


@pytest.mark.slow
def test_references_on_two_frames_are_gone_from_both_ways(run, drawn, masks, tmp_path):
    finished = run("--reference", f"2={masks[2]}", "--reference", f"9={masks[9]}", "--overlay")
    assert finished.status == 0, finished.stderr
    found = pngs(tmp_path / "out/clip/masks")
    assert len(found) == 12
    for mask, truth in zip(found, drawn.truth, strict=True):
        for object_id in (1, 2):
            assert iou(mask == object_id, truth == object_id) > 0.7
    report = json.loads((tmp_path / "out/clip/result.json").read_text())
    assert report["backwards"] == [
        {"from": 2, "to": 0, "whole": True},
        {"from": 9, "to": 3, "whole": True},
    ]
    assert [frame["name"] for frame in report["per_frame"]] == [f"{i:05d}" for i in range(12)]


@pytest.mark.slow
def test_a_mask_of_the_first_frame_and_a_reference_go_together(run, masks, tmp_path):
    assert run("-m", masks[0], "--reference", f"11={masks[11]}").status == 0
    report = json.loads((tmp_path / "out/clip/result.json").read_text())
    assert list(report["references_sha256"]) == ["0", "11"]


def test_forward_only_leaves_the_frames_before_empty(run, masks, tmp_path):
    assert run("--reference", f"4={masks[4]}", "--backwards", "none").status == 0
    found = pngs(tmp_path / "out/clip/masks")
    assert [bool(mask.any()) for mask in found] == [False] * 4 + [True] * 8
    assert json.loads((tmp_path / "out/clip/result.json").read_text())["backwards"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["3={1}", "3={2}"], "mask2.png: frame 3 has a second mask, "),
        (["3=no.png"], "no.png: no such mask; check the path"),
    ],
)
def test_a_bad_reference_is_one_line(run, masks, tmp_path, options, message):
    words = [word for option in options for word in ("--reference", option.format(*masks))]
    finished = run(*words)
    assert finished.status == 1
    assert finished.stderr.count("\n") == 1
    assert message in finished.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["x={1}", "-1={1}", "{1}", "3="])
def test_a_reference_of_another_form_is_wrong_usage(run, masks, tmp_path, option):
    finished = run("--reference", option.format(*masks))
    assert finished.status == 2
    assert "write FRAME=MASK, the frame's number from 0" in " ".join(finished.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_reference_on_the_frame_of_the_mask_is_one_line(run, masks):
    finished = run("-m", masks[0], "--reference", f"0={masks[1]}")
    assert finished.status == 1
    assert f"{masks[1]}: frame 0 has a second mask, {masks[0]}; keep one" in finished.stderr


def test_references_are_for_one_source(propagate, drawn, masks, tmp_path):
    finished = propagate(
        *("run", drawn.mp4, drawn.folder, "--reference", f"3={masks[3]}", "-o", tmp_path / "out")
    )
    assert finished.status == 1
    assert "a reference of one source, but there are 2 sources; put numbered" in finished.stderr


def test_neither_mask_nor_reference_is_bad_usage(run):
    finished = run()
    assert finished.status == 2
    assert "--reference FRAME=MASK" in finished.stderr


# Objects removed


def test_a_removed_object_is_in_no_result_and_the_others_go_on(color):
    session = color.session()
    session.step(draw((4, 8, RED), (60, 8, BLUE)), region((4, 8, 1), (60, 8, 2)))
    session.step(draw((4, 16, RED), (60, 16, BLUE)))
    session.remove(1)
    assert session.object_ids == (2,)
    for move in (3, 4, 5):
        result = session.step(draw((4, 8 * move, RED), (60, 8 * move, BLUE)))
        assert list(result.scores) == list(result.states) == [2]
        assert iou(result.mask == 2, region((60, 8 * move, 2)) == 2) > 0.75
        assert set(np.unique(result.mask)) == {0, 2}


def test_the_pixels_of_a_removed_object_do_not_go_to_a_look_alike(color):
    """Remembered as background, it still votes. If it were void, most would change owner."""
    session = color.session()
    session.step(draw((32, 8, RED), (32, 56, REDDISH)), region((32, 8, 1), (32, 56, 2)))
    session.remove(2)
    for move in range(1, 7):
        x = 4 * move
        result = session.step(draw((32, 8 + x, RED), (32, 56 + x, REDDISH)))
        assert iou(result.mask == 1, region((32, 8 + x, 1)) == 1) > 0.6
        assert np.mean(result.mask[32:64, 56 + x : 88 + x] == 1) < 0.3


def test_a_removed_object_may_come_back_with_a_mask(color):
    for others in ((), (60, 8, 2)):
        session = color.session()
        squares = [(4, 8, 1), others] if others else [(4, 8, 1)]
        session.step(draw((4, 8, RED), (60, 8, BLUE)), region(*squares))
        session.remove(1)
        assert 1 not in session.step(draw((4, 8, RED), (60, 8, BLUE))).scores
        session.step(draw((4, 16, RED), (60, 8, BLUE)), region((4, 16, 1)))
        result = session.step(draw((4, 24, RED), (60, 8, BLUE)))
        assert iou(result.mask == 1, region((4, 24, 1)) == 1) > 0.75


def test_removing_the_last_object_leaves_empty_masks(color):
    session = color.session()
    session.step(draw((4, 8, RED)), region((4, 8, 1)))
    session.remove(1)
    result = session.step(draw((4, 8, RED)))
    assert not result.mask.any()
    assert result.scores == {}
    assert session.memory_bytes == 0


def test_removing_an_unknown_object_names_those_that_are_followed(color):
    session = color.session()
    with pytest.raises(ValueError, match=r"one that is followed \(none\), not 4"):
        session.remove(4)
    session.step(draw((4, 8, RED)), region((4, 8, 1), (60, 8, 7)))
    with pytest.raises(ValueError, match=r"one that is followed \(1, 7\), not 4"):
        session.remove(4)


def test_a_correction_leaves_what_an_earlier_reference_says_of_the_object(color):
    """A session has no door to a frame that is past: a mask goes with the next one."""
    session = color.session()
    session.step(draw((4, 8, RED), (60, 8, BLUE)), region((4, 8, 1)))
    _, before, *_ = session.state_dict()["memory"]["references"][0]
    session.step(draw((4, 8, RED), (60, 8, BLUE)), region((60, 8, 1)))
    references = session.state_dict()["memory"]["references"]
    assert len(references) == 2
    assert torch.equal(references[0][1], before)


def test_no_block_ends_at_a_reference_without_objects_or_goes_across_it():
    assert plan_blocks({0: (1,), 8: ()}, 100) == []
    assert plan_blocks({0: (1,), 8: (), 20: (2,)}, 100) == [Block(9, 20, whole=True)]
    assert plan_blocks({3: (), 6: (2,), 9: (1,)}, 100) == [Block(4, 9, whole=True)]


@pytest.mark.parametrize("start", [0, 6])
def test_progress_moves_while_a_block_gives_no_results_yet(color, passing, tmp_path, start):
    """Each frame of a block is passed forwards, passed backwards and written: a third each."""
    folder, truth = passing
    told, written = [], []

    def progress(done: int, total: int | None) -> None:
        told.append((done, len(written)))

    color.run(
        folder,
        {7: truth[7]} if start == 0 else {0: truth[0], 7: truth[7]},
        tmp_path / "out",
        progress=progress,
        on_result=lambda frame, result: written.append(frame.index),
    )
    done = [number for number, _ in told]
    assert done == sorted(done)
    assert set(done) == set(range(1, len(truth) + 1))
    # Two thirds of the work on frames 0 to 7, or 1 to 7, come before the first of them is written.
    before = [number for number, count in told if count == (start > 0)]
    assert max(before) == (5 if start == 0 else 1 + 7 * 2 // 3)


def test_a_run_can_be_stopped_while_it_goes_back(color, passing, tmp_path):
    folder, truth = passing
    color.run(folder, {7: truth[7]}, tmp_path / "whole")

    def stop(done: int, total: int | None) -> None:
        if done == 4:
            raise Stopped("stopped")

    written = []
    with pytest.raises(Stopped):
        color.run(
            *(folder, {7: truth[7]}, tmp_path / "out"),
            progress=stop,
            on_result=lambda frame, result: written.append(frame.index),
        )
    assert written == []
    color.run(folder, {7: truth[7]}, tmp_path / "out")
    assert_same(tmp_path / "out", tmp_path / "whole")
