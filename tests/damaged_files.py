"""Real files made bad: cut off, or with bytes changed."""

import numpy as np

SHARES = [share / 100 for share in range(5, 100, 5)]


def cut_off(data: bytes, share: float) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * share)]


def with_flips(data: bytes, seed: int) -> bytes:
    """A file with 1 to 100 of its bytes replaced, half of the time all in its first 4 KiB.

    There the header of most containers is: what it says of sizes and places does the most harm.
    """
    rng = np.random.default_rng(seed)
    changed = np.frombuffer(data, np.uint8).copy()
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 4096)
    places = rng.integers(0, reach, int(10 ** rng.uniform(0, 2)))
    changed[places] = rng.integers(0, 256, len(places), np.uint8)
    return changed.tobytes()
