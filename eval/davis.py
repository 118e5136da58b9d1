"""Score folders of masks by the protocol of a benchmark: pair the files, score, average.

DAVIS-2017 is defined by davis2017-evaluation (commit ac7c43f). Wherever that gives a number, ours
is the same to the last bit, except for the decay from 256 scored frames on (see
`metrics.statistics`) and for a sequence without any object. Where it stops, crashes or guesses,
this module raises an `EvaluationError`. `propagate.eval.protocols` has the rules of the other
benchmarks.

One true and one predicted frame are in memory at a time, whatever the length of the video.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from propagate.eval.averages import average
from propagate.eval.dataset import find_truth
from propagate.eval.groups import GroupsOf, check_lists, read_groups
from propagate.eval.labels import UnusableMaskError, refuse
from propagate.eval.mask_trees import REFINED, MaskTree, open_mask_tree
from propagate.eval.missing import find_missing
from propagate.eval.processes import map_processes
from propagate.eval.protocols import SEMI_SUPERVISED, Protocol, find_protocol
from propagate.eval.scores import Scores
from propagate.eval.sequences import SequencePlan, SequenceScores, score_sequence


def evaluate_davis(
    root: str | Path,
    predictions: str | Path,
    *,
    protocol: str = "davis2017",
    task: str = SEMI_SUPERVISED,
    split: str | None = "val",
    resolution: str = "480p",
    unseen: str | Path | None = None,
    categories: tuple[str | Path, str | Path] | None = None,
    attributes: str | Path | None = None,
    allow_missing: bool = False,
    refined: bool = False,
    jobs: int = 1,
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
        split: A list of sequences, `ImageSets/2017/<split>.txt` for DAVIS-2017. With None, or if
            the root has no such lists, every folder of truth is scored.
        resolution: Name of the folder under `Annotations`, for DAVIS.
        unseen: For LVOS and YouTube-VOS, a list of the sequences of unseen categories.
        categories: For YouTube-VOS, the `meta.json` of the scored split and that of the training
            split, which tell seen from unseen objects.
        attributes: For DAVIS-2016, the attributes of the sequences (`db_info.yaml`). By default,
            that file is looked for in `root` and in `root/data`.
        allow_missing: Leave out sequences and frames without a prediction, and name them in the
            protocol. Other problems are still errors.
        refined: Score the refined masks of runs; the title says so.
        jobs: Number of processes. Each scores one sequence at a time, the longest first. More than
            one starts fresh interpreters, so a script that uses it needs the
            `if __name__ == "__main__":` guard.

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
    if found.sequences is not None:
        truth = replace(truth, sequences=found.sequences)
    return score_tree(
        truth,
        open_mask_tree(predictions, refined=refined),
        rules,
        source=found.source,
        groups_of=groups_of,
        allow_missing=allow_missing,
        jobs=jobs,
    )


def score_tree(
    truth: MaskTree,
    predictions: MaskTree,
    rules: Protocol,
    *,
    source: str,
    groups_of: GroupsOf | None = None,
    allow_missing: bool = False,
    jobs: int = 1,
) -> Scores:
    """Score every sequence of a tree of truth. See `evaluate_davis`, which finds the trees.

    Args:
        truth: True masks.
        predictions: Predicted masks.
        rules: Of the benchmark.
        source: Where the list of sequences comes from, in words.
        groups_of: The groups of an object.
        allow_missing, jobs: See `evaluate_davis`.

    Raises:
        EvaluationError, ValueError: As `evaluate_davis`.
    """
    plans = _accept(_plan(name, truth, rules) for name in truth.sequences)
    frames = {plan.name: plan.frames for plan in plans}
    missing = find_missing(predictions, frames, allow_missing=allow_missing)
    plans = [
        replace(plan, unpredicted=frozenset(missing["frames"].get(plan.name, ())))
        for plan in plans
        if plan.name not in missing["sequences"]
    ]
    score = partial(score_sequence, truth, predictions, protocol=rules)
    results = _accept(map_processes(score, plans, jobs=jobs, cost=lambda p: len(p.frames)))
    refined = predictions.layout == REFINED
    facts = {"sequence_source": source, "missing": missing, "refined": refined}
    return average(results, rules, groups_of, facts)


def _plan(name: str, truth: MaskTree, rules: Protocol) -> SequencePlan | list[UnusableMaskError]:
    """Choose the frames of a sequence that are scored."""
    try:
        annotated = truth.frames(name)
    except UnusableMaskError as error:
        return [error]
    if len(annotated) < rules.min_frames:
        found = f"annotated frames in this folder: {len(annotated)}"
        hint = f"give {rules.min_frames} or more; {rules.frames} is scored"
        return [UnusableMaskError(truth.root / name, found, hint)]
    scored = annotated[rules.skip_first : len(annotated) - rules.skip_last]
    return SequencePlan(name, annotated[0], scored)


_Result = TypeVar("_Result", SequencePlan, SequenceScores)


def _accept(results: Iterable[_Result | list[UnusableMaskError]]) -> list[_Result]:
    """Return the results, or raise one error for all problems among them."""
    accepted: list[_Result] = []
    problems: list[UnusableMaskError] = []
    for result in results:
        if isinstance(result, list):
            problems += result
        else:
            accepted.append(result)
    refuse(problems)
    return accepted
