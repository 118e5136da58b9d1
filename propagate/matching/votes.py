"""Votes: the labels that the matches of a cell give it. Shapes: see `cells.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from propagate.matchers import BackgroundVoteSettings, VoteSettings
from propagate.matching.cells import RememberedFrames
from propagate.matching.labels import give_to_background
from propagate.matching.matches import Matches, SearchResult


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Soft labels of a frame, as voted.

    Attributes:
        labels: (h, w, L) by the matches that agree with the flow.
        by_similarity: (h, w, L) by the most similar matches, whatever the flow; the same as
            `labels` if the flow decides nothing.
    """

    labels: torch.Tensor
    by_similarity: torch.Tensor


def count_votes(found: SearchResult, settings: VoteSettings) -> Votes:
    """Let the matches of every cell vote for its label."""
    labels = propagate_labels(found.matches, found.labels, settings.temperature)
    # With one object there is no look-alike, so flow cannot help.
    if found.by_similarity is found.matches or labels.shape[-1] == 2:
        return Votes(labels, labels)
    similar = propagate_labels(found.by_similarity, found.labels, settings.temperature)
    return Votes(labels, similar)


def propagate_labels(matches: Matches, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Weigh the labels of the matches by a soft-max over their cosines.

    Args:
        matches: (..., k), in any order.
        labels: (M, h, w, L) soft labels of the memory. If a cell sums to less than one, the rest is
            void, and its vote counts that much less.
        temperature: Divides the cosines.

    Returns:
        (..., L) soft labels that sum to one; background where nothing voted.
    """
    values, cells = matches
    k = values.shape[-1]
    # If a cell has no match, all its values are -inf, and their soft-max would be NaN.
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


def vote_for_background(
    labels: torch.Tensor,
    matches: Matches,
    usual_cosines: Sequence[float | None],
    temperature: float,
    settings: BackgroundVoteSettings | None,
) -> tuple[torch.Tensor, tuple[float | None, ...]]:
    """Let background vote where a cell matches worse than cells of its object usually do.

    Args:
        labels: (h, w, L) as voted.
        matches: (h, w, k) the most similar matches.
        usual_cosines: For each object the best cosine that its cells usually have; None for an
            object that was never matched.
        temperature: Divides the cosines.
        settings: None: background does not vote.

    Returns:
        The labels, and the usual cosines with this frame counted.
    """
    if settings is None:
        return labels, tuple(usual_cosines)
    best = best_cosines(matches.cosines[..., 0], labels)[1:].tolist()  # (K,)
    rivals = labels.new_full((labels.shape[-1],), -torch.inf)
    updated = list(usual_cosines)
    for i, now in enumerate(best):
        if math.isfinite(now):  # the object holds a cell
            known = updated[i]
            usual = now if known is None else known
            rivals[i + 1] = settings.share * usual
            updated[i] = usual + settings.rate * (now - usual)
    rival = rivals[labels.argmax(-1)]  # (h, w), -inf where background wins
    return with_background_vote(labels, matches.cosines, rival, temperature), tuple(updated)


def best_cosines(best: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """For each label, the median of the best cosines of the cells where it wins.

    Args:
        best: (h, w), the best cosine of each cell.
        labels: (h, w, L) soft labels.

    Returns:
        (L,); NaN for a label that wins nowhere.
    """
    winner = labels.argmax(-1)
    medians = [best[winner == label].median() for label in range(labels.shape[-1])]
    return torch.stack(medians)


def with_background_vote(
    labels: torch.Tensor, cosines: torch.Tensor, rival: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Add one vote for background to the votes of each cell.

    Args:
        labels: (..., L) soft labels, as `propagate_labels` gives them.
        cosines: (..., k) of the matches that voted.
        rival: (...,) the cosine of the background vote; -inf: no vote.
        temperature: Divides the cosines.

    Returns:
        (..., L) soft labels of a soft-max over k + 1 votes.
    """
    share = torch.sigmoid(rival / temperature - torch.logsumexp(cosines / temperature, dim=-1))
    # No match and no background vote: the difference of two infinities.
    share = torch.nan_to_num(share)
    labels = labels * (1 - share)[..., None]
    labels[..., 0] += share
    return labels


def drop_faint(
    labels: torch.Tensor, known: RememberedFrames, settings: VoteSettings
) -> torch.Tensor:
    """Give soft labels (h, w, L) below the label floor to background."""
    # An object smaller than a cell is faint even where it was given, so the floor is relative.
    floors = settings.label_floor * known.reference_labels.amax((0, 1, 2))  # (L,)
    faint = labels < floors
    faint[..., 0] = False
    return give_to_background(labels, faint)
