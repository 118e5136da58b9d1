"""Which frames of a run a person should look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from propagate.errors import counted

# Below this margin, another label is nearly as likely as the object's own.
LOW_MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason to look at a frame.

    Attributes:
        position: Of the frame among those of the run, from 0.
        name: Of the frame.
        object_id: Whose.
        reason: "absent" or "unsure": the object begins to be; "margin": its margin is low, and
            nowhere lower around.
        margin: Of the object there.
    """

    position: int
    name: str
    object_id: int
    reason: str
    margin: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames in a row that are doubtful for one object.

    Attributes:
        object_id: Whose.
        first, last: Positions of the first and the last of them.
        absent, unsure: How many of them are so.
        margin: The lowest of those that are not absent; None if all are.
    """

    object_id: int
    first: int
    last: int
    absent: int
    unsure: int
    margin: float | None


@dataclass(frozen=True, slots=True)
class MostlyDoubtful:
    """An object that is doubtful in more than half of its frames.

    Attributes:
        object_id: Whose.
        frames: How many frames have it.
        doubtful, unsure, absent: In how many of them it is so.
        begins: Name of the frame in which the longest stretch of them begins; one in which the
            object is seen, if there is any.
    """

    object_id: int
    frames: int
    doubtful: int
    unsure: int
    absent: int
    begins: str

    def __str__(self) -> str:
        kinds = {"unsure": self.unsure, "absent": self.absent}
        kinds["of a low margin"] = self.doubtful - self.unsure - self.absent
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        return (
            f"object {self.object_id} is doubtful on {self.doubtful} of "
            f"{counted(self.frames, 'frame')} ({told})"
        )


def doubtful_frames(result: Mapping[str, Any]) -> list[Doubt]:
    """Find the frames to look at: where an object begins to be unsure or absent, or is ambiguous.

    A margin counts if it is below 0.2 and a local minimum: the first of equal margins in a row,
    with higher ones (or none) before and after. Margins of absent objects do not count.

    Args:
        result: `result.json` or `incomplete.json` of a run, as `json.load` gives it.

    Returns:
        In order of time, then of object ids; an object has at most one in a frame.
    """
    frames = result["per_frame"]
    found: list[Doubt] = []
    for object_id in objects_of(frames):
        entries = [frame["objects"].get(str(object_id)) for frame in frames]
        margins = [_margin(entry) for entry in entries]
        before: str | None = None
        for position, (frame, entry) in enumerate(zip(frames, entries, strict=True)):
            if entry is None:
                before = None
                continue
            reason = None
            if entry["state"] != "tracked" and entry["state"] != before:
                reason = entry["state"]
            elif _is_lowest(margins, position):
                reason = "margin"
            if reason is not None:
                found.append(Doubt(position, frame["name"], object_id, reason, entry["margin"]))
            before = entry["state"]
    return sorted(found, key=lambda doubt: (doubt.position, doubt.object_id))


def doubtful_stretches(result: Mapping[str, Any]) -> list[Stretch]:
    """Find the frames in a row in which an object is absent or unsure, or its margin is below 0.2.

    Args:
        result: See `doubtful_frames`.

    Returns:
        In order of their first frames, then of object ids.
    """
    frames = result["per_frame"]
    found: list[Stretch] = []
    for object_id in objects_of(frames):
        run: list[Mapping[str, Any]] = []
        for position, frame in enumerate([*frames, {"objects": {}}]):
            entry = frame["objects"].get(str(object_id))
            if entry is not None and (entry["state"] != "tracked" or entry["margin"] < LOW_MARGIN):
                run.append(entry)
            elif run:
                found.append(_stretch(object_id, position, run))
                run = []
    return sorted(found, key=lambda stretch: (stretch.first, stretch.object_id))


def mostly_doubtful(result: Mapping[str, Any]) -> list[MostlyDoubtful]:
    """Find objects that are absent or unsure, or of a margin below 0.2, in most of their frames.

    Args:
        result: See `doubtful_frames`.

    Returns:
        By increasing id.
    """
    frames = result["per_frame"]
    stretches: dict[int, list[Stretch]] = {}
    for stretch in doubtful_stretches(result):
        stretches.setdefault(stretch.object_id, []).append(stretch)
    found = []
    for object_id, own in sorted(stretches.items()):
        count = sum(str(object_id) in frame["objects"] for frame in frames)
        doubtful = sum(stretch.last - stretch.first + 1 for stretch in own)
        if 2 * doubtful <= count:
            continue
        longest = max(own, key=lambda s: (s.margin is not None, s.last - s.first, -s.first))
        places = range(longest.first, longest.last + 1)
        seen = (p for p in places if frames[p]["objects"][str(object_id)]["state"] != "absent")
        begins = frames[next(seen, longest.first)]["name"]
        unsure, absent = (sum(getattr(s, kind) for s in own) for kind in ("unsure", "absent"))
        found.append(MostlyDoubtful(object_id, count, doubtful, unsure, absent, begins))
    return found


def objects_of(frames: Sequence[Mapping[str, Any]]) -> list[int]:
    """List the objects that any frame has, increasing."""
    return sorted({int(i) for frame in frames for i in frame["objects"]})


def _margin(entry: Mapping[str, Any] | None) -> float | None:
    return None if entry is None or entry["state"] == "absent" else entry["margin"]


def _is_lowest(margins: Sequence[float | None], position: int) -> bool:
    """Whether a margin is low, and the first of a local minimum."""
    own = margins[position]
    if own is None or own >= LOW_MARGIN:
        return False
    before = margins[position - 1] if position else None
    if before is not None and before <= own:
        return False
    for after in margins[position + 1 :]:
        if after != own:
            return after is None or after > own
    return True


def _stretch(object_id: int, end: int, run: Sequence[Mapping[str, Any]]) -> Stretch:
    states = [entry["state"] for entry in run]
    margins = [entry["margin"] for entry in run if entry["state"] != "absent"]
    absent, unsure = states.count("absent"), states.count("unsure")
    return Stretch(
        object_id, end - len(run), end - 1, absent, unsure, min(margins) if margins else None
    )
