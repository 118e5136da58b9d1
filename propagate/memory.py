"""The temporal memory: reference frames for ever, recent frames up to a bound."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """Frames of the memory, stacked.

    Attributes:
        features: (M, h, w, C), normalised.
        labels: (M, h, w, L) soft labels, background first.
    """

    features: torch.Tensor
    labels: torch.Tensor


class TemporalMemory:
    """What is remembered of a video: the only state of a propagation besides the object ids.

    It holds every reference frame it is given and the last `recent_frames` others; its size in
    bytes stands still once those are full.
    """

    def __init__(self, recent_frames: int) -> None:
        """Make an empty memory.

        Args:
            recent_frames: Frames kept besides the references; the oldest leaves first.
        """
        self._references: list[Remembered] = []
        self._recent: deque[Remembered] = deque(maxlen=recent_frames)

    def __len__(self) -> int:
        """Frames remembered."""
        return len(self._references) + len(self._recent)

    @property
    def nbytes(self) -> int:
        """Bytes of the features and labels held. A frame held twice counts once."""
        held = {id(r): r for r in (*self._references, *self._recent)}
        return sum(r.features.nbytes + r.labels.nbytes for r in held.values())

    def add_reference(self, features: torch.Tensor, labels: torch.Tensor, copies: int = 0) -> None:
        """Remember a frame with given labels for ever.

        Args:
            features: (h, w, C), normalised.
            labels: (h, w, L).
            copies: How many places among the recent frames it takes as well (CRW's warm-up).
        """
        entry = Remembered(features, labels)
        self._references.append(entry)
        self._recent.extend([entry] * copies)

    def add_recent(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Remember a frame until `recent_frames` newer ones have come."""
        self._recent.append(Remembered(features, labels))

    def widen(self, count: int) -> None:
        """Make room for labels up to `count`; no remembered cell carries the new ones."""

        def widened(entry: Remembered) -> Remembered:
            missing = count - entry.labels.shape[-1]
            return Remembered(entry.features, F.pad(entry.labels, (0, missing)))

        self._references = [widened(entry) for entry in self._references]
        self._recent = deque((widened(entry) for entry in self._recent), self._recent.maxlen)

    def relabel(self, labels: torch.Tensor) -> None:
        """Give every remembered frame new labels: (M, h, w, L), in the order of `read`."""
        count = len(self._references)
        fresh = [
            Remembered(entry.features, new)
            for entry, new in zip([*self._references, *self._recent], labels, strict=True)
        ]
        self._references = fresh[:count]
        self._recent = deque(fresh[count:], self._recent.maxlen)

    @property
    def reference_count(self) -> int:
        """How many of the frames that `read` gives, from the front, are references."""
        return len(self._references)

    def read(self) -> Remembered:
        """Stack all frames: the references in the order given, then the recent, oldest first.

        Raises:
            ValueError: The memory is empty.
        """
        entries = [*self._references, *self._recent]
        if not entries:
            raise ValueError("the memory is empty: add a reference first")
        return Remembered(
            torch.stack([entry.features for entry in entries]),
            torch.stack([entry.labels for entry in entries]),
        )

    def state_dict(self) -> dict[str, Any]:
        """The memory as tensors that `torch.save` writes and `load_state_dict` takes."""
        return {
            "references": [(entry.features, entry.labels) for entry in self._references],
            "recent": [(entry.features, entry.labels) for entry in self._recent],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace what is remembered by a saved state."""
        self._references = [Remembered(*entry) for entry in state["references"]]
        self._recent = deque((Remembered(*e) for e in state["recent"]), self._recent.maxlen)
