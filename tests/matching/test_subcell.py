"""Masks on a grid twice as fine as that of the features, along boundaries."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from propagate.config import MATCHERS, Config
from propagate.matchers import MemorySettings, SubcellSettings
from propagate.matching.cells import FrameCells, Subcells
from propagate.matching.matches import Matches
from propagate.matching.subcell import boundary, label_subcells
from propagate.matching.top_k import local_top_k
from propagate.memory import TemporalMemory
from propagate.pipeline import Propagator
from tests.matching.drawn_cells import remembered as frames_of

HEIGHT, WIDTH, LABELS, FRAMES = 6, 7, 3, 2
TEMPERATURE, SHARPNESS = 0.05, 6.0
SETTINGS = SubcellSettings(sharpness=SHARPNESS)


def labels_on_subcells(labels, matches, colors, memory):
    height, width, _ = labels.shape
    frame = FrameCells(torch.zeros(height, width, 1), torch.zeros(height, width, 0), colors)
    cells = [torch.zeros(height, width, 1)] * len(memory)
    known = frames_of(cells, torch.zeros(len(memory), *labels.shape), subcells=memory)
    subcells = label_subcells(frame, labels, matches, known, TEMPERATURE, SETTINGS)
    assert subcells is not None
    assert torch.equal(subcells.colors, colors)
    return subcells.labels


@pytest.fixture(scope="module")
def scene():
    """Random cells and subcells of a memory of two frames, and a frame matched with three.

    The third frame has no subcells, as a shifted reference has none.
    """
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    memory = [
        Subcells(
            rand(2 * HEIGHT, 2 * WIDTH, 3),
            (4 * rand(2 * HEIGHT, 2 * WIDTH, LABELS)).softmax(-1),
        )
        for _ in range(FRAMES)
    ]
    features = torch.nn.functional.normalize(rand(FRAMES + 1, HEIGHT, WIDTH, 5) - 0.5, dim=-1)
    query = torch.nn.functional.normalize(rand(HEIGHT, WIDTH, 5) - 0.5, dim=-1)
    matches = local_top_k(query, features, 4, 2)
    labels = (6 * rand(HEIGHT, WIDTH, LABELS)).softmax(-1)
    return labels, matches, rand(2 * HEIGHT, 2 * WIDTH, 3), memory


def literal(labels, matches, colors, memory):
    """The same, one subcell and one vote at a time; only subcells on the boundary."""
    found = {}
    for y in range(HEIGHT):
        for x in range(WIDTH):
            near = [
                labels[v, u]
                for v in range(max(0, y - 1), min(HEIGHT, y + 2))
                for u in range(max(0, x - 1), min(WIDTH, x + 2))
            ]
            change = max(
                max(cell[label] for cell in near) - min(cell[label] for cell in near)
                for label in range(1, LABELS)
            )
            pairs = zip(matches[0][y, x].tolist(), matches[1][y, x].tolist(), strict=True)
            known = [(c, n) for c, n in pairs if n < FRAMES * HEIGHT * WIDTH and c > -math.inf]
            if change <= 0.5 or not known:
                continue
            voted = {}
            for j, i in ((0, 0), (0, 1), (1, 0), (1, 1)):
                total, sums = 0.0, np.zeros(LABELS)
                for cosine, number in known:
                    frame, rest = divmod(number, HEIGHT * WIDTH)
                    for dy in (-1, 0, 1, 2):
                        for dx in (-1, 0, 1, 2):
                            v, u = 2 * (rest // WIDTH) + dy, 2 * (rest % WIDTH) + dx
                            if not (0 <= v < 2 * HEIGHT and 0 <= u < 2 * WIDTH):
                                continue
                            here, there = colors[2 * y + j, 2 * x + i], memory[frame].colors[v, u]
                            distance = sum((a - b) ** 2 for a, b in zip(here, there, strict=True))
                            weight = math.exp(cosine / TEMPERATURE - SHARPNESS * distance)
                            total += weight
                            sums += weight * memory[frame].labels[v, u].double().numpy()
                voted[j, i] = sums / total
            mean = sum(voted.values()) / 4
            if abs(labels[y, x].double().numpy() - mean).sum() / 2 > 0.3:
                continue
            change = np.clip((labels[y, x].double().numpy() + 0.02) / (mean + 0.02), 0.2, 5)
            for (j, i), vote in voted.items():
                found[2 * y + j, 2 * x + i] = vote * change / (vote * change).sum()
    return found


def test_subcells_agree_with_a_loop_over_their_votes(scene):
    labels, matches, colors, memory = scene
    fine = labels_on_subcells(labels, matches, colors, memory)
    expected = literal(labels, matches, colors, memory)
    assert 20 < len(expected) < 4 * HEIGHT * WIDTH
    for (y, x), vote in expected.items():
        np.testing.assert_allclose(fine[y, x], vote, atol=1e-5)
    enlarged = torch.nn.functional.interpolate(
        labels.permute(2, 0, 1)[None], scale_factor=2, mode="bilinear"
    )[0].permute(1, 2, 0)
    for y in range(2 * HEIGHT):
        for x in range(2 * WIDTH):
            if (y, x) not in expected:
                np.testing.assert_allclose(fine[y, x], enlarged[y, x], atol=1e-6)


def test_without_matches_that_have_subcells_a_cell_keeps_its_label(scene):
    labels, matches, colors, memory = scene
    fine = labels_on_subcells(labels, matches, colors, memory[:1])
    assert torch.isfinite(fine).all()
    torch.testing.assert_close(fine.sum(-1), torch.ones(2 * HEIGHT, 2 * WIDTH))
    elsewhere = Matches(matches[0], matches[1] % (HEIGHT * WIDTH) + HEIGHT * WIDTH)
    untouched = labels_on_subcells(labels, elsewhere, colors, memory[:1])
    enlarged = torch.nn.functional.interpolate(
        labels.permute(2, 0, 1)[None], scale_factor=2, mode="bilinear"
    )[0].permute(1, 2, 0)
    torch.testing.assert_close(untouched, enlarged)


def test_a_frame_without_a_boundary_is_interpolated():
    labels = torch.zeros(4, 5, 2)
    labels[..., 0] = 1
    assert not boundary(labels, 0.5).any()
    matches = Matches(torch.zeros(4, 5, 1), torch.zeros(4, 5, 1, dtype=torch.int64))
    memory = [Subcells(torch.zeros(8, 10, 3), torch.zeros(8, 10, 2))]
    fine = labels_on_subcells(labels, matches, torch.zeros(8, 10, 3), memory)
    assert torch.equal(fine, labels[:1, :1].expand(8, 10, 2))


# In the memory


def subcells(value: float) -> Subcells:
    return Subcells(torch.full((4, 4, 3), value), torch.full((4, 4, 2), value))


def remembered() -> TemporalMemory:
    frames = [FrameCells(torch.zeros(2, 2, 5), torch.zeros(2, 2, 0)) for _ in range(2)]
    memory = TemporalMemory(MemorySettings(2))
    memory = memory.with_reference(frames[0], torch.full((2, 2, 2), 1.0), subcells(1.0))
    return memory.with_recent(frames[1], torch.full((2, 2, 2), 2.0), subcells(2.0))


def test_a_cell_that_is_made_void_is_void_in_its_subcells():
    void = torch.tensor([[False, True], [False, False]])
    known = remembered().voided([torch.zeros(2, 2, dtype=torch.bool), void]).read()
    assert known.labels[1, ..., 0].tolist() == [[2, 0], [2, 2]]
    assert known.subcells[1].labels[..., 0].tolist() == [
        *([2, 2, 0, 0], [2, 2, 0, 0]),
        *([2, 2, 2, 2], [2, 2, 2, 2]),
    ]
    assert known.subcells[0].labels.min() == known.labels[0].min() == 1


def test_subcells_get_new_labels_and_survive_saving():
    memory = remembered().widened(3).relabelled(lambda labels: labels + 1)
    other = TemporalMemory(MemorySettings(2)).restored(memory.state_dict())
    for known in (memory.read(), other.read()):
        assert [q.labels[0, 0].tolist() for q in known.subcells] == [[2, 2, 1], [3, 3, 1]]
        assert [q.colors[0, 0, 0] for q in known.subcells] == [1, 2]
    assert memory.nbytes == other.nbytes == 4 * 2 * (4 * (5 + 3) + 16 * (3 + 3))


# In a session


def disc(y: float, x: float) -> tuple[np.ndarray, np.ndarray]:
    """A disc on a background of another colour, and its mask."""
    rows, columns = np.mgrid[:96, :128]
    mask = np.hypot(rows - y, columns - x) < 22
    noise = np.random.default_rng(0).integers(-12, 13, (96, 128, 3))
    image = np.where(mask[..., None], (190, 90, 60), (70, 120, 150)) + noise
    return image.astype(np.uint8), mask


def test_boundaries_are_nearer_to_the_truth_than_those_of_the_grid():
    def wrong_pixels(subcell: SubcellSettings | None) -> list[int]:
        matcher = replace(MATCHERS["default"], subcell=subcell)
        config = Config(matcher=matcher, short_side_px=96)
        session = Propagator("color", device="cpu", config=config).session()
        wrong = []
        for t in range(8):
            image, mask = disc(44 + 1.7 * t, 40 + 2.3 * t)
            result = session.step(image, mask if t == 0 else None)
            wrong.append(int(np.count_nonzero((result.mask == 1) != mask)))
        return wrong[1:]

    assert sum(wrong_pixels(SETTINGS)) < 0.7 * sum(wrong_pixels(None))


def test_without_colours_masks_are_made_on_the_grid_of_the_features():
    default = MATCHERS["default"]
    plain = default.without_colors()
    assert (default.labels_per_cell, plain.labels_per_cell) == (4, 1)
    propagator = Propagator("color", device="cpu", config=Config(matcher=plain, short_side_px=96))
    session = propagator.session()
    session.step(*disc(44, 40))
    features = session.extract([disc(45, 42)[0]])[0]
    labels = session.label((96, 128), features)
    assert labels is not None
    assert labels.shape == (*features.shape[1:], 2)


def test_a_session_continues_from_a_saved_state_with_its_subcells():
    config = Config(short_side_px=96)
    propagator = Propagator("color", device="cpu", config=config)
    first, other = propagator.session(), propagator.session()
    for t in range(3):
        first.step(disc(44 + t, 40)[0], disc(44, 40)[1] if t == 0 else None)
    other.load_state_dict(first.state_dict())
    image = disc(48, 42)[0]
    assert np.array_equal(first.step(image).mask, other.step(image).mask)
