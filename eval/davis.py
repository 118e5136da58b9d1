"""Score folders of masks by the protocol of a benchmark: pair the files, score, average.

For DAVIS-2017, davis2017-evaluation (commit ac7c43f) is the definition: wherever it gives a number,
ours is the same to the last bit, except for the decay from 256 scored frames on (see
`metrics.statistics`) and a sequence without any object. Where it stops, crashes or guesses, there
is one `EvaluationError`. What the other benchmarks count is in `propagate.eval.protocols`.

One frame of truth and one of prediction are in memory at a time, whatever the length of the video.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from propagate.errors import EvaluationError
from propagate.eval.averages import average
from propagate.eval.dataset import find_truth
from propagate.eval.groups import GroupsOf, check_lists, read_groups
from propagate.eval.labels import UnusableMaskError, refuse
from propagate.eval.mask_trees import REFINED, MaskTree, open_mask_tree
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

    Masks may lie in any layout of `propagate.eval.mask_trees`. Files that are no masks are ignored.
    Nothing is written, and nothing of an earlier evaluation is read.

    Args:
        root: Root of the data set (truth in `Annotations/<resolution>/<sequence>/*.png` for DAVIS,
            in `Annotations/<sequence>/*.png` for others), or any folder of true masks.
        predictions: Folder of predicted masks. One is needed for every scored frame.
        protocol: A name in `propagate.eval.protocols.PROTOCOLS`.
        task: "semi-supervised", or "unsupervised" for DAVIS.
        split: A list of sequences, `ImageSets/2017/<split>.txt` for DAVIS-2017. None, or a root
            without such lists, stands for every folder of truth.
        resolution: Name of the folder under `Annotations`, for DAVIS.
        unseen: For LVOS and YouTube-VOS, a list of the sequences of unseen categories.
        categories: The same for single objects: YouTube-VOS's `meta.json` of the scored split and
            that of the training split.
        attributes: For DAVIS-2016, the attributes of the sequences (`db_info.yaml`); by default
            that file is looked for in `root` and in `root/data`.
        allow_missing: Score what is there: sequences and frames without a prediction are left out,
            and named in the protocol. Everything else is refused as ever.
        refined: Score what a refiner made of the masks of runs; the title says so.
        jobs: Processes, each with a sequence at a time, the longest first. More than one starts
            fresh interpreters, so a script that asks for it needs the
            `if __name__ == "__main__":` guard.

    Returns:
        Scores per frame, object, sequence and group, and over all, with the protocol.

    Raises:
        EvaluationError: If truth and predictions do not fit together; it names the files.
        ValueError: If the protocol or task is unknown, a list is given that the protocol has no use
            for, or `jobs` is less than 1.
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
        source: Where the list of sequences is from, in words.
        groups_of: The parts that an object is in.
        allow_missing, jobs: See `evaluate_davis`.

    Raises:
        EvaluationError, ValueError: As `evaluate_davis`.
    """
    plans = _accept(_plan(name, truth, predictions, rules) for name in truth.sequences)
    missing = (_leave_out if allow_missing else _refuse_missing)(plans, predictions)
    plans = [plan for plan in plans if plan.predicted]
    score = partial(score_sequence, truth, predictions, protocol=rules)
    results = _accept(map_processes(score, plans, jobs=jobs, cost=lambda p: len(p.frames)))
    refined = predictions.layout == REFINED
    facts = {"sequence_source": source, "missing": missing, "refined": refined}
    return average(results, rules, groups_of, facts)


# --- which files ---------------------------------------------------------------------------------


def _plan(
    name: str, truth: MaskTree, pred: MaskTree, rules: Protocol
) -> SequencePlan | list[UnusableMaskError]:
    """Choose the frames of a sequence that are scored, and see which have a prediction."""
    try:
        annotated = truth.frames(name)
        predicted = pred.frames(name) if name in pred.sequences else ()
    except UnusableMaskError as error:
        return [error]
    if len(annotated) < rules.min_frames:
        found = f"annotated frames in this folder: {len(annotated)}"
        remedy = f"give {rules.min_frames} or more; scored is {rules.frames}"
        return [UnusableMaskError(truth.root / name, found, remedy)]
    scored = annotated[rules.skip_first : len(annotated) - rules.skip_last]
    return SequencePlan(name, annotated[0], scored, frozenset(scored) - frozenset(predicted))


def _refuse_missing(plans: Sequence[SequencePlan], pred: MaskTree) -> dict[str, Any]:
    """Raise one error for all predictions that are not there."""
    problems: list[UnusableMaskError] = []
    for plan in plans:
        if plan.name not in pred.sequences:
            remedy = "predict every sequence of the truth, or pass --allow-missing"
            problems.append(UnusableMaskError(pred.root / plan.name, "no such folder", remedy))
            continue
        for frame in sorted(plan.unpredicted):
            remedy = "predict every scored frame, or pass --allow-missing"
            problems.append(UnusableMaskError(pred.where(plan.name, frame), "missing", remedy))
    refuse(problems)
    return {"sequences": [], "frames": {}}


def _leave_out(plans: Sequence[SequencePlan], pred: MaskTree) -> dict[str, Any]:
    """Name the sequences and frames without a prediction."""
    if not any(plan.predicted for plan in plans):
        raise EvaluationError(
            f"{pred.root}: no prediction of any scored frame: give the folder of <sequence>/..., "
            "with the names that the truth has"
        )
    frames = {p.name: sorted(p.unpredicted) for p in plans if p.unpredicted and p.predicted}
    return {"sequences": [p.name for p in plans if not p.predicted], "frames": frames}


# --- all sequences -------------------------------------------------------------------------------


_Result = TypeVar("_Result", SequencePlan, SequenceScores)


def _accept(results: Iterable[_Result | list[UnusableMaskError]]) -> list[_Result]:
    """Give the results back; if there are problems among them, raise one error for all."""
    accepted: list[_Result] = []
    problems: list[UnusableMaskError] = []
    for result in results:
        if isinstance(result, list):
            problems += result
        else:
            accepted.append(result)
    refuse(problems)
    return accepted
