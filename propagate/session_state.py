"""What a session knows between two frames, as a record and as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from propagate.matchers import MemorySettings
from propagate.matching.cells import Statistics
from propagate.matching.motion import Motion
from propagate.matching.step import Track
from propagate.memory import TemporalMemory

# Changes when states of an earlier version cannot be continued.
STATE_FORMAT = 2


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    """Everything that is known between two frames.

    Attributes:
        memory: The remembered frames.
        object_ids: Of the K objects, in the order they were given; label i + 1 is object_ids[i].
        tracks: Of the same objects.
        index: Of the next frame.
        size: (H, W) of the frames; None before the first.
        statistics: Mean and standard deviation of the channels of the first frame.
        first: The state after the first reference with objects, which remembers only that frame.
    """

    memory: TemporalMemory
    object_ids: tuple[int, ...] = ()
    tracks: tuple[Track, ...] = ()
    index: int = 0
    size: tuple[int, int] | None = None
    statistics: Statistics | None = None
    first: "SessionState | None" = None

    def with_newest_only(self) -> Self:
        """The same, but of all frames only the newest reference is remembered."""
        memory = TemporalMemory(self.memory.settings, references=self.memory.references[-1:])
        return replace(self, memory=memory)

    def restarted(self) -> Self:
        """The state in which a frame comes right after the first reference."""
        memory = TemporalMemory(self.memory.settings)
        first = self.first or replace(self, memory=memory, object_ids=(), tracks=(), first=None)
        return replace(
            self,
            memory=first.memory,
            object_ids=first.object_ids,
            tracks=first.tracks,
        )

    def without(self, object_id: int) -> Self:
        """The same without an object; what is remembered of it is background."""
        first = self.first
        if first is not None and object_id in first.object_ids:
            first = first.without(object_id) if len(first.object_ids) > 1 else None
        label = self.object_ids.index(object_id) + 1

        def removed(labels: torch.Tensor) -> torch.Tensor:
            background = labels[..., :1] + labels[..., label : label + 1]
            return torch.cat([background, labels[..., 1:label], labels[..., label + 1 :]], dim=-1)

        object_ids = self.object_ids[: label - 1] + self.object_ids[label:]
        # Without objects there is nothing to tell apart: an object that comes now is the first one.
        memory = (
            self.memory.relabelled(removed) if object_ids else TemporalMemory(self.memory.settings)
        )
        tracks = self.tracks[: label - 1] + self.tracks[label:]
        return replace(self, object_ids=object_ids, tracks=tracks, memory=memory, first=first)

    def to_plain(self) -> dict[str, Any]:
        """Give tensors and plain values, which `torch.save` writes."""
        return {
            "object_ids": list(self.object_ids),
            "tracks": [
                {
                    "motion": (m.shape, m.origin, m.position, m.velocity),
                    "usual_cosine": track.usual_cosine,
                    "class_number": track.class_number,
                }
                for track in self.tracks
                for m in [track.motion]
            ],
            "index": self.index,
            "size": self.size,
            "statistics": self.statistics,
            "memory": self.memory.state_dict(),
            "first": None if self.first is None else self.first.to_plain(),
        }

    @classmethod
    def from_plain(
        cls, state: Mapping[str, Any], settings: MemorySettings, device: torch.device
    ) -> Self:
        """Make the record of what `to_plain` gave, maybe on another device.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        state = _moved(state, device)
        statistics, first = state["statistics"], state["first"]
        return cls(
            memory=TemporalMemory(settings).restored(state["memory"]),
            object_ids=tuple(state["object_ids"]),
            tracks=tuple(
                Track(Motion(*track["motion"]), track["usual_cosine"], track["class_number"])
                for track in state["tracks"]
            ),
            index=state["index"],
            size=None if state["size"] is None else tuple(state["size"]),
            statistics=None if statistics is None else tuple(statistics),
            first=None if first is None else cls.from_plain(first, settings, device),
        )


def _moved(value: Any, device: torch.device) -> Any:
    """Move all tensors in nested mappings, lists and tuples to a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(one, device) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(one, device) for one in value)
    return value
