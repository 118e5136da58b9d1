"""Whether a picture shows an instance: a score that means the same whatever the model."""

from dataclasses import dataclass

import torch

from propagate.images.instance import (
    INSTANCE_SETTINGS,
    Instance,
    PictureFeatures,
    standardized_cells,
)
from propagate.matching.top_k import global_top_k

# Cells of an instance that are compared with the reference at once.
OWN_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An instance to search for. Made by `learn_target`.

    Attributes:
        instance: What is known of it.
        own: (n, C) its cells.
        distance: One minus the cosine of such a cell and the most alike other one of its picture.
    """

    instance: Instance
    own: torch.Tensor
    distance: float

    def score(self, picture: PictureFeatures) -> float:
        """Estimate how much of the instance a picture shows, 0..1.

        Each cell of the instance is compared with the most similar cell of the picture. Their mean
        distance, one minus the cosine, is weighed against that within the reference, so that the
        score means the same whatever the model. 1: nothing differs. 0.5: no more differs than
        within the reference. 0.43: a third as much again.
        """
        cells = standardized_cells(picture, self.instance.statistics)  # (h, w, C)
        cosines, _ = global_top_k(self.own, cells[None], 1)  # (n, 1)
        # Rounding can make the cosine of two equal cells larger than one.
        distance = max(0.0, 1 - float(cosines.mean()))
        return self.distance / (self.distance + distance)


def learn_target(instance: Instance) -> Target:
    """Measure on the reference how different cells of the same kind are.

    Each cell of the instance is compared with the whole reference, itself and the cells around it
    left out: no other picture has a match as close as those.
    """
    carried = instance.labels[..., 1]  # (h, w)
    places = (carried >= 0.5 * carried.max()).nonzero()  # (n, 2)
    height, width = carried.shape
    rows = torch.arange(height, device=places.device)
    columns = torch.arange(width, device=places.device)
    best = []
    for part in places.split(OWN_AT_ONCE):
        own = instance.cells[part[:, 0], part[:, 1]]
        similarity = torch.einsum("nc,hwc->nhw", own, instance.cells)
        near_rows = (rows - part[:, :1]).abs() <= 1  # (n, h)
        near_columns = (columns - part[:, 1:]).abs() <= 1  # (n, w)
        similarity.masked_fill_(near_rows[:, :, None] & near_columns[:, None], -torch.inf)
        best.append(similarity.flatten(1).amax(1))
    distance = 1 - float(torch.cat(best).mean())
    bounded = min(max(distance, INSTANCE_SETTINGS.least_distance), INSTANCE_SETTINGS.most_distance)
    return Target(instance, instance.cells[places[:, 0], places[:, 1]], bounded)
