"""Equations 2 to 7 of PDM and the votes of its released code, against written-out loops."""

import math

import pytest
import torch

from propagate.images import pdm

C, S = 6, 5
GRID = (4, 7)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_mask() -> torch.Tensor:
    mask = random(*GRID, seed=9) > 0.5
    assert 1 < mask.sum() < mask.numel()
    return mask


def dot(features: torch.Tensor, y: int, x: int, vector: list[float]) -> float:
    return sum(float(features[c, y, x]) * vector[c] for c in range(len(vector)))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
def test_the_class_mask_is_equation_3_rescaled_over_the_frame(threshold: float) -> None:
    semantic, token = random(S, *GRID), random(S, seed=1)
    cells = [(y, x) for y in range(GRID[0]) for x in range(GRID[1])]
    powers = {at: math.exp(dot(semantic, *at, token.tolist()) / math.sqrt(S)) for at in cells}
    attention = {at: power / sum(powers.values()) for at, power in powers.items()}
    low, high = min(attention.values()), max(attention.values())
    expected = torch.tensor(
        [
            [(attention[y, x] - low) / (high - low) > threshold for x in range(GRID[1])]
            for y in range(GRID[0])
        ]
    )
    mask = pdm.class_mask(semantic, token, threshold)
    assert torch.equal(mask, expected)
    assert mask.any()


def test_the_papers_threshold_is_the_default() -> None:
    semantic, token = random(S, *GRID), random(S, seed=1)
    assert torch.equal(pdm.class_mask(semantic, token), pdm.class_mask(semantic, token, 0.7))


def test_appearance_is_equation_5_the_mean_of_the_products_with_every_masked_cell() -> None:
    reference, target, mask = random(C, *GRID), random(C, 3, 5, seed=2), some_mask()
    masked = [reference[:, y, x].tolist() for y, x in mask.nonzero().tolist()]  # eq. 4
    expected = torch.tensor(
        [
            [sum(dot(target, y, x, cell) for cell in masked) / len(masked) for x in range(5)]
            for y in range(3)
        ]
    )
    found = pdm.similarity_map(target, pdm.prototype(reference, mask))
    torch.testing.assert_close(found, expected)


def test_semantics_are_equation_6_and_fusion_equation_7() -> None:
    target, token, appearance = random(S, *GRID), random(S, seed=1), random(*GRID, seed=3)
    semantic = pdm.similarity_map(target, token)
    fused = pdm.fused_map(appearance, semantic)
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            s_s = dot(target, y, x, token.tolist())
            assert float(semantic[y, x]) == pytest.approx(s_s, rel=1e-4, abs=1e-6)
            expected = 0.5 * (float(appearance[y, x]) + s_s)
            assert float(fused[y, x]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("cosine", [False, True])
def test_every_masked_cell_votes_for_the_cells_most_like_it(cosine: bool) -> None:
    reference, target, mask = random(C, *GRID), random(C, 3, 5, seed=2), some_mask()

    def distance(a: list[float], b: list[float]) -> float:
        if cosine:
            product = sum(p * q for p, q in zip(a, b, strict=True))
            return -product / math.hypot(*a) / math.hypot(*b)
        return math.dist(a, b)

    counts = torch.zeros(3, 5)
    for y, x in mask.nonzero().tolist():
        voter = reference[:, y, x].tolist()
        ranked = sorted(
            ((v, u) for v in range(3) for u in range(5)),
            key=lambda at: distance(voter, target[:, at[0], at[1]].tolist()),
        )
        for v, u in ranked[:4]:
            counts[v, u] += 1
    assert torch.equal(
        pdm.vote_map(reference, mask, target, votes=4, cosine=cosine), counts / counts.max()
    )


def test_the_two_kinds_of_votes_differ() -> None:
    reference, target, mask = random(C, *GRID), random(C, 3, 5, seed=2), some_mask()
    euclidean = pdm.vote_map(reference, mask, target, votes=4)
    assert not torch.equal(euclidean, pdm.vote_map(reference, mask, target, votes=4, cosine=True))


def test_wrong_arguments_are_refused() -> None:
    features = random(C, *GRID)
    with pytest.raises(ValueError, match="no cell of the instance"):
        pdm.prototype(features, torch.zeros(GRID, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"bool \(4, 7\) as the features, not torch.float32"):
        pdm.prototype(features, torch.ones(GRID))
    with pytest.raises(ValueError, match=r"not torch.bool \(7, 4\)"):
        pdm.vote_map(features, some_mask().T, features)
    with pytest.raises(ValueError, match="at most the 28 cells of the target, not 100"):
        pdm.vote_map(features, some_mask(), features)
