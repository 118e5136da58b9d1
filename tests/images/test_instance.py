"""One instance, learned from one picture: its map against written-out loops and drawn scenes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from propagate.config import MATCHERS, Config
from propagate.errors import ModelError
from propagate.features.colors import ColorBackbone
from propagate.features.extract import extract_features
from propagate.images.instance import (
    INSTANCE_SETTINGS,
    PictureFeatures,
    instance_map,
    learn_instance,
    read_pictures,
)
from propagate.images.pdm import class_mask
from propagate.images.target import learn_target

CPU = torch.device("cpu")
C, S = 5, 4
GRID, OTHER_GRID = (5, 7), (4, 6)
RED, GREEN = np.array([220, 160, 160]), np.array([150, 220, 170])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_mask() -> torch.Tensor:
    """Two whole cells, and one of which the instance has less than half."""
    mask = torch.zeros(GRID)
    mask[1, 2], mask[1, 3], mask[2, 2] = 1, 1, 0.4
    return mask


def unit_cells(features: torch.Tensor, reference: torch.Tensor) -> dict[tuple[int, int], list]:
    """Every cell, standardised by the reference's channels, of length one."""
    cells = {}
    for y in range(features.shape[1]):
        for x in range(features.shape[2]):
            cell = []
            for c in range(len(features)):
                values = reference[c].flatten().tolist()
                mean = sum(values) / len(values)
                spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
                cell.append((float(features[c, y, x]) - mean) / spread)
            length = math.hypot(*cell)
            cells[y, x] = [value / length for value in cell]
    return cells


def votes_for(cells: dict, known: dict, mask: torch.Tensor, *, elsewhere: bool) -> torch.Tensor:
    """Votes of the ten best cosines over 0.02, then averaged over the cells around each."""
    height, width = max(cells)[0] + 1, max(cells)[1] + 1
    votes = torch.zeros(height, width)
    for (y, x), cell in cells.items():
        cosines = {
            at: sum(a * b for a, b in zip(cell, other, strict=True))
            for at, other in known.items()
            if not elsewhere or max(abs(at[0] - y), abs(at[1] - x)) > 1
        }
        best = sorted(cosines, key=lambda at: -cosines[at])[:10]
        powers = [math.exp(cosines[at] / 0.02) for at in best]
        shares = [float(mask[at]) for at in best]
        votes[y, x] = sum(p * s for p, s in zip(powers, shares, strict=True)) / sum(powers)
    smooth = torch.zeros_like(votes)
    for y, x in cells:
        smooth[y, x] = votes[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean()
    return smooth


def loss(values: torch.Tensor, mask: torch.Tensor, factor: float, offset: float) -> float:
    """Cross entropy, the instance's area and the background's by the roots of their sums."""
    weights = mask / math.sqrt(mask.sum()) + (1 - mask) / math.sqrt((1 - mask).sum())
    weights = (weights / weights.sum()).double()
    odds = factor * values.double() + offset
    entropy = weights * (F.softplus(odds) - mask.double() * odds)
    mean, spread = values.double().mean(), values.double().std(correction=0)
    ridge = (factor * spread) ** 2 + (factor * mean + offset) ** 2
    return float(entropy.sum() + INSTANCE_SETTINGS.ridge / 2 * ridge)


def test_the_map_is_the_calibrated_vote_of_the_references_cells() -> None:
    reference, target, mask = random(C, *GRID), random(C, *OTHER_GRID, seed=1), some_mask()
    instance = learn_instance(PictureFeatures(reference), mask)
    votes = votes_for(
        unit_cells(target, reference), unit_cells(reference, reference), mask, elsewhere=False
    )
    factor, offset = instance.appearance_odds
    expected = torch.sigmoid(factor * votes + offset)
    found = instance_map(PictureFeatures(target), instance)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.max() - found.min() > 0.1


def test_the_calibration_fits_the_reference_by_votes_from_elsewhere_in_it() -> None:
    reference, mask = random(C, *GRID), some_mask()
    factor, offset = learn_instance(PictureFeatures(reference), mask).appearance_odds
    cells = unit_cells(reference, reference)
    votes = votes_for(cells, cells, mask, elsewhere=True)
    best = loss(votes, mask, factor, offset)
    for step in (0.03, -0.03):
        assert loss(votes, mask, factor + step, offset) > best
        assert loss(votes, mask, factor, offset + step) > best


def test_with_a_class_the_log_odds_of_both_maps_are_averaged() -> None:
    reference, target, mask = random(C, *GRID), random(C, *OTHER_GRID, seed=1), some_mask()
    semantic, token = random(S, *GRID, seed=2), random(S, seed=3)
    of_target = random(S, *OTHER_GRID, seed=4)
    plain = learn_instance(PictureFeatures(reference), mask)
    named = learn_instance(PictureFeatures(reference, semantic), mask, token)
    assert named.appearance_odds == plain.appearance_odds
    factor, offset = named.semantic_odds
    s_s = torch.tensor(
        [
            [sum(float(of_target[s, y, x] * token[s]) for s in range(S)) for x in range(6)]
            for y in range(4)
        ]
    )
    appearance = torch.logit(instance_map(PictureFeatures(target), plain).double())
    expected = torch.sigmoid((appearance + factor * s_s + offset) / 2).float()
    found = instance_map(PictureFeatures(target, of_target), named)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    of_reference = torch.einsum("shw,s->hw", semantic, token)
    best = loss(of_reference, mask, factor, offset)
    assert loss(of_reference, mask, factor + 0.03, offset) > best
    assert loss(of_reference, mask, factor, offset - 0.03) > best


def test_without_a_mask_the_class_gives_it() -> None:
    picture, token = PictureFeatures(random(C, *GRID), random(S, *GRID, seed=2)), random(S, seed=3)
    assert picture.semantic is not None
    mask = class_mask(picture.semantic, token).float()
    by_class, by_mask = learn_instance(picture, None, token), learn_instance(picture, mask, token)
    assert torch.equal(instance_map(picture, by_class), instance_map(picture, by_mask))


def test_what_is_void_votes_for_nobody() -> None:
    reference, mask = PictureFeatures(random(C, *GRID)), some_mask()
    void = mask == 0
    void[:, :4] = False  # the right half is not known
    background = torch.where(void, 0.0, 1 - mask)
    instance = learn_instance(reference, mask, background=background)
    assert torch.equal(instance.labels[..., 0], background)
    assert not torch.equal(
        instance_map(reference, instance), instance_map(reference, learn_instance(reference, mask))
    )


def test_a_mask_of_the_whole_picture_finds_it_everywhere() -> None:
    reference = PictureFeatures(random(C, *GRID))
    found = instance_map(reference, learn_instance(reference, torch.ones(GRID)))
    assert (found > 0.5).all()


def draw(*squares: tuple[int, int, np.ndarray], height: int = 96, width: int = 160) -> np.ndarray:
    """Mottled 32 px squares at (y, x) on quiet grey."""
    ground = np.random.default_rng(0).integers(90, 110, (height // 8, width // 8, 1))
    mottled = np.kron(np.random.default_rng(1).uniform(0.7, 1, (8, 8, 1)), np.ones((4, 4, 1)))
    image = np.kron(ground, np.ones((8, 8, 3))).astype(np.uint8)
    for y, x, color in squares:
        image[y : y + 32, x : x + 32] = mottled * color
    return image


def square(y: int, x: int) -> torch.Tensor:
    """Cells, of 8 px, of a square at (y, x)."""
    mask = torch.zeros(12, 20)
    mask[y // 8 : y // 8 + 4, x // 8 : x // 8 + 4] = 1
    return mask


SMALL = Config(short_side_px=96)
NO_COLORS = replace(SMALL, matcher=MATCHERS["default"].without_colors())


def test_a_look_alike_of_another_colour_counts_as_background() -> None:
    images = [draw((32, 16, RED), (32, 96, GREEN)), draw((8, 8, GREEN), (56, 112, RED))]
    reference, target = read_pictures(ColorBackbone(CPU), SMALL, images)
    instance = learn_instance(reference, square(32, 16))
    found = instance_map(target, instance)
    red, green = square(56, 112).bool(), square(8, 8).bool()
    assert (found[red] > 0.5).float().mean() > 0.8
    assert (found[green] > 0.5).float().mean() < 0.1
    assert (found[~red & ~green] > 0.5).float().mean() < 0.1
    # The picture without it is told from the one with it.
    gone = read_pictures(ColorBackbone(CPU), SMALL, [draw((8, 8, GREEN))])[0]
    known = learn_target(instance)
    assert known.score(gone) < INSTANCE_SETTINGS.appears_from < known.score(target)


class Brightness(ColorBackbone):
    """Sees brightness alone; its semantic features are what brightness leaves out."""

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        return super().extract(images.mean(1, keepdim=True).expand(-1, 3, -1, -1))

    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hue = images - images.mean(1, keepdim=True)
        return self.extract(images), F.avg_pool2d(hue, self.stride)


def test_a_class_tells_apart_what_looks_alike() -> None:
    images = [draw((32, 16, RED)), draw((8, 8, GREEN), (56, 112, RED))]
    tomato = torch.tensor([1.0, -0.5, -0.5])
    red, green = square(56, 112).bool(), square(8, 8).bool()

    reference, target = read_pictures(Brightness(CPU), NO_COLORS, images)
    unnamed = instance_map(target, learn_instance(reference, square(32, 16)))
    assert (unnamed[green] > 0.5).float().mean() > 0.5
    reference, target = read_pictures(Brightness(CPU), NO_COLORS, images, semantic=True)
    named = instance_map(target, learn_instance(reference, square(32, 16), tomato))
    assert (named[green] > 0.5).float().mean() < 0.1
    assert (named[red] > 0.5).float().mean() > 0.8


def test_pictures_are_read_at_working_size_in_the_order_given() -> None:
    images = [draw((32, 16, RED)), draw(), draw((8, 8, GREEN), width=240), draw((8, 8, RED))]
    for config in (SMALL, NO_COLORS):
        for semantic in (False, True):
            pictures = read_pictures(Brightness(CPU), config, images, semantic)
            for image, picture in zip(images, pictures, strict=True):
                alone = extract_features(Brightness(CPU), config, [image])[0]
                assert torch.equal(picture.appearance, alone)
                assert picture.color_weight == config.matcher.cells.color_weight
                assert (picture.semantic is not None) == semantic
                if picture.semantic is not None:
                    assert picture.semantic.shape == (3, *picture.appearance.shape[1:])


def test_wrong_arguments_are_refused() -> None:
    picture = PictureFeatures(random(C, *GRID))
    with pytest.raises(ValueError, match="no cell of the instance"):
        learn_instance(picture, torch.zeros(GRID))
    with pytest.raises(ValueError, match="mask: needed without a token"):
        learn_instance(picture, None)
    with pytest.raises(ValueError, match="reference: needs semantic features"):
        learn_instance(picture, some_mask(), random(S))
    named = learn_instance(
        PictureFeatures(random(C, *GRID), random(S, *GRID)), some_mask(), random(S)
    )
    with pytest.raises(ValueError, match="picture: needs semantic features"):
        instance_map(picture, named)
    with pytest.raises(ModelError, match="model color: it takes no text; leave the class name"):
        read_pictures(ColorBackbone(CPU), SMALL, [draw()], semantic=True)
