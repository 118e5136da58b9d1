"""Votes: the labels that the matches of a cell give it.

The letters of shapes are those of `cells.py`.
"""

import torch
import torch.nn.functional as F


def propagate_labels(
    values: torch.Tensor, cells: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Let the matches of each cell vote: a soft-max of their cosines weighs their labels.

    Args:
        values, cells: (..., k), as `local_top_k` gives them, in any order.
        labels: (M, h, w, L) soft labels of the memory. A cell that sums to less than one is void by
            the rest, and votes that much less.
        temperature: Divides the cosines.

    Returns:
        (..., L) soft labels that sum to one; background where nothing voted.
    """
    k = values.shape[-1]
    # Where there is no match at all, a soft-max of nothing but -inf would be NaN.
    unmatched = values.amax(-1, keepdim=True) == -torch.inf
    weights = torch.softmax(values / temperature, dim=-1).masked_fill(unmatched, 0)
    voted = F.embedding_bag(
        cells.view(-1, k),
        labels.flatten(0, 2),
        per_sample_weights=weights.view(-1, k),
        mode="sum",
    )  # (n, L)
    total = voted.sum(1, keepdim=True)
    silent = total < 1e-6
    voted = torch.where(silent, 0, voted / total.clamp_min(1e-6))
    voted[:, :1] += silent.to(voted.dtype)
    return voted.view(*values.shape[:-1], -1)


def best_cosines(best: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The best cosine that cells of each label have, the median over the cells where it wins.

    Args:
        best: (h, w), the best cosine of each cell.
        labels: (h, w, L) soft labels.

    Returns:
        (L,); NaN for a label that wins nowhere.
    """
    winner = labels.argmax(-1)
    medians = [best[winner == label].median() for label in range(labels.shape[-1])]
    return torch.stack(medians)


def doubted(
    labels: torch.Tensor, values: torch.Tensor, rival: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Let background vote beside the matches of each cell.

    Args:
        labels: (..., L) soft labels, as `propagate_labels` gives them.
        values: (..., k) cosines they were voted with.
        rival: (...,) the cosine background votes with; -inf: it does not.
        temperature: Divides the cosines.

    Returns:
        (..., L) soft labels: those of a soft-max over k + 1 votes.
    """
    share = torch.sigmoid(rival / temperature - torch.logsumexp(values / temperature, dim=-1))
    # Nothing matched, and background does not vote: the difference of two infinities.
    share = torch.nan_to_num(share)
    labels = labels * (1 - share)[..., None]
    labels[..., 0] += share
    return labels
