"""Which frames a person should look at, held against a loop over the words of the rule."""

import numpy as np
import pytest

from propagate.report.doubtful import (
    Doubt,
    MostlyDoubtful,
    Stretch,
    doubtful_frames,
    doubtful_stretches,
    mostly_doubtful,
)


def result_of(*objects):
    """A report of objects 1, 2, ...: for each frame (margin, state), a margin, or None."""
    frames = []
    for position, entries in enumerate(zip(*objects, strict=True)):
        found = {}
        for object_id, entry in enumerate(entries, start=1):
            if entry is None:
                continue
            margin, state = entry if isinstance(entry, tuple) else (entry, "tracked")
            found[str(object_id)] = {"score": 0.5, "margin": margin, "state": state}
        frames.append({"name": f"{position:05d}", "time_s": position / 25, "objects": found})
    return {"per_frame": frames}


def found_in(result):
    return [(doubt.position, doubt.object_id, doubt.reason) for doubt in doubtful_frames(result)]


ABSENT, UNSURE = (0.0, "absent"), (0.05, "unsure")


def test_a_certain_run_has_none():
    assert doubtful_frames(result_of([1.0, 0.9, 0.2, 0.9])) == []
    assert doubtful_frames({"per_frame": []}) == []


def test_the_beginning_of_unsure_and_of_absent_counts_once():
    result = result_of([1.0, UNSURE, UNSURE, ABSENT, ABSENT, 0.9, ABSENT])
    assert found_in(result) == [(1, 1, "unsure"), (3, 1, "absent"), (6, 1, "absent")]


def test_of_a_valley_only_its_bottom_counts():
    assert found_in(result_of([1.0, 0.19, 0.1, 0.15, 0.3])) == [(2, 1, "margin")]
    assert found_in(result_of([1.0, 0.1, 0.1, 0.1, 0.3])) == [(1, 1, "margin")]
    assert found_in(result_of([1.0, 0.1, 0.1, 0.05, 0.3])) == [(3, 1, "margin")]
    assert found_in(result_of([0.1, 0.3, 0.1])) == [(0, 1, "margin"), (2, 1, "margin")]
    assert found_in(result_of([0.5, 0.2, 0.5])) == []  # below 0.2, not at it


def test_an_object_that_comes_later_or_goes_is_no_error():
    result = result_of([1.0, 1.0, 1.0, 1.0], [None, 0.1, 0.5, None])
    assert doubtful_frames(result) == [Doubt(1, "00001", 2, "margin", 0.1)]


def rule_as_words(result):
    """The rule again, frame by frame, in the words of its docstring."""
    frames = result["per_frame"]
    found = []
    for t, frame in enumerate(frames):
        for i, now in frame["objects"].items():
            before = frames[t - 1]["objects"].get(i) if t else None
            begins = before is None or before["state"] != now["state"]
            if now["state"] != "tracked" and begins:
                found.append((t, int(i), now["state"]))
                continue
            if now["state"] == "absent" or now["margin"] >= 0.2:
                continue

            def margin(u, i=i):
                entry = frames[u]["objects"].get(i) if 0 <= u < len(frames) else None
                return np.inf if entry is None or entry["state"] == "absent" else entry["margin"]

            end = t
            while margin(end) == now["margin"]:
                end += 1
            if margin(t - 1) > now["margin"] and margin(end) > now["margin"]:
                found.append((t, int(i), "margin"))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_random_runs_agree_with_the_words_of_the_rule(seed):
    rng = np.random.default_rng(seed)
    objects = []
    for _ in range(3):
        margins = np.round(rng.uniform(-0.1, 0.4, 60), 1)
        states = rng.choice(["tracked", "unsure", "absent"], 60, p=[0.7, 0.15, 0.15])
        entries = [(float(m), str(s)) for m, s in zip(margins, states, strict=True)]
        objects.append([None if rng.random() < 0.1 else entry for entry in entries])
    result = result_of(*objects)
    assert found_in(result) == rule_as_words(result)


def test_stretches_join_what_lies_in_a_row():
    result = result_of([1.0, UNSURE, ABSENT, 0.1, 0.9, ABSENT], [0.9, 0.9, 0.9, 0.1, 0.05, 0.9])
    assert doubtful_stretches(result) == [
        Stretch(1, 1, 3, absent=1, unsure=1, margin=0.05),
        Stretch(2, 3, 4, absent=0, unsure=0, margin=0.05),
        Stretch(1, 5, 5, absent=1, unsure=0, margin=None),
    ]


def test_an_object_counts_that_is_doubtful_in_more_than_half_of_its_frames():
    certain, half = [1.0, 0.9, 0.8, 0.9, 0.9, 0.9], [1.0, 0.1, 0.1, UNSURE, 0.9, 0.9]
    lost = [1.0, UNSURE, 0.5, ABSENT, 0.1, UNSURE]
    late = [None, None, None, 1.0, UNSURE, UNSURE]  # two of its three frames
    assert mostly_doubtful(result_of(certain, half, lost, late)) == [
        MostlyDoubtful(3, 6, 4, 2, 1, "00004"),
        MostlyDoubtful(4, 3, 2, 2, 0, "00004"),
    ]
    assert mostly_doubtful({"per_frame": []}) == []


def test_of_an_object_that_is_never_seen_again_the_first_frame_counts():
    (doubt,) = mostly_doubtful(result_of([1.0, ABSENT, ABSENT]))
    assert doubt.begins == "00001"
    assert str(doubt) == "object 1 is doubtful on 2 of 3 frames (2 absent)"


def test_what_is_doubtful_is_said_by_kinds():
    doubt = MostlyDoubtful(2, 25, 24, 20, 1, "00001")
    assert str(doubt) == (
        "object 2 is doubtful on 24 of 25 frames (20 unsure, 1 absent, 3 of a low margin)"
    )
