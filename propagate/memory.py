"""The temporal memory: reference frames for ever, others up to a bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What the memory gives.

    Attributes:
        features: M frames (h, w, C), normalised.
        labels: (M, h, w, L) soft labels, background first.
    """

    features: tuple[torch.Tensor, ...]
    labels: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A frame: features (h, w, C), soft labels (h, w, L), its number among those that came."""

    features: torch.Tensor
    labels: torch.Tensor
    number: int = 0


class TemporalMemory:
    """What is remembered of a video: the only state of a propagation besides the object ids.

    It holds every reference frame it is given, the last `recent_frames` others, and of those before
    them one for each of `older_every`; its size in bytes stands still once it is full.
    """

    def __init__(self, recent_frames: int, older_every: Sequence[int] = ()) -> None:
        """Make an empty memory.

        Args:
            recent_frames: Frames kept besides the references; the oldest leaves first.
            older_every: For each of these numbers, each a multiple of the one before, one frame
                more: the newest of every so many that is older than those. What was matched long
                ago has drifted less.
        """
        self._recent_frames = recent_frames
        self._older_every = tuple(older_every)
        self._references: list[_Entry] = []
        self._others: list[_Entry] = []
        self._count = 0

    def __len__(self) -> int:
        """Frames remembered."""
        return len(self._references) + len(self._others)

    @property
    def nbytes(self) -> int:
        """Bytes of the features and labels held. A frame held twice counts once."""
        tensors = [t for e in (*self._references, *self._others) for t in (e.features, e.labels)]
        return sum(tensor.nbytes for tensor in {id(t): t for t in tensors}.values())

    def add_reference(self, features: torch.Tensor, labels: torch.Tensor, copies: int = 0) -> None:
        """Remember a frame with given labels for ever.

        Args:
            features: (h, w, C), normalised.
            labels: (h, w, L).
            copies: How many places among the recent frames it takes as well (CRW's warm-up).
        """
        self._references.append(_Entry(features, labels))
        for _ in range(copies):
            self.add_recent(features, labels)

    def add_recent(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Remember a frame until newer ones take its places."""
        newest = self._count
        self._count += 1
        kept = {newest - age for age in range(self._recent_frames)}
        oldest = newest - self._recent_frames + 1
        for every in self._older_every:
            oldest = (oldest - 1) // every * every
            kept.add(oldest)
        entries = [*self._others, _Entry(features, labels, newest)]
        self._others = [entry for entry in entries if entry.number in kept]

    def widen(self, count: int) -> None:
        """Make room for labels up to `count`; no remembered cell carries the new ones."""

        def widened(entry: _Entry) -> _Entry:
            missing = count - entry.labels.shape[-1]
            return replace(entry, labels=F.pad(entry.labels, (0, missing)))

        self._references = [widened(entry) for entry in self._references]
        self._others = [widened(entry) for entry in self._others]

    def relabel(self, labels: torch.Tensor) -> None:
        """Give every remembered frame new labels: (M, h, w, L), in the order of `read`."""
        count = len(self._references)
        fresh = [
            replace(entry, labels=new)
            for entry, new in zip([*self._references, *self._others], labels, strict=True)
        ]
        self._references, self._others = fresh[:count], fresh[count:]

    @property
    def reference_count(self) -> int:
        """How many of the frames that `read` gives, from the front, are references."""
        return len(self._references)

    def read(self) -> Remembered:
        """Give all frames: the references in the order given, then the others, oldest first.

        Raises:
            ValueError: The memory is empty.
        """
        entries = [*self._references, *self._others]
        if not entries:
            raise ValueError("the memory is empty: add a reference first")
        return Remembered(
            tuple(entry.features for entry in entries),
            torch.stack([entry.labels for entry in entries]),
        )

    def state_dict(self) -> dict[str, Any]:
        """The memory as tensors that `torch.save` writes and `load_state_dict` takes."""
        return {
            "references": [(entry.features, entry.labels) for entry in self._references],
            "recent": [(entry.features, entry.labels) for entry in self._others],
            "numbers": [entry.number for entry in self._others],
            "count": self._count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace what is remembered by a saved state."""
        self._references = [_Entry(*entry) for entry in state["references"]]
        self._others = [
            _Entry(features, labels, number)
            for (features, labels), number in zip(state["recent"], state["numbers"], strict=True)
        ]
        self._count = state["count"]
