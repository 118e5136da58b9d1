"""Match proposals to true objects, for methods that choose their own ids."""

import numpy as np


def match_proposals(region: np.ndarray, boundary: np.ndarray) -> np.ndarray:
    """Assign one proposal to each object, so that the sum of their J&F is largest.

    Args:
        region: (P, K, T) float64, J of each proposal, object and frame; P at least K.
        boundary: (P, K, T) float64, F.

    Returns:
        (K,) int, the row of the proposal of each object, all different.

    Raises:
        ValueError: If there are fewer proposals than objects.

    Source: davis2017-evaluation, unsupervised task. scipy solves the assignment problem.
    """
    # Imported here because it takes three times as long as all else that a worker imports.
    from scipy.optimize import linear_sum_assignment

    proposals, objects, _ = region.shape
    if proposals < objects:
        raise ValueError(f"region needs at least as many proposals as objects, not {region.shape}")
    quality = (region.mean(axis=2) + boundary.mean(axis=2)) / 2  # (P, K)
    rows, columns = linear_sum_assignment(quality, maximize=True)
    return rows[np.argsort(columns)]
