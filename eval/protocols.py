"""The rules of each benchmark: which frames and objects count, and how they average.

J and F of one object in one frame are the same everywhere (`propagate.eval.metrics`). Benchmarks
differ in what they score and in how they average. Each choice is an enum member whose value says
what it means, so a report prints exactly the rules that were applied.

Source: the official scorers, read and run at the commits named in each protocol. If their code is
not public (YouTube-VOS, MOSE), the protocol says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

SEMI_SUPERVISED = "semi-supervised"
UNSUPERVISED = "unsupervised"

OVER_OBJECTS = "over frames for an object, then over all objects of all sequences alike"
OVER_GROUPS = (
    "over frames for an object, over objects for seen and for unseen categories, then over the two"
)


class Objects(Enum):
    """Where the objects of a sequence come from."""

    TO_LARGEST_ID = (
        "1..n, where n is the largest id in the first annotated frame of the sequence; ids missing "
        "in that frame still count; larger ids that appear later are not scored"
    )
    IN_FIRST_FRAME = "the ids in the first annotated frame; others that appear later are not scored"
    IN_SCORED_FRAMES = "the ids in the scored truth frames"
    IN_TRUTH = "the ids in the truth, from the first annotated frame to the last scored one"
    FOREGROUND = "one, id 1: every pixel that is not 0, in the truth as in the prediction"


class Counting(Enum):
    """Which of the scored frames count for an object."""

    ALL = "every scored frame"
    ONCE_SHOWN = "from the first scored frame in which truth or prediction shows the object"
    AFTER_OWN_FIRST = "after the annotated frame in which the truth first shows the object"


class Void(Enum):
    """What pixels of value 255 in the truth mean."""

    BACKGROUND = "background: an object predicted there lowers the score"
    UNKNOWN = "not known: no part of any mask, neither for J nor for F"
    OBJECT = "an id like any other"


class OtherIds(Enum):
    """What happens to predicted ids that are not objects of the truth."""

    REFUSED = "an error"
    IGNORED = "ignored: they lower a score only where they replace pixels of an object"
    PROPOSALS = (
        "all ids are proposals, at most 20; they are assigned to objects so that the sum over "
        "objects of (J + F) / 2, averaged over frames, is largest; unassigned ones cost nothing"
    )


class Groups(Enum):
    """Which parts have a score of their own."""

    NONE = ""
    ATTRIBUTES = "the sequences with each attribute, where the data set's list of them is given"
    SEEN_AND_UNSEEN = "the objects of seen and those of unseen categories"


@dataclass(frozen=True, slots=True)
class Protocol:
    """The rules of one benchmark.

    Attributes:
        name: As given to `evaluate_davis(protocol=...)`.
        task: "semi-supervised" or "unsupervised".
        title: Name for tables and reports.
        source: Where the rules come from.
        objects: Where objects come from.
        counting: Which of the scored frames count for an object.
        void: What 255 in the truth means.
        other_ids: What happens to predicted ids that are not objects.
        skip_first: Annotated frames at the start of a sequence that are not scored.
        skip_last: Annotated frames at its end that are not scored.
        groups: Which parts have a score of their own.
        annotations: Folders of truth under the root, in the order in which they are tried; they may
            contain `{resolution}`.
        lists: Folders of `<split>.txt` under the root, in the order in which they are tried.
        left_out: Measures that the benchmark reports but this program does not; may be empty.
    """

    name: str
    task: str
    title: str
    source: str
    objects: Objects
    counting: Counting = Counting.ALL
    void: Void = Void.BACKGROUND
    other_ids: OtherIds = OtherIds.IGNORED
    skip_first: int = 1
    skip_last: int = 1
    groups: Groups = Groups.NONE
    annotations: tuple[str, ...] = ("Annotations/{resolution}", "Annotations")
    lists: tuple[str, ...] = ("ImageSets/2017",)
    left_out: str = ""

    @property
    def frames(self) -> str:
        """Which frames of a sequence are scored, in words."""
        ends = (("the first", self.skip_first), ("the last", self.skip_last))
        skipped = " and ".join(end for end, count in ends if count)
        return f"every annotated frame but {skipped}" if skipped else "every annotated frame"

    @property
    def min_frames(self) -> int:
        """How many annotated frames a sequence needs so that one is scored."""
        return self.skip_first + self.skip_last + 1

    def rules(self) -> dict[str, str]:
        """Describe all rules in words, by topic."""
        rules = {
            "frames": self.frames,
            "objects": self.objects.value,
            "frames of an object": self.counting.value,
            "empty masks": "J = 1 if truth and prediction are both empty; "
            "F = 1 if neither has a boundary, 0 if only one has",
            "255 in the truth": self.void.value,
            "other predicted ids": self.other_ids.value,
            "average": OVER_GROUPS if self.groups is Groups.SEEN_AND_UNSEEN else OVER_OBJECTS,
            "decay": "mean of the first quarter of the frames minus mean of the last, "
            "correct for sequences of any length",
            "groups": self.groups.value,
            "not computed": self.left_out,
            "source": self.source,
        }
        return {topic: text for topic, text in rules.items() if text}


_DAVIS_2017 = Protocol(
    name="davis2017",
    task=SEMI_SUPERVISED,
    title="DAVIS-2017 semi-supervised",
    source="davis2017-evaluation (commit ac7c43f); its decay is wrong from 256 scored frames on",
    objects=Objects.TO_LARGEST_ID,
    other_ids=OtherIds.REFUSED,
    annotations=("Annotations/{resolution}",),
)
_DAVIS_2016 = Protocol(
    name="davis2016",
    task=SEMI_SUPERVISED,
    title="DAVIS-2016 semi-supervised",
    source="davis-2017 --single-object (commit 7f9de7a), the successor of the 2016 scorer",
    objects=Objects.FOREGROUND,
    void=Void.OBJECT,
    groups=Groups.ATTRIBUTES,
    annotations=("Annotations/{resolution}",),
    lists=("ImageSets/480p", "ImageSets/2016"),
    left_out="T, temporal stability",
)
_SEMI_SUPERVISED = (
    _DAVIS_2017,
    _DAVIS_2016,
    Protocol(
        name="youtube-vos",
        task=SEMI_SUPERVISED,
        title="YouTube-VOS",
        source="the data set's description; its server's code is not public; we assume that "
        "an object's first annotated frame, which is given, is not scored",
        objects=Objects.IN_TRUTH,
        counting=Counting.AFTER_OWN_FIRST,
        skip_last=0,
        groups=Groups.SEEN_AND_UNSEEN,
    ),
    Protocol(
        name="mose",
        task=SEMI_SUPERVISED,
        title="MOSE",
        source="MOSE-api (commit 241977a) for frames and objects, DAVIS for J and F; "
        "the server's code is not public",
        objects=Objects.IN_FIRST_FRAME,
        left_out="MOSEv2's smoothed J, its F with a tolerance that follows the object's size, and "
        "its means over disappearance and reappearance",
    ),
    Protocol(
        name="lvos",
        task=SEMI_SUPERVISED,
        title="LVOS",
        source="lvos-evaluation (commit 25cb02d), with each object's range of frames from the "
        "masks: from its first to the last annotated frame of the sequence",
        objects=Objects.IN_TRUTH,
        counting=Counting.AFTER_OWN_FIRST,
        groups=Groups.SEEN_AND_UNSEEN,
        left_out="V, the variation of J&F over time",
    ),
    Protocol(
        name="sa-v",
        task=SEMI_SUPERVISED,
        title="SA-V",
        source="sam2 sav_evaluator.py (commit 2b90b9f), vos-benchmark (commit acb4733)",
        objects=Objects.IN_SCORED_FRAMES,
        counting=Counting.ONCE_SHOWN,
        void=Void.OBJECT,
        annotations=("Annotations_6fps", "Annotations/{resolution}", "Annotations"),
    ),
)
_UNSUPERVISED = (
    replace(
        _DAVIS_2017,
        task=UNSUPERVISED,
        title="DAVIS-2017 unsupervised",
        void=Void.UNKNOWN,
        other_ids=OtherIds.PROPOSALS,
        skip_first=0,
        skip_last=0,
        annotations=("Annotations_unsupervised/{resolution}", "Annotations/{resolution}"),
        lists=("ImageSets/2017", "ImageSets/2019"),
    ),
    replace(_DAVIS_2016, task=UNSUPERVISED, title="DAVIS-2016 unsupervised"),
)

ProtocolName = Literal["davis2017", "davis2016", "youtube-vos", "mose", "lvos", "sa-v"]
Task = Literal["semi-supervised", "unsupervised"]

PROTOCOLS: Mapping[str, Protocol] = {p.name: p for p in _SEMI_SUPERVISED}
UNSUPERVISED_PROTOCOLS: Mapping[str, Protocol] = {p.name: p for p in _UNSUPERVISED}


def find_protocol(name: str, task: str = SEMI_SUPERVISED) -> Protocol:
    """Look up the rules of a benchmark.

    Raises:
        ValueError: If there is no such task, or no such protocol for it; it lists the known ones.
    """
    tasks = {SEMI_SUPERVISED: PROTOCOLS, UNSUPERVISED: UNSUPERVISED_PROTOCOLS}
    if task not in tasks:
        raise ValueError(f"task: {' or '.join(tasks)}, not {task!r}")
    if name not in tasks[task]:
        raise ValueError(f"{task} protocol must be one of {', '.join(tasks[task])}, not {name!r}")
    return tasks[task][name]
