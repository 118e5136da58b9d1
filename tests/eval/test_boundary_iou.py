"""Boundary regions against repeated erosion."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from propagate.eval.boundary_iou import boundary_distance_px, boundary_region


def slow_boundary_region(mask: np.ndarray, distance_px: int) -> np.ndarray:
    """The released code's way: pad by one pixel, erode by 3x3 so many times, subtract."""
    eroded = np.pad(mask, 1)
    for _ in range(distance_px):
        before = eroded.copy()
        for y in range(1, eroded.shape[0] - 1):
            for x in range(1, eroded.shape[1] - 1):
                eroded[y, x] = before[y - 1 : y + 2, x - 1 : x + 2].all()
    return mask & ~eroded[1:-1, 1:-1]


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.just(True)),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=6),
    st.integers(1, 4),
)
def test_the_boundary_region_is_that_of_repeated_erosion(
    mask: np.ndarray, holes: list[tuple[int, int]], distance_px: int
):
    for y, x in holes:
        mask[y % mask.shape[0], x % mask.shape[1]] = False
    expected = slow_boundary_region(mask, distance_px)
    assert (boundary_region(mask, distance_px) == expected).all()


def test_the_depth_of_the_region_is_two_percent_of_the_diagonal():
    assert boundary_distance_px(480, 854) == 20  # 19.6
    assert boundary_distance_px(720, 1280) == 29  # 29.4
    assert boundary_distance_px(20, 20) == 1
