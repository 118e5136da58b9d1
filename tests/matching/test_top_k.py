"""The search for the most similar cells against slow literal loops over single cells."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from propagate.matching import window_search
from propagate.matching.matches import Matches, best_of_each, merge_top_k
from propagate.matching.top_k import (
    TILE,
    Query,
    global_top_k,
    local_top_k,
    local_top_k_of_each,
    top_k_around,
)
from propagate.matching.votes import propagate_labels
from tests.paths import ROOT


@pytest.fixture(params=["compiled", "tensors"])
def _way(request, monkeypatch):
    """Search by the compiled loop or by tensor operations."""
    if request.param == "tensors":
        monkeypatch.setattr(window_search, "is_available", lambda: False)
    else:
        assert window_search.is_available()


both_ways = pytest.mark.usefixtures("_way")


def random_cells(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def literal_top_k(query, memory, top_k, radius, window):
    """Every cell of the window, one by one, sorted by cosine."""
    frames, height, width, _ = memory.shape
    found = {}
    for y in range(height):
        for x in range(width):
            scored = []
            for m in range(frames):
                for v in range(height):
                    for u in range(width):
                        square = abs(v - y) <= radius and abs(u - x) <= radius
                        circle = (v - y) ** 2 + (u - x) ** 2 < radius**2
                        if square if window == "square" else circle:
                            cosine = float(query[y, x] @ memory[m, v, u])
                            scored.append((cosine, m * height * width + v * width + u))
            found[y, x] = sorted(scored, reverse=True)[:top_k]
    return found


@both_ways
@pytest.mark.parametrize("window", ["square", "circle"])
@pytest.mark.parametrize(
    ("height", "width", "frames", "radius", "top_k"),
    [
        (7, 5, 1, 2, 3),
        (TILE + 3, TILE + 1, 2, 3, 5),
        (4, 2 * TILE + 1, 3, 20, 10),
        (3, 3, 1, 1, 15),
    ],
)
def test_local_top_k_finds_what_a_loop_over_all_cells_finds(
    window, height, width, frames, radius, top_k
):
    query = random_cells(height, width, 6)
    memory = random_cells(frames, height, width, 6, seed=1)
    values, cells = local_top_k(query, memory, top_k, radius, window)
    assert values.shape == cells.shape == (height, width, top_k)
    for (y, x), expected in literal_top_k(query, memory, top_k, radius, window).items():
        count = len(expected)
        torch.testing.assert_close(values[y, x, :count], torch.tensor([v for v, _ in expected]))
        assert cells[y, x, :count].tolist() == [cell for _, cell in expected]
        assert (values[y, x, count:] == -math.inf).all()


@both_ways
@pytest.mark.parametrize("window", ["square", "circle"])
def test_each_frame_is_searched_as_if_it_were_alone(window):
    query, memory = random_cells(13, 18, 6), random_cells(3, 13, 18, 6, seed=1)
    needed = torch.zeros(13, 18, dtype=torch.bool)
    needed[:9, :10] = True
    values, cells = local_top_k_of_each(query, memory, 4, 3, window, needed)
    for frame, of_frame in enumerate(memory):
        alone = local_top_k(query, of_frame[None], 4, 3, window, needed)
        torch.testing.assert_close(values[frame], alone[0])
        assert cells[frame].equal(alone[1])


@both_ways
@pytest.mark.parametrize("window", ["square", "circle"])
@pytest.mark.parametrize(("height", "width", "radius"), [(19, 27, 3), (TILE + 1, 5, 4)])
@pytest.mark.slow
def test_shifted_windows_find_what_a_loop_over_all_cells_finds(height, width, radius, window):
    """Windows are shifted by tile, some of them partly or wholly off the grid."""
    query, memory = random_cells(height, width, 6), random_cells(2, height, width, 6, seed=1)
    rows, columns = math.ceil(height / TILE), math.ceil(width / TILE)
    rng = torch.Generator().manual_seed(2)
    offsets = torch.randint(-8, 9, (2, rows, columns, 2), generator=rng)
    offsets[0, 0, 0] = torch.tensor([0, -40])
    needed = torch.ones(height, width, dtype=torch.bool)
    needed[:TILE, TILE:] = False
    values, cells = top_k_around(query, memory, offsets, 4, radius, window, needed)
    for frame in range(2):
        for y in range(height):
            for x in range(width):
                dy, dx = offsets[frame, y // TILE, x // TILE].tolist()
                scored = []
                for v in range(height):
                    for u in range(width):
                        off = v - y - dy, u - x - dx
                        square = max(map(abs, off)) <= radius
                        circle = off[0] ** 2 + off[1] ** 2 < radius**2
                        if needed[y, x] and (square if window == "square" else circle):
                            cosine = float(query[y, x] @ memory[frame, v, u])
                            scored.append((cosine, v * width + u))
                expected = sorted(scored, reverse=True)[:4]
                count = len(expected)
                torch.testing.assert_close(
                    values[frame, y, x, :count], torch.tensor([v for v, _ in expected])
                )
                assert cells[frame, y, x, :count].tolist() == [cell for _, cell in expected]
                assert (values[frame, y, x, count:] == -math.inf).all()


@both_ways
def test_windows_that_are_not_shifted_find_what_every_other_search_finds():
    query, memory = random_cells(20, 27, 8), random_cells(3, 20, 27, 8, seed=1)
    still = torch.zeros(3, 3, 4, 2, dtype=torch.int64)
    values, cells = top_k_around(query, memory, still, 5, 4)
    expected = local_top_k_of_each(query, memory, 5, 4)
    torch.testing.assert_close(values, expected[0])
    assert cells.equal(expected[1])


@both_ways
def test_the_best_of_each_frame_are_the_best_of_all():
    query, memory = random_cells(6, 7, 6), random_cells(3, 6, 7, 6, seed=1)
    values, cells = best_of_each(local_top_k_of_each(query, memory, 5, 2), 5)
    expected = local_top_k(query, memory, 5, 2)
    torch.testing.assert_close(values, expected[0])
    assert cells.equal(expected[1])
    fewer, _ = best_of_each(local_top_k_of_each(query, memory[:1], 2, 2), 5)
    assert fewer.shape == (6, 7, 2)


@both_ways
def test_local_top_k_sees_all_of_a_large_grid():
    """A cell moved by exactly the radius is found; one moved farther is not."""
    memory = random_cells(1, 40, 50, 16)
    query = memory[0].roll((5, -5), (0, 1))
    values, cells = local_top_k(query, memory, 1, 5)
    inner = torch.arange(40 * 50).view(40, 50)
    assert torch.equal(cells[5:, :45, 0], inner[:35, 5:])
    assert values[5:, :45].min() > 0.999
    values, _ = local_top_k(query, memory, 1, 4)
    assert values[9:, :41].max() < 0.999


def test_global_top_k_equals_the_dense_form():
    query, memory = random_cells(150, 8), random_cells(3, 9, 7, 8, seed=1)
    values, cells = global_top_k(query, memory, 4)
    dense, places = (query @ memory.flatten(0, 2).T).topk(4)
    torch.testing.assert_close(values, dense)
    assert torch.equal(cells, places)


def test_tiles_that_nobody_needs_are_left_out_and_the_others_are_as_before():
    query, memory = random_cells(20, 27, 8), random_cells(2, 20, 27, 8, seed=1)
    needed = torch.zeros(20, 27, dtype=torch.bool)
    needed[3, 4] = needed[17, 26] = True
    values, cells = local_top_k(query, memory, 5, 4, needed=needed)
    all_values, all_cells = local_top_k(query, memory, 5, 4)
    for y, x in ((3, 4), (17, 26)):
        torch.testing.assert_close(values[y, x], all_values[y, x], rtol=0, atol=0)
        assert cells[y, x].equal(all_cells[y, x])
    assert (values[8:16] == -torch.inf).all()
    labels = random_cells(2, 20, 27, 3).abs()
    assert propagate_labels(Matches(values, cells), labels, 0.1)[8:16].equal(
        torch.tensor([1.0, 0.0, 0.0]).expand(8, 27, 3)
    )


def test_merged_matches_are_the_best_of_both():
    first = Matches(torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[3, 4]]]))
    second = Matches(torch.tensor([[[0.5, -math.inf]]]), torch.tensor([[[10, 0]]]))
    values, cells = merge_top_k(first, second)
    assert values.tolist() == [[[pytest.approx(0.9), 0.5]]]
    assert cells.tolist() == [[[3, 10]]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("height", "width", "side", "radius", "window"),
    [(37, 53, 8, 15, "square"), (33, 70, 6, 12, "circle"), (21, 15, 5, 30, "square")],
)
def test_the_compiled_loop_finds_what_tensor_operations_find(
    monkeypatch, threads, height, width, side, radius, window
):
    """Also where tiles do not fit the grid, with shifted windows, and in several threads."""
    query = Query(random_cells(height, width, 19), side)
    memory = random_cells(2, height, width, 19, seed=1)
    shape = 2, math.ceil(height / side), math.ceil(width / side), 2
    rng = torch.Generator().manual_seed(3)
    offsets = torch.randint(-width, width, shape, generator=rng)
    needed = torch.rand(height, width, generator=rng) < 0.01
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    monkeypatch.setattr(window_search, "RUNS_OF_A_THREAD", 2)
    try:
        compiled = (
            local_top_k(query, memory, 7, radius, window, needed),
            top_k_around(query, memory, offsets, 5, radius, window, needed),
        )
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(window_search, "is_available", lambda: False)
    by_tensors = (
        local_top_k(query, memory, 7, radius, window, needed),
        top_k_around(query, memory, offsets, 5, radius, window, needed),
    )
    for found, expected in zip(compiled, by_tensors, strict=True):
        assert found.cells.equal(expected.cells)
        torch.testing.assert_close(found.cosines, expected.cosines, rtol=0, atol=1e-6)


def test_the_keys_of_a_frame_go_with_it():
    """They take as much memory as the frame, which is remembered for a while only."""
    query, frame = random_cells(8, 8, 6), random_cells(8, 8, 6, seed=1)
    before = len(window_search._keys)
    local_top_k(query, [frame], 1, 2)
    assert len(window_search._keys) == before + 1
    del frame
    assert len(window_search._keys) == before


@pytest.mark.slow
def test_where_nothing_can_be_written_the_loop_is_compiled_each_time(tmp_path):
    """As an administrator installed it, for a user without a home."""
    package = tmp_path / "window_loop.py"
    package.write_text((ROOT / "propagate/matching/window_loop.py").read_text())
    (tmp_path / "__pycache__").write_text("a file, so that no folder can be made here")
    code = (
        "import numpy as np, window_loop; values = np.array([1, 3, 2], np.float32);"
        "print(window_loop.highest(values, 0, 3))"
    )
    nowhere = tmp_path / "window_loop.py" / "home"
    environment = {**os.environ, "HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "3.0", done.stderr
