"""The made-up scenes that `tiny` learns from: the matches said to be true are."""

import sys

import pytest
import torch
import torch.nn.functional as F

from tests.paths import ROOT

sys.path.insert(0, str(ROOT / "samples"))

import training_views
from training_views import CELL, PHOTO, SIDE, View, make_views, true_matches

GRID = SIDE // CELL


@pytest.fixture(scope="module")
def views() -> tuple[View, View]:
    """Scenes of photographs whose colours are their coordinates, and whose blue names them."""
    ramp = torch.linspace(0, 255, PHOTO)
    places = torch.stack([ramp[:, None].expand(PHOTO, PHOTO), ramp.expand(PHOTO, PHOTO)])
    photos = [
        torch.cat([places, torch.full((1, PHOTO, PHOTO), float(blue))]) for blue in (20, 120, 220)
    ]
    rng = torch.Generator().manual_seed(0)
    return make_views(torch.stack(photos).byte(), 24, rng)


@pytest.fixture(autouse=True, scope="module")
def _plain_camera():
    """Light, blur and noise would hide the coordinates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_views, "_seen_by_a_camera", lambda image, _rng: image)
        yield


def cells_of(view: View) -> torch.Tensor:
    """Mean colour of each cell: (n, c, 3)."""
    return F.avg_pool2d(view.image, CELL).flatten(2).transpose(1, 2)


def test_a_true_match_shows_the_same_point_of_the_same_photograph(views) -> None:
    first, second = views
    weights, seen = true_matches(second, first)
    best = weights.argmax(2)
    found = cells_of(first).gather(1, best[:, :, None].expand(-1, -1, 3))
    pure = seen & (second.pure == 1) & (first.pure.gather(1, best) == 1)
    assert pure.float().mean() > 0.2
    off = (found - cells_of(second))[pure].abs()
    # A cell spans up to 5.5 px of 96; a mirrored edge of the photograph may double that.
    assert off[:, :2].mean() < 2 / PHOTO
    assert off[:, :2].quantile(0.99) < 6 / PHOTO
    # The photographs differ by 0.39 there; the soft rim of an object mixes two.
    assert off[:, 2].max() < 0.2


def test_the_weights_of_a_match_are_centred_on_it(views) -> None:
    """Their mean place is the point that the other view shows, up to a part of a cell."""
    first, second = views
    weights, seen = true_matches(second, first)
    mean = torch.einsum("nqm,ndm->ndq", weights, first.place)
    off = (mean - second.place).norm(dim=1) / first.cell_px.mean(1, keepdim=True)
    assert off[seen].median() < 0.35
    assert torch.allclose(weights.sum(2), torch.ones(()))


def test_what_is_hidden_in_the_other_view_has_no_match(views) -> None:
    """Told again point by point: nothing of its layer within three quarters of a cell."""
    first, second = views
    _, seen = true_matches(second, first)
    for scene in range(4):
        for cell in range(0, GRID * GRID, 7):
            same = first.owner[scene] == second.owner[scene, cell]
            away = (first.place[scene] - second.place[scene, :, cell, None]).norm(dim=0)
            near = (away < 0.75 * first.cell_px[scene]) & same
            assert bool(seen[scene, cell]) == bool(near.any() and second.pure[scene, cell] > 0.8)


def test_the_same_seed_makes_the_same_scenes() -> None:
    photos = torch.randint(256, (4, 3, PHOTO, PHOTO), dtype=torch.uint8)
    one, same, other = (
        make_views(photos, 2, torch.Generator().manual_seed(seed))[0].image for seed in (5, 5, 6)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
