"""Score folders of masks by the protocol of a benchmark: pair the files, score, average.

DAVIS-2017 is defined by davis2017-evaluation (commit ac7c43f). Wherever that gives a number, ours
is the same to the last bit, except for the decay from 256 scored frames on (see
`metrics.statistics`) and for a sequence without any object. Where it stops, crashes or guesses,
this module raises an `EvaluationError`. `propagate.eval.protocols` has the rules of the other
benchmarks.

One true and one predicted frame are in memory at a time, whatever the length of the video.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from propagate.errors import counted, few
from propagate.eval.averages import average
from propagate.eval.dataset import AUTO, find_truth
from propagate.eval.exchanged import match_ids, may_be_exchanged
from propagate.eval.groups import GroupsOf, check_lists, read_groups
from propagate.eval.labels import UnusableMaskError, refuse
from propagate.eval.mask_trees import REFINED, MaskTree, open_mask_tree
from propagate.eval.missing import Say, find_extra, find_missing, say_nothing
from propagate.eval.near_names import near_folder
from propagate.eval.processes import map_processes
from propagate.eval.protocols import (
    SEMI_SUPERVISED,
    Protocol,
    ProtocolName,
    Task,
    find_protocol,
)
from propagate.eval.scores import HEADLINE, Scores
from propagate.eval.sequences import SequencePlan, SequenceScores, score_sequence

log = logging.getLogger(__name__)


def evaluate_davis(
    root: str | Path,
    predictions: str | Path,
    *,
    protocol: ProtocolName = "davis2017",
    task: Task = SEMI_SUPERVISED,
    split: str | None = AUTO,
    resolution: str = "480p",
    unseen: str | Path | None = None,
    categories: tuple[str | Path, str | Path] | None = None,
    attributes: str | Path | None = None,
    allow_missing: bool = False,
    refined: bool = False,
    jobs: int = 1,
    say: Say = log.warning,
) -> Scores:
    """Score predicted masks against true ones by the protocol of a benchmark.

    Masks may have any layout of `propagate.eval.mask_trees`. Other files are ignored. Nothing is
    written, and no result of an earlier evaluation is read.

    Args:
        root: Root of the data set (truth in `Annotations/<resolution>/<sequence>/*.png` for DAVIS,
            in `Annotations/<sequence>/*.png` for others), or any folder of true masks.
        predictions: Folder of predicted masks. One is needed for every scored frame.
        protocol: A name in `propagate.eval.protocols.PROTOCOLS`.
        task: "semi-supervised", or "unsupervised" for DAVIS.
        split: A list of sequences, `ImageSets/2017/<split>.txt` for DAVIS-2017; None for every
            folder of truth. "auto" is "val" if the root has such lists, else every folder.
        resolution: Name of the folder under `Annotations`, for DAVIS.
        unseen: For LVOS and YouTube-VOS, a list of the sequences of unseen categories.
        categories: For YouTube-VOS, the `meta.json` of the scored split and that of the training
            split, which tell seen from unseen objects.
        attributes: For DAVIS-2016, the attributes of the sequences (`db_info.yaml`). By default,
            that file is looked for in `root` and in `root/data`.
        allow_missing: Leave out sequences and frames without a prediction, and sequences with too
            few annotated frames to score, and name them in the protocol. Other problems are still
            errors.
        refined: Score the refined masks of runs; the title says so.
        jobs: Number of processes. Each scores one sequence at a time, the longest first. More than
            one starts fresh interpreters, so a script that uses it needs the
            `if __name__ == "__main__":` guard.
        say: Called with one line for each thing that the scores do not show: predictions that the
            truth does not have, what was left out, and ids that look exchanged, with the J&F that
            other ids would have. By default it is logged as a warning.

    Returns:
        Scores per frame, object, sequence and group, and over everything, with the protocol.

    Raises:
        EvaluationError: If truth and predictions do not fit together; it names the files.
        ValueError: If the protocol or task is unknown, a list is given that the protocol does not
            use, or `jobs` is less than 1.
    """
    rules = find_protocol(protocol, task)
    check_lists(rules, unseen, categories, attributes)
    groups_of = read_groups(rules, Path(root), unseen, categories, attributes)
    found = find_truth(Path(root), rules, split, resolution)
    truth = open_mask_tree(found.masks, what="ground truth")
    source = "the truth" if found.sequences is None else found.source
    if found.sequences is not None:
        truth = replace(truth, sequences=found.sequences)
    predicted = open_mask_tree(predictions, refined=refined)
    scores = score_tree(
        truth,
        predicted,
        rules,
        source=found.source,
        groups_of=groups_of,
        allow_missing=allow_missing,
        jobs=jobs,
        say=say,
    )
    known = {name: truth.frames(name) for name in truth.sequences}
    for sentence in find_extra(predicted, known, source):
        say(sentence)
    return scores


def score_tree(
    truth: MaskTree,
    predictions: MaskTree,
    rules: Protocol,
    *,
    source: str,
    groups_of: GroupsOf | None = None,
    allow_missing: bool = False,
    jobs: int = 1,
    say: Say = say_nothing,
) -> Scores:
    """Score every sequence of a tree of truth. See `evaluate_davis`, which finds the trees.

    Args:
        truth: True masks.
        predictions: Predicted masks.
        rules: Of the benchmark.
        source: Where the list of sequences comes from, in words.
        groups_of: The groups of an object.
        allow_missing, jobs: See `evaluate_davis`.
        say: Told what is left out, and what the scores would be with other ids.

    Raises:
        EvaluationError, ValueError: As `evaluate_davis`.
    """
    plans, short = plan_sequences(truth, rules)
    if not allow_missing or not plans:
        refuse(short)
    for problem in short:
        say(f"{problem.path}: too short to score, left out ({problem.found})")
    frames = {plan.name: plan.frames for plan in plans}
    missing = find_missing(predictions, frames, allow_missing=allow_missing, say=say)
    plans = [
        replace(plan, unpredicted=frozenset(missing["frames"].get(plan.name, ())))
        for plan in plans
        if plan.name not in missing["sequences"]
    ]
    score = partial(score_sequence, truth, predictions, protocol=rules)
    results = _accept(map_processes(score, plans, jobs=jobs, cost=lambda p: len(p.frames)))
    refined = predictions.layout == REFINED
    facts = {"sequence_source": source, "missing": missing, "refined": refined}
    too_short = [problem.path.name for problem in short]
    averaged = partial(average, rules=rules, groups_of=groups_of, facts=facts, too_short=too_short)
    scores = averaged(results)
    if say is say_nothing:
        return scores
    again = [pair for pair in zip(plans, results, strict=True) if may_be_exchanged(pair[1], rules)]
    match = partial(match_ids, truth, predictions, rules)
    found = map_processes(match, again, jobs=jobs, cost=lambda pair: len(pair[0].frames))
    better = {matched.scores.name: matched for matched in found if matched is not None}
    if better:
        would_be = averaged([better[s.name].scores if s.name in better else s for s in results])
        ids = {name: matched.ids for name, matched in better.items()}
        say(f"{predictions.root}: {_exchanged(scores, would_be, ids)}")
    return scores


def plan_sequences(
    truth: MaskTree, rules: Protocol
) -> tuple[list[SequencePlan], list[UnusableMaskError]]:
    """Choose the frames of every sequence that are scored; no mask is read.

    Returns:
        The plans, and an error for each sequence that has too few frames.

    Raises:
        EvaluationError: If a sequence does not exist, or its frames cannot be listed.
    """
    plans: list[SequencePlan] = []
    problems: list[UnusableMaskError] = []
    short: list[UnusableMaskError] = []
    for name in truth.sequences:
        try:
            annotated = _annotated(name, truth)
        except UnusableMaskError as error:
            problems.append(error)
            continue
        if len(annotated) < rules.min_frames:
            found = f"annotated frames in this folder: {len(annotated)}"
            hint = (
                f"give {rules.min_frames} or more; {rules.frames} is scored; or pass "
                "{allow_missing=True} to leave it out"
            )
            short.append(UnusableMaskError(truth.root / name, found, hint))
            continue
        scored = annotated[rules.skip_first : len(annotated) - rules.skip_last]
        plans.append(SequencePlan(name, annotated[0], scored))
    refuse(problems)
    return plans, short


def _annotated(name: str, truth: MaskTree) -> tuple[str, ...]:
    """Name the frames of a sequence of truth; a list may name one that does not exist."""
    if (truth.root / name).is_dir():
        return truth.frames(name)
    near = near_folder(truth.root, name)
    found = f"{name} is missing" + (f"; there is {near}" if near else "")
    raise UnusableMaskError(
        truth.root, found, "add the masks of this sequence, or correct the list"
    )


def _exchanged(scores: Scores, would_be: Scores, ids: Mapping[str, Mapping[int, int]]) -> str:
    """Say what the score would be with ids matched, and which ids in which sequences."""
    before, after = (100 * each.global_[HEADLINE] for each in (scores, would_be))
    sequences = [
        f"{name} ({', '.join(f'{i} as {k}' for i, k in sorted(pairs.items()) if i != k)})"
        for name, pairs in ids.items()
    ]
    return (
        f"with ids matched it would be J&F {after:.1f}, not {before:.1f}: ids look exchanged in "
        f"{counted(len(ids), 'sequence')}: {few(sequences)}"
    )


def _accept(
    results: Iterable[SequenceScores | list[UnusableMaskError]],
) -> list[SequenceScores]:
    """Return the results, or raise one error for all problems among them."""
    accepted: list[SequenceScores] = []
    problems: list[UnusableMaskError] = []
    for result in results:
        if isinstance(result, list):
            problems += result
        else:
            accepted.append(result)
    refuse(problems)
    return accepted
