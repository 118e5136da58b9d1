"""Small masks, and what a refusal of one looks like."""

import numpy as np
import pytest

from propagate.errors import MaskError


def squares(values: list[int], side: int = 6) -> np.ndarray:
    """Ids in a row of squares with a gap between them."""
    row = np.repeat(np.repeat([[*values]], side, axis=0), side, axis=1).astype(np.uint8)
    return np.pad(row, 2)


def refusal(call, *parts: str) -> str:
    with pytest.raises(MaskError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message
