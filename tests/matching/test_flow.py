"""Flow against literal loops over cells."""

import math

import numpy as np
import torch

from propagate.matchers import FlowSettings
from propagate.matching.flow import (
    compose,
    flow_of_best,
    flow_of_tiles,
    median_filter,
    penalize,
)
from propagate.matching.matches import Matches

SETTINGS = FlowSettings(weight=0.15, tolerance_cells=8, aside_cells=3)


def random_flows(*shape: int, reach: float = 3, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, 2, generator=torch.Generator().manual_seed(seed)) - 0.5) * 2 * reach


def literal_composed(flow: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Where the last frame's flow leads from the place that each cell had in the last frame."""
    height, width, _ = by.shape
    result = np.empty_like(by)
    for y in range(height):
        for x in range(width):
            v = min(max(y + by[y, x, 0], 0), height - 1)
            u = min(max(x + by[y, x, 1], 0), width - 1)
            v0, u0 = int(v), int(u)
            v1, u1 = min(v0 + 1, height - 1), min(u0 + 1, width - 1)
            a, b = v - v0, u - u0
            upper = flow[v0, u0] * (1 - b) + flow[v0, u1] * b
            lower = flow[v1, u0] * (1 - b) + flow[v1, u1] * b
            result[y, x] = by[y, x] + upper * (1 - a) + lower * a
    return result


def literal_median(flow: np.ndarray) -> np.ndarray:
    height, width, _ = flow.shape
    rows = np.empty_like(flow)
    for x in range(width):
        beside = [max(x - 1, 0), x, min(x + 1, width - 1)]
        rows[:, x] = np.median(flow[:, beside], axis=1)
    result = np.empty_like(flow)
    for y in range(height):
        beside = [max(y - 1, 0), y, min(y + 1, height - 1)]
        result[y] = np.median(rows[beside], axis=0)
    return result


def test_a_composed_flow_continues_from_where_the_cell_was():
    flows, by = random_flows(3, 7, 9), random_flows(7, 9, seed=1)
    result = compose(flows, by)
    for flow, found in zip(flows, result, strict=True):
        expected = literal_composed(flow.numpy(), by.numpy())
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_composed_by_whole_cells_two_steps_add_up():
    flows = torch.tensor([2.0, -1.0]).expand(1, 6, 6, 2)
    by = torch.tensor([-1.0, 3.0]).expand(6, 6, 2)
    torch.testing.assert_close(compose(flows, by), torch.tensor([1.0, 2.0]).expand(1, 6, 6, 2))


def test_median_is_that_of_three_medians():
    flows = random_flows(2, 5, 8)
    for flow, found in zip(flows, median_filter(flows), strict=True):
        assert found.numpy().tolist() == literal_median(flow.numpy()).tolist()


def best_places(values: torch.Tensor, cells: torch.Tensor, otherwise: np.ndarray) -> np.ndarray:
    """The flow (h, w, 2) of the best match in one frame, before the median."""
    height, width, _ = values.shape
    flow = np.empty((height, width, 2), np.float32)
    for y in range(height):
        for x in range(width):
            best = int(values[y, x].argmax())
            cell = int(cells[y, x, best])
            is_matched = values[y, x, best] > -math.inf
            flow[y, x] = (cell // width - y, cell % width - x) if is_matched else otherwise[y, x]
    return flow


def random_matches(*shape: int) -> Matches:
    """Of one cell nothing was matched in any frame, and of another not in the newest."""
    rng = torch.Generator().manual_seed(0)
    values = torch.rand(shape, generator=rng)
    values[:, 4, 4] = values[-1, 0, 10] = -math.inf
    return Matches(values, torch.randint(shape[1] * shape[2], shape, generator=rng))


def test_the_flow_is_the_median_of_the_best_matches():
    values, cells = random_matches(3, 9, 11, 4)
    otherwise = random_flows(3, 9, 11)
    for frame, found in enumerate(flow_of_best(Matches(values, cells), otherwise)):
        places = best_places(values[frame], cells[frame], otherwise[frame].numpy())
        assert found.numpy().tolist() == literal_median(places).tolist()


def test_a_match_loses_by_its_distance_from_where_flow_and_the_flow_aside_lead():
    frames, height, width, k = 3, 9, 11, 4
    values, cells = random_matches(frames, height, width, k)
    expected = random_flows(frames, height, width, reach=5)
    weighed = penalize(Matches(values, cells), expected, SETTINGS)
    assert weighed.cells.equal(cells)
    for frame in range(frames):
        for y in range(height):
            for x in range(width):
                aside = [
                    expected[frame, min(max(y + v, 0), height - 1), min(max(x + u, 0), width - 1)]
                    for v in (-3, 0, 3)
                    for u in (-3, 0, 3)
                ]
                for i, cell in enumerate(cells[frame, y, x]):
                    place = torch.tensor([cell // width - y, cell % width - x])
                    off = min(float(((place - flow) ** 2).sum()) for flow in aside)
                    loss = 0.15 * (1 - math.exp(-off / (2 * 8**2)))
                    found = float(weighed.cosines[frame, y, x, i])
                    assert math.isclose(found, values[frame, y, x, i] - loss, abs_tol=1e-4)


def test_a_match_where_the_flow_leads_loses_nothing():
    values = torch.full((1, 4, 5, 1), 0.9)
    cells = torch.arange(20).view(1, 4, 5, 1)
    matches = Matches(values, cells)
    assert penalize(matches, torch.zeros(1, 4, 5, 2), SETTINGS).cosines.equal(values)
    far = penalize(matches, torch.full((1, 4, 5, 2), 60.0), SETTINGS)
    assert far.cosines.allclose(values - 0.15)


def test_a_tile_has_the_flow_of_the_cells_of_its_objects():
    """Tiles of 4 on a grid of 7 x 10: the lower and the right ones are cut off."""
    flows = random_flows(2, 7, 10, reach=20)
    owned = torch.zeros(7, 10, dtype=torch.bool)
    owned[1:3, 2:5] = owned[6, 9] = True
    found = flow_of_tiles(flows, owned, 4)
    assert found.shape == (2, 2, 3, 2)
    for frame in range(2):
        for top in (0, 4):
            for left in (0, 4, 8):
                area = slice(top, top + 4), slice(left, left + 4)
                own = owned[area] if owned[area].any() else torch.ones_like(owned[area])
                dy_dx = flows[frame][area][own].numpy()
                # The lower of the two in the middle, as torch has it.
                middle = np.sort(dy_dx, axis=0)[(len(dy_dx) - 1) // 2]
                assert found[frame, top // 4, left // 4].tolist() == np.round(middle).tolist()
