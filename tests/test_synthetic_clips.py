"""Drawn clips whose truth is known exactly, through the public pipeline, with plain colours.

What each clip asks is said by the name of its test. Textures are drawn per pixel of 8 px cells and
carry camera noise, so that no two cells are equal to the bit.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from propagate import Config, Propagator, Result

HEIGHT, WIDTH = 96, 160
SIDE = 32
RNG = np.random.default_rng(11)
# Blocks of 4 px: the layout that the colour features see.
GROUND = np.kron(RNG.integers(90, 150, (HEIGHT // 4, WIDTH // 4, 3)), np.ones((4, 4, 1)))
WARM = np.kron(RNG.integers(0, 256, (8, 8, 3)) * [1, 0.3, 0.3], np.ones((4, 4, 1)))
COLD = np.kron(RNG.integers(0, 256, (8, 8, 3)) * [0.2, 0.4, 1], np.ones((4, 4, 1)))

Placed = tuple[int, int, np.ndarray]


def frame(objects: Mapping[int, Placed], noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image (96, 160, 3) and its ids: textures with their top left corner at (y, x).

    Later objects lie in front. What reaches over the border is cut off.
    """
    image = GROUND + np.random.default_rng(noise).integers(-3, 4, GROUND.shape)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for object_id, (y, x, texture) in objects.items():
        height, width, _ = texture.shape
        rows, columns = slice(max(0, y), max(0, y + height)), slice(max(0, x), max(0, x + width))
        seen = ids[rows, columns].shape
        top, left = max(0, -y), max(0, -x)
        image[rows, columns] = texture[top : top + seen[0], left : left + seen[1]]
        ids[rows, columns] = object_id
    return image.clip(0, 255).astype(np.uint8), ids


@pytest.fixture(scope="module")
def propagator() -> Propagator:
    return Propagator("color", device="cpu", config=Config(short_side_px=HEIGHT))


def follow(
    propagator: Propagator,
    clip: Sequence[Mapping[int, Placed]],
    references: Mapping[int, int] | None = None,
) -> tuple[list[Result], list[np.ndarray]]:
    """Results and truth of every frame; `references`: which object is given on which frame."""
    session = propagator.session()
    results, truth = [], []
    for index, objects in enumerate(clip):
        image, ids = frame(objects, noise=index)
        mask = None
        if references is None:
            mask = ids if index == 0 else None
        elif index in references:
            mask = np.where(ids == references[index], ids, 0)
        results.append(session.step(image, mask))
        truth.append(ids)
    return results, truth


def iou(mask: np.ndarray, truth: np.ndarray, object_id: int) -> float:
    a, b = mask == object_id, truth == object_id
    return (a & b).sum() / (a | b).sum()


@pytest.mark.slow
def test_two_identical_textures_that_pass_each_other_keep_their_names(propagator: Propagator):
    """Their colours are the same: only where they were a frame ago tells them apart.

    On every other frame an edge halves its cells, which costs up to 0.35 of the overlap.
    """
    clip = [{1: (8, 8 + 4 * t, WARM), 2: (52, 120 - 4 * t, WARM)} for t in range(28)]
    results, truth = follow(propagator, clip)
    for result, ids in zip(results, truth, strict=True):
        for object_id in (1, 2):
            assert iou(result.mask, ids, object_id) > 0.6


@pytest.mark.slow
def test_two_identical_textures_that_cross_keep_their_names(propagator: Propagator):
    """One passes in front of the other and hides it for a moment; each goes on as it went.

    Mixed up, both overlaps would be 0.
    """
    clip = [{1: (32, 8 + 4 * t, WARM), 2: (32, 120 - 4 * t, WARM)} for t in range(29)]
    results, truth = follow(propagator, clip)
    for object_id in (1, 2):
        assert iou(results[-1].mask, truth[-1], object_id) > 0.6


def test_an_unlabelled_twin_that_goes_along_takes_nothing_away(propagator: Propagator):
    """It is background, and every cell of it looks like a cell of the object.

    Nothing but where it was a frame ago tells the two apart. Cells at the edge are lost, half of
    all; without flow everything is.
    """
    clip = [{2: (56, 8 + 8 * t, WARM), 1: (16, 8 + 8 * t, WARM)} for t in range(14)]
    results, truth = follow(propagator, clip, {0: 1})
    for result, ids in zip(results, truth, strict=True):
        assert iou(result.mask, ids, 1) > 0.4


SHOWN: list[Mapping[int, Placed]] = [{1: (8, 8 + 2 * t, WARM)} for t in range(6)]
ELSEWHERE: list[Mapping[int, Placed]] = [{}] * 10
BACK: list[Mapping[int, Placed]] = [{1: (56, 120 - 2 * t, WARM)} for t in range(4)]


def test_after_a_cut_and_back_the_object_is_found_where_it_is_then(propagator: Propagator):
    results, truth = follow(propagator, SHOWN + ELSEWHERE + BACK)
    for result, ids in list(zip(results, truth, strict=True))[-3:]:
        assert iou(result.mask, ids, 1) > 0.6


def test_during_a_cut_the_object_is_absent(propagator: Propagator):
    results, _ = follow(propagator, SHOWN + ELSEWHERE)
    for result in results[len(SHOWN) + 1 :]:
        assert result.states == {1: "absent"}


@pytest.mark.slow
def test_an_object_that_left_for_good_is_absent_and_smeared_over_nothing(propagator: Propagator):
    clip = [{1: (32, 100 + 6 * t, WARM), 2: (8, 8, COLD)} for t in range(30)]
    results, truth = follow(propagator, clip)
    gone = next(t for t, ids in enumerate(truth) if not (ids == 1).any())
    for result, ids in list(zip(results, truth, strict=True))[gone + 2 :]:
        assert result.states[1] == "absent"
        assert result.scores[1] == 0
        assert not (result.mask == 1).any()
        assert iou(result.mask, ids, 2) > 0.8


def test_a_new_object_enters_by_a_mask_of_its_own(propagator: Propagator):
    """The frame's mask names the new one alone; the old one is followed on under it."""
    clip = [
        {1: (8, 8 + 3 * t, WARM)} | ({2: (56, 120 - 3 * (t - 6), COLD)} if t >= 6 else {})
        for t in range(18)
    ]
    results, truth = follow(propagator, clip, {0: 1, 7: 2})
    assert set(np.unique(results[6].mask)) == {0, 1}
    assert np.array_equal(results[7].mask == 2, truth[7] == 2)
    for result, ids in list(zip(results, truth, strict=True))[7:]:
        assert iou(result.mask, ids, 1) > 0.65
        assert iou(result.mask, ids, 2) > 0.65


@pytest.mark.parametrize("growth", [1.04, 1 / 1.04])
def test_an_object_that_comes_nearer_or_goes_away_keeps_its_outline(
    propagator: Propagator, growth: float
):
    """Over 18 frames its sides double, or halve."""
    start = 32 if growth > 1 else 64
    clip = []
    for t in range(18):
        side = round(start * growth**t)
        place = np.arange(side) * SIDE // side
        texture = WARM[place][:, place]
        clip.append({1: (48 - side // 2, 80 - side // 2, texture)})
    results, truth = follow(propagator, clip)
    assert iou(results[0].mask, truth[-1], 1) < 0.4
    # A cell is an eighth to a quarter of its side, and every cell of it changes.
    for result, ids in zip(results, truth, strict=True):
        assert iou(result.mask, ids, 1) > 0.5


def test_a_mask_of_one_pixel_is_followed_and_grows_no_larger_than_a_few_cells(
    propagator: Propagator,
):
    """One bright pixel of 15,360; a cell has 64 of them."""
    dot = np.full((1, 1, 3), 255.0)
    clip = [{1: (45, 60 + t, dot)} for t in range(12)]
    results, _ = follow(propagator, clip)
    assert results[0].states == {1: "tracked"}
    assert (results[0].mask == 1).sum() == 1
    for t, result in enumerate(results[1:], start=1):
        assert result.states[1] != "absent"
        y, x = np.nonzero(result.mask == 1)
        assert len(y) <= 4 * 64
        assert abs(y.mean() - 45) < 12
        assert abs(x.mean() - 60 - t) < 12
