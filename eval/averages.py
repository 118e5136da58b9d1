"""Average the scores of frames: for each object, sequence and group, and over everything."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from propagate.eval.groups import SEEN, UNSEEN, GroupsOf
from propagate.eval.metrics import Statistics, statistics
from propagate.eval.missing import describe_missing
from propagate.eval.protocols import OVER_OBJECTS, Groups, Protocol
from propagate.eval.scores import Scores
from propagate.eval.sequences import SequenceScores

_Object = tuple[str, int]
"""The name of a sequence and the id of an object."""


def average(
    sequences: Sequence[SequenceScores],
    rules: Protocol,
    groups_of: GroupsOf | None,
    facts: Mapping[str, Any],
    too_short: Sequence[str] = (),
) -> Scores:
    """Average over frames, then over objects, and record what was averaged.

    Args:
        sequences: One or more.
        rules: The protocol they were scored by.
        groups_of: The groups of each object; None if they are not known.
        facts: What else the protocol records: the source of the sequences, and what is missing.
        too_short: Sequences that were left out, because no frame of them can be scored.
    """
    of_object: dict[_Object, dict[str, float]] = {
        (s.name, object_id): _columns(*(statistics(row[~np.isnan(row)]) for row in rows))
        for s in sequences
        for object_id, *rows in zip(s.object_ids, s.region, s.boundary, strict=True)
    }
    members: dict[str, list[dict[str, float]]] = {}
    for key, columns in of_object.items():
        for group in groups_of(*key) if groups_of else ():
            members.setdefault(group, []).append(columns)
    groups = {name: _mean(members[name]) for name in sorted(members)}
    both = rules.groups is Groups.SEEN_AND_UNSEEN and {SEEN, UNSEEN} <= groups.keys()
    return Scores(
        protocol=_describe(sequences, rules, groups, facts, too_short),
        global_=_mean([groups[SEEN], groups[UNSEEN]] if both else of_object.values()),
        groups=groups,
        per_sequence={
            s.name: _mean([of_object[s.name, i] for i in s.object_ids]) for s in sequences
        },
        per_object={f"{name}_{i}": columns for (name, i), columns in of_object.items()},
        object_ids={s.name: list(s.object_ids) for s in sequences},
        frames={s.name: list(s.frames) for s in sequences},
        per_frame={s.name: {"J": _lists(s.region), "F": _lists(s.boundary)} for s in sequences},
        proposals={s.name: list(s.proposals) for s in sequences if s.proposals},
    )


def _describe(
    sequences: Sequence[SequenceScores],
    rules: Protocol,
    groups: Mapping[str, Any],
    facts: Mapping[str, Any],
    too_short: Sequence[str],
) -> dict[str, Any]:
    """Record the protocol: its rules, the counts, and the exceptions."""
    words = rules.rules()
    if rules.groups is Groups.SEEN_AND_UNSEEN and not {SEEN, UNSEEN} <= groups.keys():
        why = (
            f"every object is {next(iter(groups))}" if groups else "no list of unseen ones is given"
        )
        words["average"] = f"{OVER_OBJECTS}; not over seen and unseen categories, because {why}"
    if rules.groups is Groups.ATTRIBUTES and not groups:
        words["groups"] = (
            "none, because no list of attributes (db_info.yaml) is given or in the root"
        )
    title = rules.title
    if facts.get("refined"):
        title += ", REFINED masks"
    title += describe_missing(facts["missing"], too_short)
    exceptions = {
        "void_sequences": [s.name for s in sequences if s.void],
        "sequences_too_short": list(too_short),
    }
    for s in sequences:
        for rule, ids in s.exceptions.items():
            exceptions.setdefault(rule, []).extend(f"{s.name}_{i}" for i in sorted(ids))
    return {
        "name": rules.name,
        "task": rules.task,
        "title": title,
        "rules": words,
        "sequences": len(sequences),
        "objects": sum(len(s.object_ids) for s in sequences),
        "frames": sum(len(s.frames) for s in sequences),
        **facts,
        "exceptions": {rule: names for rule, names in exceptions.items() if names},
    }


def _columns(region: Statistics, boundary: Statistics) -> dict[str, float]:
    return {
        "J-Mean": region.mean,
        "J-Recall": region.recall,
        "J-Decay": region.decay,
        "F-Mean": boundary.mean,
        "F-Recall": boundary.recall,
        "F-Decay": boundary.decay,
    }


def _mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Average each column, and add the mean of J and F."""
    rows = list(rows)
    means = {c: float(np.mean([row[c] for row in rows])) for c in rows[0] if c != "J&F-Mean"}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2} | means


def _lists(scores: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(x) else x for x in row] for row in scores.tolist()]
