"""The presets against the published protocols, written out in `published_protocols.py` here.

Same features, same first mask: same masks, on every frame. Where ours differs on purpose, a test of
its own says so, and by how much.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from propagate.config import MATCHERS, Config
from propagate.features.colors import ColorBackbone
from propagate.features.extract import extract_features
from propagate.matchers import MaskSettings
from propagate.matching.cells import normalize
from propagate.matching.labels import ids_from_labels, labels_from_ids
from propagate.matching.top_k import local_top_k
from propagate.matching.votes import propagate_labels
from propagate.session import Session
from tests.matching.published_protocols import (
    crw_masks,
    dense_vote,
    dift_masks,
    dino_masks,
    labels_of_nearest_pixels,
    square_neighbourhood,
)
from tests.paths import SHARED

DAVIS = SHARED / "data/dev/davis"
needs_davis = pytest.mark.skipif(
    not DAVIS.is_dir(), reason="the clips of ../shared/data/dev/davis are absent"
)
BACKBONE = ColorBackbone(torch.device("cpu"))
STRIDE = BACKBONE.stride


def published_masks(protocol: str, features: torch.Tensor, first: np.ndarray) -> list[np.ndarray]:
    if protocol == "crw":
        return crw_masks(features, first)
    return {"dino": dino_masks, "dift": dift_masks}[protocol](features, first, STRIDE)


def our_masks(preset: str, features: torch.Tensor, first: np.ndarray) -> list[np.ndarray]:
    session = Session(BACKBONE, Config(matcher=MATCHERS[preset]))
    size = (first.shape[0], first.shape[1])
    given = [first, *[None] * (len(features) - 1)]
    return [
        session.advance(size, cells, mask).mask for cells, mask in zip(features, given, strict=True)
    ]


@pytest.fixture(params=["dino", "dift", "crw"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


def random_walk(frames: int, grid: tuple[int, int], seed: int) -> torch.Tensor:
    """Smooth random features (T, C, h, w) that drift by a cell per frame, under fresh noise."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(1, 16, grid[0] // 3, grid[1] // 3, generator=generator)
    scene = F.interpolate(rough, grid, mode="bicubic")[0]
    noise = torch.randn(frames, *scene.shape, generator=generator)
    drifted = [scene.roll((t // 2, t), (1, 2)) for t in range(frames)]
    return torch.stack(drifted) + 0.3 * noise


def two_objects(height: int, width: int) -> np.ndarray:
    """A square and a disc. No edge halves a cell's four middle pixels: halves are ties."""
    ids = np.zeros((height, width), np.uint8)
    ids[height // 4 // 8 * 8 : height // 2 // 8 * 8, width // 6 // 8 * 8 : width // 2 // 8 * 8] = 1
    y, x = np.ogrid[:height, :width]
    ids[(y - 0.6 * height) ** 2 + (x - 0.6 * width) ** 2 < (min(height, width) / 4) ** 2] = 2
    return ids


def disagreements(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[int]:
    """Pixels of each frame on which the two differ."""
    return [int((a != b).sum()) for a, b in zip(ours, theirs, strict=True)]


# Grids larger than any window in one direction, and one with hardly more cells than DIFT keeps
# matches; most clips are longer than any memory. One frame is larger than its grid of 8 px cells,
# as where a script rounds the working size down.
@pytest.mark.parametrize(
    ("grid", "size", "frames"),
    [
        ((9, 13), (72, 104), 33),
        ((9, 13), (79, 113), 33),
        ((6, 34), (48, 272), 33),
        ((33, 5), (264, 40), 33),
        ((4, 5), (32, 40), 6),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_random_features_give_the_published_masks_on_every_frame(
    protocol: str, grid: tuple[int, int], size: tuple[int, int], frames: int, seed: int
):
    features, first = random_walk(frames, grid, seed), two_objects(*size)
    theirs = published_masks(protocol, features, first)
    ours = our_masks(protocol, features, first)
    assert disagreements(ours, theirs) == [0] * frames
    assert len(np.unique(theirs[1])) > 1  # there is something to agree on


def textured_scene(frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images (96, 128, 3) of two textured squares that pass each other, and their true ids.

    A camera's noise lies over them: what stands still would look exactly the same in every frame.
    """
    rng = np.random.default_rng(3)
    ground = rng.integers(60, 200, (96, 128, 3), np.uint8)
    textures = {1: rng.integers(120, 256, (32, 32, 3), np.uint8)}
    textures[2] = rng.integers(0, 120, (32, 32, 3), np.uint8)
    images, truth = [], []
    for t in range(frames):
        image, ids = ground.copy(), np.zeros((96, 128), np.uint8)
        for object_id, (top, left) in {1: (8, 8 + 3 * t), 2: (48, 88 - 3 * t)}.items():
            image[top : top + 32, left : left + 32] = textures[object_id]
            ids[top : top + 32, left : left + 32] = object_id
        noise = rng.integers(-3, 4, image.shape)
        images.append((image + noise).clip(0, 255).astype(np.uint8))
        truth.append(ids)
    return images, truth


def test_a_drawn_clip_gives_the_published_masks(protocol: str):
    images, truth = textured_scene(24)
    features = extract_features(BACKBONE, Config(short_side_px=96), images)
    theirs = published_masks(protocol, features, truth[0])
    assert disagreements(our_masks(protocol, features, truth[0]), theirs) == [0] * 24
    assert (theirs[-1] == truth[-1]).mean() > 0.9


@needs_davis
@pytest.mark.parametrize("clip", ["dance-jump", "tennis"])
@pytest.mark.slow
def test_a_real_clip_gives_the_published_masks(protocol: str, clip: str):
    images = [
        np.array(Image.open(path))
        for path in sorted((DAVIS / "JPEGImages/480p" / clip).glob("*.jpg"))[:10]
    ]
    first = np.array(Image.open(DAVIS / "Annotations/480p" / clip / "00000.png"))
    features = extract_features(BACKBONE, Config(short_side_px=160), images)
    theirs = published_masks(protocol, features, first.clip(max=1))
    ours = our_masks(protocol, features, first.clip(max=1))
    # Some pixels of 409,920 lie where two labels are equal but for rounding.
    assert max(disagreements(ours, theirs)) <= 10


@pytest.mark.slow
def test_the_protocols_differ_from_each_other():
    """The agreement above would mean little if one setting were as good as another."""
    features, first = random_walk(20, (17, 36), 0), two_objects(136, 288)
    masks = [our_masks(name, features, first)[-1] for name in ("dino", "dift", "crw", "default")]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert (mask != other).mean() > 0.01


def test_of_equal_affinities_the_scripts_keep_all_and_we_keep_k():
    """DINO and DIFT keep whatever equals the last affinity they keep; CRW and we keep k of them.

    Which k is not defined. It matters where a video repeats itself to the bit: here all cells are
    alike, the scripts give each the share of the object in its window, and ours gives another.
    """
    features, top_k = torch.ones(1, 4, 6), 5
    labels = torch.zeros(2, 4, 6)
    labels[0], labels[1, :, :2] = 1, 1
    labels[0, :, :2] = 0
    near = square_neighbourhood((4, 6), 12)
    theirs = dense_vote(features, features[None], labels[None], near, top_k, 0.1)
    torch.testing.assert_close(theirs[1], torch.full((4, 6), 1 / 3))
    cells = normalize(features)
    matches = local_top_k(cells, cells[None], top_k, 12)
    ours = propagate_labels(matches, labels.permute(1, 2, 0)[None], 0.1)[..., 1]
    torch.testing.assert_close(5 * ours, (5 * ours).round())  # so many of five votes
    assert not torch.allclose(ours, theirs[1])


def test_an_object_that_fills_the_frame_stays_whole_and_is_speckled_by_the_scripts():
    """`norm_mask` divides what is left of a constant label, rounding, by its own maximum."""
    features, first = random_walk(6, (9, 13), 0), np.ones((72, 104), np.uint8)
    ours = our_masks("dino", features, first)
    assert all(mask.all() for mask in ours)
    theirs = dino_masks(features, first, STRIDE)
    assert 0 < np.mean([(mask == 0).mean() for mask in theirs[1:]]) < 0.1


def test_at_the_size_of_davis_nearest_pixels_are_the_scripts_but_for_one_column():
    """A centre may fall exactly between two pixels, and PIL and PyTorch round it differently."""
    ids = np.random.default_rng(0).integers(0, 3, (480, 854), np.uint8)
    ours = labels_from_ids(torch.from_numpy(ids), [1, 2], (60, 104), "nearest").permute(2, 0, 1)
    assert torch.equal(ours, labels_of_nearest_pixels(ids, (60, 104)))
    labels = torch.rand(60, 104, 3, generator=torch.Generator().manual_seed(0))
    ours, _, _ = ids_from_labels(
        labels, [1, 2], (480, 854), MaskSettings(through_grid=True), stride=8
    )
    large = F.interpolate(labels.permute(2, 0, 1)[None], scale_factor=8, mode="bilinear")[0]
    image = Image.fromarray(large.argmax(0).byte().numpy())
    theirs = np.array(image.resize((854, 480), Image.Resampling.NEAREST))
    assert np.unique(np.nonzero(ours.numpy() != theirs)[1]).tolist() == [640]
