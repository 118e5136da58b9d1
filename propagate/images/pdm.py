"""The maps of the PDM paper and of its released code: where an instance is in one other picture.

Equations are those of "Where's Waldo" (Samuel et al., NeurIPS 2024). Pure functions over one frame,
channels first; prototypes and maps are computed by `matching/appearance.py`.

    h w   grid of the reference and of the target, which may differ in size
    C     channels of appearance features: (Q + K) / 2 of self-attention (eq. 1), `Backbone.extract`
    S     channels of semantic features: queries of cross-attention (eq. 2)
    n     cells of the reference that belong to the instance
"""

import torch
import torch.nn.functional as F

from propagate.matching.appearance import appearance_map, instance_prototypes

# The paper gives this value to eq. 3; the released code lets every cell cast this many votes.
CLASS_THRESHOLD = 0.7
OFFICIAL_VOTES = 100


def class_mask(
    semantic: torch.Tensor, class_token: torch.Tensor, threshold: float = CLASS_THRESHOLD
) -> torch.Tensor:
    """Find the instance on the reference by the name of its class alone (eq. 3).

    With one token, the paper's softmax can only run over the cells. Its values are then about
    1 / (h w), far below the paper's threshold, so they are rescaled to 0..1 over the frame.

    Args:
        semantic: (S, h, w) features of the reference.
        class_token: (S,) key of the class name.
        threshold: Share of the best cell's attention that a cell needs, 0..1.

    Returns:
        (h, w) bool.
    """
    logits = similarity_map(semantic, class_token) / len(class_token) ** 0.5
    attention = logits.flatten().softmax(0).view_as(logits)
    low, high = attention.aminmax()
    return attention - low > threshold * (high - low)


def prototype(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average features over a mask (eq. 4).

    Its `similarity_map` is eq. 5, because the mean of n dot products is the product with the mean.

    Args:
        features: (C, h, w) of the reference.
        mask: (h, w) bool.

    Returns:
        (C,).

    Raises:
        ValueError: The mask is empty.
    """
    _check(features, mask)
    weights = mask[..., None].to(features.dtype)  # (h, w, 1)
    return instance_prototypes(features.movedim(0, -1), weights)[0]


def similarity_map(features: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Multiply every cell with a vector; neither is normalised.

    With an instance's prototype this is S_A (eq. 5), with a class token it is S_S (eq. 6).

    Args:
        features: (C, h, w) of the target.
        vector: (C,).

    Returns:
        (h, w).
    """
    return appearance_map(features.movedim(0, -1), vector[None])[..., 0]


def fused_map(appearance_map: torch.Tensor, semantic_map: torch.Tensor) -> torch.Tensor:
    """S_DF, the mean of S_A and S_S (eq. 7), each (h, w). The paper does not scale them."""
    return (appearance_map + semantic_map) / 2


def vote_map(
    reference: torch.Tensor,
    mask: torch.Tensor,
    target: torch.Tensor,
    votes: int = OFFICIAL_VOTES,
    cosine: bool = False,
) -> torch.Tensor:
    """Let every cell of the instance vote for the most similar cells of the target.

    This is what dvirsamuel/PDM computes instead of eq. 5, once with queries and once with keys. Its
    heat map is this map, resized (bilinear) to the picture.

    Args:
        reference: (C, h, w) features.
        mask: (h, w) bool.
        target: (C, h', w') features.
        votes: How many cells each cell votes for.
        cosine: Compare by cosine, as its PerMIS script does; else by Euclidean distance, as its
            demo does.

    Returns:
        (h', w') float32: votes divided by the most votes of any cell, 0..1.

    Raises:
        ValueError: The mask is empty, or there are fewer cells than votes.
    """
    _check(reference, mask)
    voters = reference[:, mask].T  # (n, C)
    cells = target.flatten(1).T  # (h' w', C)
    if votes > len(cells):
        raise ValueError(f"votes: at most the {len(cells)} cells of the target, not {votes}")
    if cosine:
        similarity = F.normalize(voters, dim=1) @ F.normalize(cells, dim=1).T
    else:
        similarity = -torch.cdist(voters, cells)
    chosen = similarity.topk(votes, dim=1).indices  # (n, votes)
    counts = torch.bincount(chosen.flatten(), minlength=len(cells)).float()
    return (counts / counts.max()).view(target.shape[1:])


def _check(features: torch.Tensor, mask: torch.Tensor) -> None:
    if mask.dtype != torch.bool or mask.shape != features.shape[1:]:
        raise ValueError(
            f"mask: bool {tuple(features.shape[1:])} as the features, not {mask.dtype} "
            f"{tuple(mask.shape)}"
        )
    if not mask.any():
        raise ValueError("mask: no cell of the instance in it; a smaller one needs larger features")
