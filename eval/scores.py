"""What a scorer returns: every number, and the protocol behind it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
HEADLINE = COLUMNS[0]

Columns = Mapping[str, float]
FrameScores = Mapping[str, list[list[float | None]]]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores with the protocol behind them. The columns have the names that DAVIS gave them.

    Columns are J&F-Mean, J-Mean, J-Recall, J-Decay, F-Mean, F-Recall and F-Decay, as fractions. A
    number that does not exist is NaN here and null in JSON.

    Attributes:
        protocol: "name", "task" and "title"; "rules", sentences by topic; the counts "sequences",
            "objects" and "frames"; "exceptions", the sequences, objects (`bear_1`) or ids to which
            a special rule applied, by the name of the rule; "missing", what was left out because it
            had no prediction: {"sequences": [...], "frames": {sequence: [...]}}.
        global_: The columns over everything.
        groups: The columns over each group, by its name: an attribute of DAVIS-2016, or "seen" and
            "unseen" categories. Empty if the protocol has no groups.
        per_sequence: The columns over the objects of a sequence, by its name.
        per_object: The columns of an object, without J&F-Mean, by sequence and true id: `bear_1`.
        object_ids: By sequence, the true ids of the scored objects, in the order of `per_frame`.
        frames: By sequence, the names of the scored frames, in order.
        per_frame: By sequence, "J" and "F", each with a list per object of one score per scored
            frame; None if a frame does not count for the object.
        proposals: By sequence, the number of the proposal that was assigned to each object, in the
            order of `object_ids`; above the largest predicted id if none was left for it. Empty
            unless objects had to be matched.
    """

    protocol: Mapping[str, Any]
    global_: Columns
    groups: Mapping[str, Columns]
    per_sequence: Mapping[str, Columns]
    per_object: Mapping[str, Columns]
    object_ids: Mapping[str, list[int]]
    frames: Mapping[str, list[str]]
    per_frame: Mapping[str, FrameScores]
    proposals: Mapping[str, list[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert everything to plain dicts, lists and numbers, ready for JSON."""
        return {
            "protocol": dict(self.protocol),
            "global": _nan_to_none(self.global_),
            "groups": {name: _nan_to_none(row) for name, row in self.groups.items()},
            "per_sequence": {name: _nan_to_none(row) for name, row in self.per_sequence.items()},
            "per_object": {name: _nan_to_none(row) for name, row in self.per_object.items()},
            "object_ids": dict(self.object_ids),
            "frames": dict(self.frames),
            "per_frame": {name: dict(rows) for name, rows in self.per_frame.items()},
            "proposals": dict(self.proposals),
        }

    def to_json(self) -> str:
        """Write everything as JSON text; nothing is rounded."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Scores":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If the text is not JSON, or has another form.
        """
        try:
            saved = json.loads(text)
            return cls(
                protocol=saved["protocol"],
                global_=_none_to_nan(saved["global"]),
                groups={name: _none_to_nan(row) for name, row in saved["groups"].items()},
                per_sequence={n: _none_to_nan(row) for n, row in saved["per_sequence"].items()},
                per_object={n: _none_to_nan(row) for n, row in saved["per_object"].items()},
                object_ids=saved["object_ids"],
                frames=saved["frames"],
                per_frame=saved["per_frame"],
                proposals=saved["proposals"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the JSON of scores: {error}") from error

    def __repr__(self) -> str:
        """Show the headline; all numbers would fill many screens."""
        counts = ", ".join(f"{k}={self.protocol[k]}" for k in ("sequences", "objects", "frames"))
        return f"Scores(J&F-Mean={100 * self.global_[HEADLINE]:.1f} %, {counts})"


def _nan_to_none(row: Columns) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in row.items()}


def _none_to_nan(row: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in row.items()}
