"""The votes of the released PDM code, from files that are part of the repository."""

import numpy as np
import pytest
import torch

from propagate.images import pdm
from tests.golden.pdm import remake

needs_oracle = pytest.mark.skipif(
    not remake.RECORDED.is_dir(), reason="../shared/oracle/pdm is not here"
)


def golden() -> dict[str, np.ndarray]:
    with np.load(remake.HERE / "votes.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("script", remake.SCRIPTS)
@pytest.mark.parametrize("tensor", remake.TENSORS)
def test_votes_are_those_of_the_released_code(script: str, tensor: str) -> None:
    arrays = golden()
    mask = torch.from_numpy(arrays["mask"])
    assert mask.sum() == 80
    # Only the cells under the mask vote, so only they are stored.
    reference = torch.zeros(16, 64, 64)
    reference[:, mask] = remake.from_bytes(arrays[f"ref_{tensor}"]).T
    target = remake.from_bytes(arrays[f"tgt_{tensor}"]).T.unflatten(1, (64, 64))
    votes = pdm.vote_map(reference, mask, target, cosine=script == "permis")
    counts = torch.from_numpy(arrays[f"votes_{script}_{tensor}"]).float()
    assert counts.sum() == 80 * pdm.OFFICIAL_VOTES
    assert torch.equal(votes, counts / counts.max())


@needs_oracle
def test_the_stored_votes_are_the_recorded_ones() -> None:
    stored, remade = golden(), remake.remade()
    assert stored.keys() == remade.keys()
    for name, array in remade.items():
        assert np.array_equal(stored[name], array), name
