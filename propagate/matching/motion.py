"""Motion: where objects are expected, to tell two look-alikes apart when they meet.

Shapes: see `cells.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from propagate.matchers import MotionSettings
from propagate.matching.cells import centroid
from propagate.matching.votes import Votes


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How an object moves.

    Attributes:
        shape: (h, w) its soft label when it was last clearly seen, zero where another label won.
        origin: (y, x) the centroid of `shape`, in cells.
        position: (y, x) where its centroid is thought to be now.
        velocity: (y, x) in cells per frame.
    """

    shape: torch.Tensor
    origin: torch.Tensor
    position: torch.Tensor
    velocity: torch.Tensor

    @classmethod
    def at_rest(cls, shape: torch.Tensor) -> "Motion":
        """Start with an object seen for the first time."""
        here = centroid(shape)
        return cls(shape, here, here, torch.zeros_like(here))

    def expected(self) -> torch.Tensor:
        """Predict where the object is in the next frame: (h, w), with a peak of one."""
        height, width = self.shape.shape
        y, x = self.position + self.velocity - self.origin
        device = self.shape.device
        rows = (torch.arange(height, device=device) - y + 0.5) * 2 / height - 1
        columns = (torch.arange(width, device=device) - x + 0.5) * 2 / width - 1
        grid = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)
        moved = F.grid_sample(self.shape[None, None], grid[None], align_corners=False)
        # The position is known to about a cell. Scaling the peak to one gives a thin object the
        # same claim to its place as a large one.
        blurred = F.avg_pool2d(moved, 3, stride=1, padding=1)[0, 0]
        return blurred / blurred.amax().clamp_min(1e-6)

    def seen(self, shape: torch.Tensor, velocity_rate: float) -> "Motion":
        """Continue after a frame in which the object was clearly seen, as (h, w)."""
        here = centroid(shape)
        error = here - self.position - self.velocity
        return Motion(shape, here, here, self.velocity + velocity_rate * error)

    def unseen(self) -> "Motion":
        """Continue after a frame in which it was not clearly seen: it kept its velocity."""
        return replace(self, position=self.position + self.velocity)

    def reversed(self) -> "Motion":
        """The same motion in reversed time."""
        return replace(self, velocity=-self.velocity)


@dataclass(frozen=True, slots=True, eq=False)
class MotionPrior:
    """What motion says about a frame before its labels are settled.

    Attributes:
        expected: (h, w, K) where each object is expected, 0..1.
        contested: (h, w) bool, cells that no object clearly holds against the others.
    """

    expected: torch.Tensor
    contested: torch.Tensor


def winning(labels: torch.Tensor, label: int) -> torch.Tensor:
    """The soft label (h, w) of (h, w, L) where it is the largest, zero elsewhere."""
    return torch.where(labels.argmax(-1) == label, labels[..., label], 0)


def predict_motion(
    motions: Sequence[Motion], votes: Votes, settings: MotionSettings | None
) -> MotionPrior | None:
    """Say where K objects are expected, and which cells they contest.

    Cells that look alike count as contested even if flow is clear, because flow cannot tell which
    object was hidden.
    """
    if settings is None:
        return None
    expected = torch.stack([motion.expected() for motion in motions], dim=-1)
    objects = votes.by_similarity[..., 1:]
    contested = objects.amax(-1) < settings.contested_share * objects.sum(-1)
    return MotionPrior(expected, contested)


def settle_contested(
    votes: Votes, prior: MotionPrior | None, settings: MotionSettings | None
) -> torch.Tensor:
    """Give contested cells to the objects that are expected there.

    Returns:
        (h, w, L) soft labels. The objects' combined share of a cell is unchanged.
    """
    if prior is None or settings is None:
        return votes.labels
    objects = votes.labels[..., 1:]
    together = objects.sum(-1, keepdim=True)
    claims = votes.by_similarity[..., 1:] * (settings.unexpected + prior.expected)
    shares = claims / claims.sum(-1, keepdim=True).clamp_min(1e-9) * together
    shares = torch.where(prior.contested[..., None], shares, objects)
    return torch.cat([votes.labels[..., :1], shares], dim=-1)


def update_motion(
    motions: Sequence[Motion],
    labels: torch.Tensor,
    prior: MotionPrior | None,
    settings: MotionSettings | None,
) -> tuple[Motion, ...]:
    """Update the motions of K objects with the labels of a frame.

    An object that is overlapped and contested by others keeps its velocity. One that is nowhere
    near where it was expected starts again, at rest.

    Args:
        motions: Before this frame.
        labels: (h, w, L) of the frame, settled.
        prior: What was expected of the frame.
        settings: None: motions do not count, and stay as they are.
    """
    if prior is None or settings is None:
        return tuple(motions)
    total = prior.expected.sum(-1)
    followed = []
    for i, motion in enumerate(motions):
        own, here = winning(labels, i + 1), prior.expected[..., i]
        overlap = torch.minimum(here, total - here).sum()
        is_hidden = (overlap > settings.unclear_share * here.sum()) & (
            (own * prior.contested).sum() > settings.unclear_share * own.sum()
        )
        if is_hidden or not own.any():
            followed.append(motion.unseen())
        elif torch.minimum(own, here).any():
            followed.append(motion.seen(own, settings.velocity_rate))
        else:
            followed.append(Motion.at_rest(own))
    return tuple(followed)
