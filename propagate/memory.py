"""The temporal memory: all reference frames, and other frames up to a bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from propagate.matchers import MemorySettings
from propagate.matching.cells import FrameCells, RememberedFrames, Subcells


@dataclass(frozen=True, slots=True, eq=False)
class MemoryEntry:
    """One remembered frame.

    Attributes:
        cells: (h, w, C).
        labels: (h, w, L) soft labels.
        subcells: The same frame on the 2x subcell grid, or None.
        semantic: (h, w, N) semantic maps of a reference frame; None for other frames.
        flow: (h, w, 2) from the last frame to this one; None if it is the last frame.
        number: Among the frames that were not references, from 0.
    """

    cells: torch.Tensor
    labels: torch.Tensor
    subcells: Subcells | None = None
    semantic: torch.Tensor | None = None
    flow: torch.Tensor | None = None
    number: int = 0

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """All tensors, in a fixed order."""
        fine = self.subcells
        colors, fine_labels = (None, None) if fine is None else (fine.colors, fine.labels)
        return self.cells, self.labels, colors, fine_labels, self.semantic, self.flow

    @classmethod
    def from_tensors(cls, tensors: Sequence[torch.Tensor | None], number: int) -> "MemoryEntry":
        """Make an entry of what `tensors` gave."""
        cells, labels, colors, fine_labels, semantic, flow = tensors
        if cells is None or labels is None:
            raise ValueError("a remembered frame has cells and labels")
        subcells = None
        if colors is not None and fine_labels is not None:
            subcells = Subcells(colors, fine_labels)
        return cls(cells, labels, subcells, semantic, flow, number)

    def relabelled(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "MemoryEntry":
        """Change the labels (..., L) of cells and of subcells alike."""
        subcells = self.subcells
        if subcells is not None:
            subcells = Subcells(subcells.colors, change(subcells.labels))
        return replace(self, labels=change(self.labels), subcells=subcells)

    def voided(self, void: torch.Tensor) -> "MemoryEntry":
        """Take all labels from the cells marked in (h, w) bool, and from their subcells."""

        def change(labels: torch.Tensor) -> torch.Tensor:
            times = labels.shape[0] // void.shape[0]
            spread = void.repeat_interleave(times, 0).repeat_interleave(times, 1)
            return labels.masked_fill(spread[..., None], 0)

        return self.relabelled(change)


@dataclass(frozen=True, slots=True, eq=False)
class TemporalMemory:
    """Remembered frames. A change makes a new memory, which shares the tensors of the old one.

    It keeps every reference frame, the last `recent_frames` other frames, and one older frame for
    each of `older_every`. So its size in bytes stops growing once it is full.

    Attributes:
        settings: Which frames are kept.
        references: The reference frames, in the order given.
        others: Other frames, oldest first.
        count: How many frames that were not references have been added.
    """

    settings: MemorySettings
    references: tuple[MemoryEntry, ...] = ()
    others: tuple[MemoryEntry, ...] = ()
    count: int = 0

    def __len__(self) -> int:
        """Frames remembered."""
        return len(self.entries)

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        """All frames, in the order of `read`."""
        return self.references + self.others

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors. A frame that is held twice counts once."""
        tensors = [tensor for entry in self.entries for tensor in entry.tensors]
        return sum(t.nbytes for t in {id(t): t for t in tensors}.values() if t is not None)

    def read(self) -> RememberedFrames:
        """Give all frames: the references in the order given, then the others, oldest first.

        Raises:
            ValueError: The memory is empty.
        """
        entries = self.entries
        if not entries:
            raise ValueError("the memory is empty: add a reference first")
        nowhere = entries[0].cells.new_zeros(*entries[0].cells.shape[:2], 2)
        semantic = [e.semantic for e in self.references if e.semantic is not None]
        return RememberedFrames(
            cells=tuple(entry.cells for entry in entries),
            labels=torch.stack([entry.labels for entry in entries]),
            reference_count=len(self.references),
            flows=torch.stack([nowhere if e.flow is None else e.flow for e in entries]),
            subcells=tuple(entry.subcells for entry in entries if entry.subcells is not None),
            semantic=torch.stack(semantic) if semantic else nowhere[None, ..., :0],
        )

    def with_reference(
        self, frame: FrameCells, labels: torch.Tensor, subcells: Subcells | None = None
    ) -> "TemporalMemory":
        """Remember a frame with given labels for ever.

        Args:
            frame: The frame.
            labels: (h, w, L).
            subcells: Of the same frame; of all frames or of none.
        """
        entry = MemoryEntry(frame.cells, labels, subcells, frame.semantic)
        memory = replace(self, references=(*self.references, entry))
        has_objects = labels.shape[-1] > 1
        if self.settings.repeat_reference and not self.others and has_objects:
            for _ in range(self.settings.recent_frames):
                memory = memory.with_recent(frame, labels, subcells)
        return memory

    def with_recent(
        self, frame: FrameCells, labels: torch.Tensor, subcells: Subcells | None = None
    ) -> "TemporalMemory":
        """Remember a frame until newer frames take its place. See `with_reference`."""
        newest = self.count
        recent_frames = self.settings.recent_frames
        kept = {newest - age for age in range(recent_frames)}
        oldest = newest - recent_frames + 1
        for every in self.settings.older_every:
            oldest = (oldest - 1) // every * every
            kept.add(oldest)
        entries = *self.others, MemoryEntry(frame.cells, labels, subcells, number=newest)
        others = tuple(entry for entry in entries if entry.number in kept)
        return replace(self, others=others, count=newest + 1)

    def with_flows(self, flows: torch.Tensor) -> "TemporalMemory":
        """Replace the flows, (M, h, w, 2) in the order of `read`: they start at a newer frame."""
        changed = zip(self.entries, flows, strict=True)
        return self._with_entries([replace(entry, flow=flow) for entry, flow in changed])

    def widened(self, count: int) -> "TemporalMemory":
        """Make room for labels up to `count`; no remembered cell has the new ones."""
        return self.relabelled(lambda labels: F.pad(labels, (0, count - labels.shape[-1])))

    def relabelled(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "TemporalMemory":
        """Change the labels (..., L) of every remembered frame."""
        return self._with_entries([entry.relabelled(change) for entry in self.entries])

    def voided(self, cells: Sequence[torch.Tensor]) -> "TemporalMemory":
        """Take all labels from some cells, (h, w) bool for each frame in the order of `read`."""
        changed = zip(self.entries, cells, strict=True)
        return self._with_entries([entry.voided(void) for entry, void in changed])

    def reversed(self) -> "TemporalMemory":
        """Keep only the newest reference, and the newest frame, to continue in reversed time."""
        copies = self.settings.recent_frames if self.settings.repeat_reference else 1
        newest = [replace(entry, number=i) for i in range(copies) for entry in self.others[-1:]]
        return replace(
            self, references=self.references[-1:], others=tuple(newest), count=len(newest)
        )

    def _with_entries(self, entries: Sequence[MemoryEntry]) -> "TemporalMemory":
        count = len(self.references)
        return replace(self, references=tuple(entries[:count]), others=tuple(entries[count:]))

    def state_dict(self) -> dict[str, Any]:
        """Give the memory as tensors and numbers that `torch.save` writes."""
        return {
            "references": [entry.tensors for entry in self.references],
            "others": [entry.tensors for entry in self.others],
            "numbers": [entry.number for entry in self.others],
            "count": self.count,
        }

    def restored(self, state: Mapping[str, Any]) -> "TemporalMemory":
        """Give the memory that `state_dict` saved, with these settings."""
        return replace(
            self,
            references=tuple(MemoryEntry.from_tensors(t, 0) for t in state["references"]),
            others=tuple(map(MemoryEntry.from_tensors, state["others"], state["numbers"])),
            count=state["count"],
        )
