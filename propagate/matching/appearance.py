"""PDM's prototypes and similarity maps: where in a frame an instance may be.

The letters of shapes are those of `cells.py`.
"""

import torch


def instance_prototypes(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Average the features under each label: PDM's masked appearance features, summed (eq. 4).

    Equation 5 averages n dot products with one target vector; that is one dot product with the mean
    of the n features, which is what this gives.

    Args:
        features: (..., C) cells of one or more reference frames.
        labels: (..., L) in 0..1, of the same cells.

    Returns:
        (L, C); zero for a label that covers nothing.
    """
    weights = labels.flatten(0, -2)  # (n, L)
    return weights.T @ features.flatten(0, -2) / weights.sum(0).clamp_min(1e-6)[:, None]


def appearance_map(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """PDM's appearance similarity S_A of every cell to every instance (Samuel et al. 2024, eq. 5).

    Args:
        features: (..., C) of the target frame.
        prototypes: (L, C), as `instance_prototypes` gives them.

    Returns:
        (..., L) dot products.
    """
    return features @ prototypes.T


def fused_on_one_scale(
    appearance: torch.Tensor,
    semantic: torch.Tensor,
    reference_appearance: torch.Tensor,
    reference_semantic: torch.Tensor,
) -> torch.Tensor:
    """Average appearance and semantic maps (PDM, eq. 7), both brought to one scale first.

    The paper does not rescale them, so the semantic map of raw dot products dominates. Here
    both have mean zero and spread one on the reference frames.

    Args:
        appearance: (..., L) of the target, S_A.
        semantic: (..., L) of the target, S_S; NaN for a label without a class, which is left to
            appearance alone.
        reference_appearance, reference_semantic: (R, h, w, L), the same of the reference frames.

    Returns:
        (..., L).
    """

    def scaled(maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        spread, mean = torch.std_mean(reference.flatten(0, -2), dim=0, correction=0)  # (L,)
        return (maps - mean) / spread.clamp_min(1e-6)

    of_appearance = scaled(appearance, reference_appearance)
    of_class = scaled(semantic, reference_semantic)
    return torch.where(of_class.isnan(), of_appearance, (of_appearance + of_class) / 2)


def appearance_floor(appearance: torch.Tensor, labels: torch.Tensor, share: float) -> torch.Tensor:
    """The appearance that all but `share` of an instance's own cells reach on its reference frame.

    Args:
        appearance: (..., L) of the reference frames themselves.
        labels: (..., L) of the reference frames.
        share: 0..1.

    Returns:
        (L,): the quantile over the cells that carry at least half of the label's largest share; inf
        for a label without cells.
    """
    floors = appearance.new_full((labels.shape[-1],), torch.inf)
    for label in range(labels.shape[-1]):
        carried = labels[..., label]
        if carried.any():
            own = appearance[..., label][carried >= 0.5 * carried.max()]
            floors[label] = own.quantile(share)
    return floors
