"""The random walker: where a walk from each cell ends first (Grady 2006, with priors: Grady 2005).

A walk steps between neighbours, the more likely the stronger their link. It ends at a seed, or,
from any cell, at the object or the background, as strongly as the cell is tied to them. The label
of a cell is the probability that its walk ends as object.
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

FREE = -1


def solve_walker(
    first: np.ndarray,
    second: np.ndarray,
    links: np.ndarray,
    to_object: np.ndarray,
    to_background: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """Solve the walker exactly.

    Args:
        first, second: (E,) the cells that each link joins.
        links: (E,) their strengths, above 0.
        to_object, to_background: (n,) how strongly each cell is tied to them, 0 or more.
        seeds: (n,) int: 1 object, 0 background, `FREE` neither. Each free cell must be able to
            reach a seed or a tie above 0.

    Returns:
        (n,) float64 labels in 0..1.
    """
    count = len(seeds)
    labels = (seeds == 1).astype(float)
    free = np.flatnonzero(seeds == FREE)
    if not len(free):
        return labels
    ones = np.concatenate([links, links])
    places = np.concatenate([first, second]), np.concatenate([second, first])
    adjacent = sp.csr_matrix((ones, places), (count, count))
    ends = adjacent @ np.ones(count) + to_object + to_background
    rows = adjacent[free]
    system = sp.diags(ends[free]) - rows[:, free]
    # The seeds are known: what leads to them goes to the right-hand side.
    known = rows @ labels + to_object[free]
    factors = splu(
        system.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    labels[free] = np.clip(factors.solve(known), 0, 1)
    return labels
