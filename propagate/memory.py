"""The temporal memory: reference frames for ever, others up to a bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from propagate.matching.subcell import Quarters


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What the memory gives.

    Attributes:
        features: M frames (h, w, C), normalised.
        labels: (M, h, w, L) soft labels, background first.
        quarters: Of the same frames, or none.
    """

    features: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    quarters: tuple[Quarters, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A frame: features (h, w, C), soft labels (h, w, L), its number among those that came.

    `flow`, (h, w, 2), leads to it from the last frame seen; None: it is that frame.
    """

    features: torch.Tensor
    labels: torch.Tensor
    quarters: Quarters | None = None
    flow: torch.Tensor | None = None
    number: int = 0

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """All that is held."""
        quarters = self.quarters
        fine = (None, None) if quarters is None else (quarters.colors, quarters.labels)
        return self.features, self.labels, self.flow, *fine

    def relabelled(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "_Entry":
        """The same frame with other labels, (..., L) of cells and of quarters alike."""
        quarters = self.quarters
        if quarters is not None:
            quarters = replace(quarters, labels=change(quarters.labels))
        return replace(self, labels=change(self.labels), quarters=quarters)


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
        tensors = [tensor for entry in self._entries for tensor in entry.tensors]
        return sum(t.nbytes for t in {id(t): t for t in tensors}.values() if t is not None)

    @property
    def _entries(self) -> list[_Entry]:
        return [*self._references, *self._others]

    def add_reference(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        quarters: Quarters | None = None,
        copies: int = 0,
    ) -> None:
        """Remember a frame with given labels for ever.

        Args:
            features: (h, w, C), normalised.
            labels: (h, w, L).
            quarters: Of the same frame; of all frames or of none.
            copies: How many places among the recent frames it takes as well (CRW's warm-up).
        """
        self._references.append(_Entry(features, labels, quarters))
        for _ in range(copies):
            self.add_recent(features, labels, quarters)

    def add_recent(
        self, features: torch.Tensor, labels: torch.Tensor, quarters: Quarters | None = None
    ) -> None:
        """Remember a frame until newer ones take its places."""
        newest = self._count
        self._count += 1
        kept = {newest - age for age in range(self._recent_frames)}
        oldest = newest - self._recent_frames + 1
        for every in self._older_every:
            oldest = (oldest - 1) // every * every
            kept.add(oldest)
        entries = [*self._others, _Entry(features, labels, quarters, number=newest)]
        self._others = [entry for entry in entries if entry.number in kept]

    def widen(self, count: int) -> None:
        """Make room for labels up to `count`; no remembered cell carries the new ones."""
        self.relabel(lambda labels: F.pad(labels, (0, count - labels.shape[-1])))

    def relabel(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Give every remembered frame other labels: those that `change` makes of its (..., L)."""
        self._replace([entry.relabelled(change) for entry in self._entries])

    def make_void(self, cells: Sequence[torch.Tensor]) -> None:
        """Take all labels from some cells, (h, w) bool for each frame in the order of `read`."""

        def voided(entry: _Entry, void: torch.Tensor) -> _Entry:
            def change(labels: torch.Tensor) -> torch.Tensor:
                times = labels.shape[0] // void.shape[0]
                spread = void.repeat_interleave(times, 0).repeat_interleave(times, 1)
                return labels.masked_fill(spread[..., None], 0)

            return entry.relabelled(change)

        self._replace([voided(e, void) for e, void in zip(self._entries, cells, strict=True)])

    def flows(self) -> torch.Tensor:
        """Flows (M, h, w, 2) from the last frame seen to each, in the order of `read`."""

        def flow(entry: _Entry) -> torch.Tensor:
            return entry.features.new_zeros(*entry.features.shape[:2], 2)

        return torch.stack([flow(e) if e.flow is None else e.flow for e in self._entries])

    def set_flows(self, flows: torch.Tensor) -> None:
        """Replace what `flows` gives: another frame was seen, from which it now leads."""
        self._replace([replace(e, flow=f) for e, f in zip(self._entries, flows, strict=True)])

    def _replace(self, entries: list[_Entry]) -> None:
        count = len(self._references)
        self._references, self._others = entries[:count], entries[count:]

    @property
    def reference_count(self) -> int:
        """How many of the frames that `read` gives, from the front, are references."""
        return len(self._references)

    def read(self) -> Remembered:
        """Give all frames: the references in the order given, then the others, oldest first.

        Raises:
            ValueError: The memory is empty.
        """
        entries = self._entries
        if not entries:
            raise ValueError("the memory is empty: add a reference first")
        return Remembered(
            tuple(entry.features for entry in entries),
            torch.stack([entry.labels for entry in entries]),
            tuple(entry.quarters for entry in entries if entry.quarters is not None),
        )

    def state_dict(self) -> dict[str, Any]:
        """The memory as tensors that `torch.save` writes and `load_state_dict` takes."""
        return {
            "references": [entry.tensors for entry in self._references],
            "recent": [entry.tensors for entry in self._others],
            "numbers": [entry.number for entry in self._others],
            "count": self._count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace what is remembered by a saved state."""

        def entry(
            features: torch.Tensor,
            labels: torch.Tensor,
            flow: torch.Tensor | None,
            colors: torch.Tensor | None,
            fine: torch.Tensor | None,
            number: int = 0,
        ) -> _Entry:
            quarters = None if colors is None or fine is None else Quarters(colors, fine)
            return _Entry(features, labels, quarters, flow, number)

        self._references = [entry(*tensors) for tensors in state["references"]]
        self._others = [
            entry(*tensors, number=number)
            for tensors, number in zip(state["recent"], state["numbers"], strict=True)
        ]
        self._count = state["count"]
