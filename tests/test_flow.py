"""Flow against literal loops over cells."""

import math

import numpy as np
import torch

from propagate.flow import ASIDE, TOLERANCE, agreeing, carried, median


def random_flows(*shape: int, reach: float = 3, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, 2, generator=torch.Generator().manual_seed(seed)) - 0.5) * 2 * reach


def literal_carried(flow: np.ndarray, by: np.ndarray) -> np.ndarray:
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


def test_carried_flow_goes_on_from_where_the_cell_was():
    flows, by = random_flows(3, 7, 9), random_flows(7, 9, seed=1)
    result = carried(flows, by)
    for flow, found in zip(flows, result, strict=True):
        expected = literal_carried(flow.numpy(), by.numpy())
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_carried_by_whole_cells_two_steps_add_up():
    flows = torch.tensor([2.0, -1.0]).expand(1, 6, 6, 2)
    by = torch.tensor([-1.0, 3.0]).expand(6, 6, 2)
    torch.testing.assert_close(carried(flows, by), torch.tensor([1.0, 2.0]).expand(1, 6, 6, 2))


def test_median_is_that_of_three_medians():
    flows = random_flows(2, 5, 8)
    for flow, found in zip(flows, median(flows), strict=True):
        assert found.numpy().tolist() == literal_median(flow.numpy()).tolist()


def test_a_match_loses_by_its_distance_from_where_flow_and_the_flow_aside_lead():
    frames, height, width, k = 3, 9, 11, 4
    rng = torch.Generator().manual_seed(0)
    values = torch.rand(frames, height, width, k, generator=rng)
    # Of one cell nothing was matched in any frame, and of another not in the newest.
    values[:, 4, 4] = values[2, 0, 10] = -math.inf
    cells = torch.randint(height * width, values.shape, generator=rng)
    flows = random_flows(frames, height, width, reach=5)
    weighed, new_flows = agreeing(values, cells, flows, 0.15)

    def places(frame: int, y: int, x: int) -> np.ndarray:
        found = cells[frame, y, x].numpy()
        return np.stack([found // width - y, found % width - x], axis=-1).astype(np.float32)

    def best(of: torch.Tensor, frame: int, otherwise: np.ndarray) -> np.ndarray:
        flow = np.empty((height, width, 2), np.float32)
        for y in range(height):
            for x in range(width):
                highest = int(of[frame, y, x].argmax())
                is_matched = of[frame, y, x, highest] > -math.inf
                flow[y, x] = places(frame, y, x)[highest] if is_matched else otherwise[y, x]
        return literal_median(flow)

    step = best(values, 2, np.zeros((height, width, 2), np.float32))
    for frame in range(frames):
        expected = step if frame == 2 else literal_carried(flows[frame].numpy(), step)
        for y in range(height):
            for x in range(width):
                aside = [
                    expected[min(max(y + v, 0), height - 1), min(max(x + u, 0), width - 1)]
                    for v in (-ASIDE, 0, ASIDE)
                    for u in (-ASIDE, 0, ASIDE)
                ]
                for i, place in enumerate(places(frame, y, x)):
                    off = min(((place - flow) ** 2).sum() for flow in aside)
                    loss = 0.15 * (1 - math.exp(-off / (2 * TOLERANCE**2)))
                    found = float(weighed[frame, y, x, i])
                    assert math.isclose(found, values[frame, y, x, i] - loss, abs_tol=1e-4)
        torch.testing.assert_close(
            new_flows[frame], torch.from_numpy(best(weighed, frame, expected)), rtol=0, atol=1e-3
        )


def test_the_first_frame_after_the_reference_has_no_flow_to_carry():
    values = torch.full((1, 4, 5, 1), 0.9)
    cells = torch.arange(20).view(1, 4, 5, 1)
    weighed, flows = agreeing(values, cells, torch.zeros(1, 4, 5, 2), 0.15)
    assert weighed.equal(values)
    assert not flows.any()
