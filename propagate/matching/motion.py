"""Where objects are heading: what tells two that look alike apart when they meet.

The letters of shapes are those of `matching.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from propagate.matching.cells import centre

# Objects contest a cell if none of them has more than this share of what they have together.
CONTESTED_SHARE = 0.7
# What an object may claim where nobody expected it, beside one that was expected there.
UNEXPECTED = 0.1
# An object of which more than this share is expected to overlap with others, and more than this
# share of its cells is contested, is not clearly seen: it may be hidden.
UNCLEAR_SHARE = 0.1
# How fast the velocity follows what is seen.
VELOCITY_RATE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How an object moves.

    Attributes:
        shape: (h, w) its soft label when it was last clearly seen, zero where another one won.
        origin: (y, x) of the centre of `shape`, in cells.
        centre: (y, x) where it is thought to be.
        velocity: (y, x) in cells per frame.
    """

    shape: torch.Tensor
    origin: torch.Tensor
    centre: torch.Tensor
    velocity: torch.Tensor

    @classmethod
    def begin(cls, shape: torch.Tensor) -> "Motion":
        """An object seen for the first time, at rest."""
        here = centre(shape)
        return cls(shape, here, here, torch.zeros_like(here))

    def expected(self) -> torch.Tensor:
        """Where it is in the next frame if it goes on as it went: (h, w), peaking at one."""
        height, width = self.shape.shape
        y, x = self.centre + self.velocity - self.origin
        device = self.shape.device
        rows = (torch.arange(height, device=device) - y + 0.5) * 2 / height - 1
        columns = (torch.arange(width, device=device) - x + 0.5) * 2 / width - 1
        grid = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)
        moved = F.grid_sample(self.shape[None, None], grid[None], align_corners=False)
        # A motion is known to about a cell; a thin object has as much right to its place as others.
        blurred = F.avg_pool2d(moved, 3, stride=1, padding=1)[0, 0]
        return blurred / blurred.amax().clamp_min(1e-6)

    def seen(self, shape: torch.Tensor) -> "Motion":
        """After a frame in which it was clearly seen, as (h, w)."""
        here = centre(shape)
        surprise = here - self.centre - self.velocity
        return Motion(shape, here, here, self.velocity + VELOCITY_RATE * surprise)

    def unseen(self) -> "Motion":
        """After a frame in which it was not: it went on as it went."""
        return replace(self, centre=self.centre + self.velocity)


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What motion says of a frame before it is known.

    Attributes:
        expectations: (h, w, K) where each object is expected, 0..1.
        contested: (h, w) bool, cells of which objects have about as much to say as one another.
    """

    expectations: torch.Tensor
    contested: torch.Tensor


def held(labels: torch.Tensor, label: int) -> torch.Tensor:
    """The soft label (h, w) of (h, w, L) where it is the largest, zero elsewhere."""
    return torch.where(labels.argmax(-1) == label, labels[..., label], 0)


def settled(labels: torch.Tensor, outlook: Outlook, votes: torch.Tensor) -> torch.Tensor:
    """Give contested cells to the objects that are expected there.

    Args:
        labels: (h, w, L) as matched, background first.
        outlook: Of the frame.
        votes: (h, w, L) by likeness alone, by which the objects claim what is contested.

    Returns:
        (h, w, L): the share that all objects have together of a cell stays as it is.
    """
    objects = labels[..., 1:]
    together = objects.sum(-1, keepdim=True)
    claims = votes[..., 1:] * (UNEXPECTED + outlook.expectations)
    shares = claims / claims.sum(-1, keepdim=True).clamp_min(1e-9) * together
    shares = torch.where(outlook.contested[..., None], shares, objects)
    return torch.cat([labels[..., :1], shares], dim=-1)


class Motions:
    """The motions of all objects of a video."""

    def __init__(self) -> None:
        """Begin without objects."""
        self._motions: dict[int, Motion] = {}

    def begin(self, object_ids: Sequence[int], labels: torch.Tensor, given: Sequence[int]) -> None:
        """Take in a frame on which some objects are given: they begin anew, at rest.

        Args:
            object_ids: K ids.
            labels: (h, w, L) of the frame.
            given: Some of the ids.
        """
        for object_id in given:
            own = held(labels, object_ids.index(object_id) + 1)
            self._motions[object_id] = Motion.begin(own)

    def forget(self, object_id: int) -> None:
        """Drop an object."""
        del self._motions[object_id]

    def outlook(self, object_ids: Sequence[int], labels: torch.Tensor) -> Outlook:
        """Say where each of K objects is expected, and which cells of (h, w, L) labels need it."""
        expectations = torch.stack([self._motions[i].expected() for i in object_ids], dim=-1)
        objects = labels[..., 1:]
        contested = objects.amax(-1) < CONTESTED_SHARE * objects.sum(-1)
        return Outlook(expectations, contested)

    def follow(
        self,
        object_ids: Sequence[int],
        labels: torch.Tensor,
        outlook: Outlook,
    ) -> None:
        """Take in where the objects are.

        One that others overlapped and contested goes on as it went; one that is nowhere near where
        it was expected begins anew.

        Args:
            object_ids: K ids.
            labels: (h, w, L) of the frame, settled.
            outlook: What was expected of it.
        """
        total = outlook.expectations.sum(-1)
        for i, object_id in enumerate(object_ids):
            own, motion = held(labels, i + 1), self._motions[object_id]
            here = outlook.expectations[..., i]
            overlap = torch.minimum(here, total - here).sum()
            is_hidden = (overlap > UNCLEAR_SHARE * here.sum()) & (
                (own * outlook.contested).sum() > UNCLEAR_SHARE * own.sum()
            )
            if is_hidden or not own.any():
                self._motions[object_id] = motion.unseen()
            elif torch.minimum(own, here).any():
                self._motions[object_id] = motion.seen(own)
            else:
                self._motions[object_id] = Motion.begin(own)

    def turn(self) -> None:
        """Let time run backwards."""
        self._motions = {
            object_id: replace(motion, velocity=-motion.velocity)
            for object_id, motion in self._motions.items()
        }

    def state_dict(self) -> dict[int, tuple[torch.Tensor, ...]]:
        """The motions as tensors that `torch.save` writes and `load_state_dict` takes."""
        return {
            object_id: (motion.shape, motion.origin, motion.centre, motion.velocity)
            for object_id, motion in self._motions.items()
        }

    def load_state_dict(self, state: Mapping[int, Any]) -> None:
        """Replace what is known by a saved state."""
        self._motions = {object_id: Motion(*motion) for object_id, motion in state.items()}
