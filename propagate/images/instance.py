"""One instance, learned from one picture of it, to be found in others.

PDM (Samuel et al., NeurIPS 2024, section 3.3) leaves two things open: the scales of its two maps,
and the value that separates instance from background. Here both are fitted on the reference
picture, where the answer is known. The letters of every shape:

    h w   grid of a picture                C   channels of appearance features
    N     cells of a picture, h w          S   channels of semantic features
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from propagate.config import Config
from propagate.errors import MaskError, ModelError
from propagate.features.backbone import Backbone, SemanticBackbone
from propagate.features.colors import COLOR_CHANNELS
from propagate.features.extract import extract_features
from propagate.images.pdm import CLASS_THRESHOLD, OFFICIAL_VOTES, class_mask, similarity_map
from propagate.io.masks.given import as_mask
from propagate.io.masks.ids import check_object, check_size
from propagate.matching.cells import channel_statistics, join_colors, normalize
from propagate.matching.labels import labels_from_ids
from propagate.matching.matches import Matches
from propagate.matching.top_k import global_top_k
from propagate.matching.votes import propagate_labels
from propagate.records import Mask


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """How an instance is learned and found. Results of `segment` and `find` are saved with it.

    The first three were chosen on pairs of frames, at least 15 frames apart, of 24 clips. The
    values of `find` were chosen with `tiny` on 22 clips: the object of each first frame was
    searched for in the later halves of all clips.

    Attributes:
        voters: How many cells of the reference vote for a cell.
        temperature: Divides their cosines.
        smoothing_cells: Side of the square over which votes are averaged.
        ridge: Keeps the fitted log odds finite if the reference is separated without error.
        newton_steps: Steps of the fit.
        boundary: The value of a map at the boundary between instance and background.
        class_threshold: See `class_mask`, which finds the instance if there is no mask (eq. 3).
        official_votes: See `vote_map`, for `method="official"`.
        least_distance, most_distance: Bounds of `Target.distance`. A smaller distance
            comes from compression. A larger one means that the instance is a few cells unlike all
            others, which tells nothing about how the instance varies.
        appears_from: A picture with this score or more shows the instance.
        speck_share: Parts of a mask that are smaller than this share of its largest part are
            dropped, for `segment`.
    """

    voters: int = 10
    temperature: float = 0.02
    smoothing_cells: int = 3
    ridge: float = 1e-3
    newton_steps: int = 20
    boundary: float = 0.5
    class_threshold: float = CLASS_THRESHOLD
    official_votes: int = OFFICIAL_VOTES
    least_distance: float = 0.005
    most_distance: float = 0.2
    appears_from: float = 0.43
    speck_share: float = 0.02


INSTANCE_SETTINGS = InstanceSettings()


@dataclass(frozen=True, slots=True, eq=False)
class PictureFeatures:
    """The features of one picture.

    Attributes:
        appearance: (C, h, w), with the colours last if they count.
        semantic: (S, h, w), or None if no class is named.
        color_weight: How much colours count beside features; 0: there are none.
    """

    appearance: torch.Tensor
    semantic: torch.Tensor | None = None
    color_weight: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """What is known of an instance from its reference picture.

    Attributes:
        cells: (h, w, C) the cells of the reference, standardized, of length one.
        labels: (h, w, 2) the share of each cell that is background, and that is the instance.
        statistics: Mean and standard deviation of the reference's channels, (C,) each.
        appearance_odds: Factor and offset that turn the votes for a cell into log odds.
        token: (S,) of its class; None if none is named.
        semantic_odds: Factor and offset that turn S_S (eq. 6) into log odds.
    """

    cells: torch.Tensor
    labels: torch.Tensor
    statistics: tuple[torch.Tensor, torch.Tensor]
    appearance_odds: tuple[float, float]
    token: torch.Tensor | None = None
    semantic_odds: tuple[float, float] = (0.0, 0.0)


class _BothKinds:
    """A backbone that gives appearance and semantic features joined."""

    def __init__(self, backbone: Backbone) -> None:
        # `load_backbone` refuses such a model if classes are named; a caller may have named none.
        if not hasattr(backbone, "extract_both"):
            raise ModelError(
                f"model {backbone.name}: it takes no text",
                "leave the class name out, or pass another model",
            )
        self.extract_both = cast(SemanticBackbone, backbone).extract_both
        self.name, self.device = backbone.name, backbone.device
        self.stride, self.multiple = backbone.stride, backbone.multiple
        self.channels, self.reading = backbone.channels, backbone.reading

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.extract_both(images), dim=1)


def read_pictures(
    backbone: Backbone, config: Config, images: Sequence[np.ndarray], semantic: bool = False
) -> list[PictureFeatures]:
    """Compute the features of pictures at working size.

    Args:
        backbone: Computes them.
        config: The working size, and whether colours count.
        images: (H, W, 3) uint8 RGB each, of any size; consecutive ones of one size share a batch.
        semantic: Whether to compute semantic features too, in the same forward passes.

    Raises:
        ModelError: The model has no semantic features.
        DeviceError: Not even one picture fits into the device's memory.
    """
    source = _BothKinds(backbone) if semantic else backbone
    color_weight = config.matcher.cells.color_weight
    colors = COLOR_CHANNELS if color_weight else 0
    pictures: list[PictureFeatures] = []
    for _, group in groupby(images, key=lambda image: image.shape):
        for features in extract_features(source, config, list(group)):
            sizes = (backbone.channels, len(features) - backbone.channels - colors, colors)
            of_unet, of_text, of_color = features.split(sizes)
            appearance = torch.cat([of_unet, of_color])
            pictures.append(
                PictureFeatures(appearance, of_text if semantic else None, color_weight)
            )
    return pictures


def class_token(backbone: Backbone, class_name: str) -> torch.Tensor:
    """The named class as a semantic feature, (S,), of a backbone that was told of it.

    Raises:
        ValueError: It was told of others, or of none.
    """
    # `read_pictures` has refused a backbone that takes no text.
    tokens = cast(SemanticBackbone, backbone).class_tokens()
    if class_name not in tokens:
        raise ValueError(
            f"class_name: one that the backbone was loaded with ({', '.join(tokens) or 'none'}), "
            f"not {class_name!r}"
        )
    return tokens[class_name]


def label_reference(
    reference: PictureFeatures,
    size: tuple[int, int],
    mask: Mask | np.ndarray | None,
    token: torch.Tensor | None = None,
    class_name: str | None = None,
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Reduce the mask of a reference picture to its cells.

    Args:
        reference: Its features.
        size: (H, W) of the picture.
        mask: (H, W) ids, 255 void. None: one object, id 1, found by its class (eq. 3).
        token: (S,) of the class, needed without a mask.
        class_name: Of the class, for messages.

    Returns:
        (h, w, 1 + K) the share of each cell that is background and that is each object; they sum to
        less than one where there is void. And the K ids.

    Raises:
        MaskError: The mask cannot be used or has another size, or the class is not found.
    """
    if mask is None:
        assert token is not None
        assert reference.semantic is not None
        own = class_mask(reference.semantic, token, INSTANCE_SETTINGS.class_threshold).float()
        if not own.any():
            raise MaskError(f"class {class_name!r}: not found in the reference", "pass {mask}")
        return torch.stack([1 - own, own], dim=-1), (1,)
    mask = as_mask(mask, "mask of the reference")
    check_object(mask)
    check_size(mask, *size)
    ids = torch.from_numpy(mask.ids).to(reference.appearance.device)
    rows, columns = reference.appearance.shape[1:]
    return labels_from_ids(ids, list(mask.object_ids), (rows, columns), "share"), mask.object_ids


def learn_instance(
    reference: PictureFeatures,
    mask: torch.Tensor | None,
    token: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
) -> Instance:
    """Learn an instance from one picture of it.

    Args:
        reference: The picture.
        mask: (h, w) the share of each cell that is the instance, 0..1; None: found by its class
            (eq. 3).
        token: (S,) of its class, as `DiffusionBackbone.class_tokens` gives it; None: no class.
        background: (h, w) the share of each cell that is not the instance; None: the rest.

    Raises:
        ValueError: The mask is empty, there is neither a mask nor a token, or there is a token but
            there are no semantic features.
    """
    if token is not None and reference.semantic is None:
        raise ValueError("reference: needs semantic features if there is a token")
    if mask is None:
        if token is None or reference.semantic is None:
            raise ValueError("mask: needed without a token")
        mask = class_mask(reference.semantic, token, INSTANCE_SETTINGS.class_threshold).float()
    if not mask.any():
        raise ValueError("mask: no cell of the instance in it")
    labels = torch.stack([1 - mask if background is None else background, mask], dim=-1)
    statistics = channel_statistics(reference.appearance)
    cells = standardized_cells(reference, statistics)
    matches = _match_elsewhere(cells)
    voted = propagate_labels(matches, labels[None], INSTANCE_SETTINGS.temperature)
    votes = _smoothed(voted[..., 1])
    semantic_odds = (0.0, 0.0)
    if token is not None and reference.semantic is not None:
        semantic_odds = _fit_odds(similarity_map(reference.semantic, token), labels)
    return Instance(cells, labels, statistics, _fit_odds(votes, labels), token, semantic_odds)


def instance_map(picture: PictureFeatures, instance: Instance) -> torch.Tensor:
    """Estimate the probability that each cell of a picture is the instance.

    The most similar cells of the reference vote for each cell, so look-alikes in the background
    count against the instance. Eq. 7 then takes the mean of both maps, as log odds.

    Args:
        picture: Of any size; with semantic features if the instance has a token.
        instance: The instance to look for.

    Returns:
        (h, w) in 0..1; at 0.5 and above, a cell is more likely the instance than not.

    Raises:
        ValueError: The picture lacks semantic features.
    """
    cells = standardized_cells(picture, instance.statistics)
    matches = global_top_k(cells.flatten(0, 1), instance.cells[None], INSTANCE_SETTINGS.voters)
    votes = propagate_labels(matches, instance.labels[None], INSTANCE_SETTINGS.temperature)[:, 1]
    odds = _log_odds(_smoothed(votes.view(cells.shape[:2])), instance.appearance_odds)
    if instance.token is not None:
        if picture.semantic is None:
            raise ValueError("picture: needs semantic features, because the instance has a token")
        s_s = similarity_map(picture.semantic, instance.token)
        odds = (odds + _log_odds(s_s, instance.semantic_odds)) / 2
    return odds.sigmoid()


def standardized_cells(
    picture: PictureFeatures, statistics: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Standardize cells and bring them to length one: (h, w, C)."""
    if not picture.color_weight:
        return normalize(picture.appearance, *statistics)
    sizes = (len(picture.appearance) - COLOR_CHANNELS, COLOR_CHANNELS)
    of_unet, of_color = zip(
        *(part.split(sizes) for part in (picture.appearance, *statistics)), strict=True
    )
    return join_colors(normalize(*of_unet), normalize(*of_color), picture.color_weight)


def _match_elsewhere(cells: torch.Tensor) -> Matches:
    """Match each cell (h, w, C) with the rest of its picture: (h, w, k).

    The cell itself and the cells around it do not count: in another picture, no match is as close.
    """
    height, width, _ = cells.shape
    keys = cells.flatten(0, 1).T  # (C, N)
    place = torch.arange(width, device=cells.device)
    near = (place[:, None, None] - place).abs() <= 1  # (w, 1, w)
    found = []
    for y, row in enumerate(cells):
        similarity = (row @ keys).view(width, height, width)
        similarity[:, max(0, y - 1) : y + 2].masked_fill_(near, -torch.inf)
        found.append(similarity.flatten(1).topk(min(INSTANCE_SETTINGS.voters, height * width)))
    values, places = zip(*found, strict=True)
    return Matches(torch.stack(values), torch.stack(places))


def _smoothed(votes: torch.Tensor) -> torch.Tensor:
    """Average a map (h, w) over the cells around each."""
    side = INSTANCE_SETTINGS.smoothing_cells
    pooled = F.avg_pool2d(votes[None, None], side, 1, side // 2, count_include_pad=False)
    return pooled[0, 0]


def _fit_odds(values: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Fit log odds to a map of the reference: logistic regression by Newton's method.

    The target of each cell is the share of it that is the instance, so 0.5 lies on the outline.
    Instance and background are weighted by the square roots of their areas. Equal weights of all
    cells would lose small instances; equal weights of both sides would let them grow.

    Args:
        values: (h, w).
        labels: (h, w, 2), background first.

    Returns:
        Factor and offset.
    """
    spread, mean = torch.std_mean(values.double(), correction=0)
    spread = spread.clamp_min(1e-6)
    scaled = (values.double().flatten() - mean) / spread
    design = torch.stack([scaled, torch.ones_like(scaled)], dim=1)  # (N, 2)
    areas = labels.double().flatten(0, 1)  # (N, 2)
    weighted = areas / areas.sum(0).clamp_min(1e-6).sqrt()
    weighted = weighted / weighted.sum()
    weight = weighted.sum(1)
    positive = weight * areas[:, 1] / areas.sum(1).clamp_min(1e-6)
    ridge = INSTANCE_SETTINGS.ridge * torch.eye(2).to(design)
    odds = design.new_zeros(2)
    for _ in range(INSTANCE_SETTINGS.newton_steps):
        p = (design @ odds).sigmoid()
        slope = design.T @ (weight * p - positive) + ridge @ odds
        curvature = (design.T * (weight * p * (1 - p))) @ design + ridge
        odds = odds - torch.linalg.solve(curvature, slope)
    factor = float(odds[0] / spread)
    return factor, float(odds[1]) - factor * float(mean)


def _log_odds(values: torch.Tensor, odds: tuple[float, float]) -> torch.Tensor:
    return values * odds[0] + odds[1]
