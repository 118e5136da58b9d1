"""Run configurations over a data set, score them, and show them side by side.

    OUT/<configuration>/<sequence>/masks/...   the runs, each with its result.json
    OUT/<configuration>/scores.json            every number of a configuration
    OUT/benchmark.json                         the table, times and settings
    OUT/report.html                            everything, for people

Finished runs are not run again, so a benchmark that was stopped continues with the same call.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from propagate.benchmark.datasets import Dataset
from propagate.config import Config
from propagate.errors import OutputError, PropagateError
from propagate.eval.mask_trees import open_mask_tree
from propagate.eval.report.comparison import Entry
from propagate.eval.report.html import ReadFrame, ReportFrame, html_report
from propagate.features.engine import choose_engine
from propagate.features.model_folder import open_model_folder
from propagate.features.origin import will_be_made_of
from propagate.features.presets import find_preset
from propagate.features.recipes import check_recipe
from propagate.io.decode.image_folder import ImageFolder
from propagate.io.masks.ids import checksum
from propagate.io.write.files import make_output_folder, write_atomically
from propagate.io.write.report import differences, read_report
from propagate.io.write.run_folder import RunFolder
from propagate.matchers import MatcherName
from propagate.pipeline import Propagator
from propagate.records import BACKGROUND_ID, Frame, Mask, Progress, Result, State
from propagate.run_settings import other_versions, versions

# The name of the baseline, given in place of a model: it copies the first mask to every frame. A
# method that does not score higher follows nothing.
FIRST_MASK = "first-mask"

Results = Generator[tuple[Frame, Result], None, None]
Predict = Callable[[Iterable[Frame], Mapping[int, Mask]], Results]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One model with its settings.

    Attributes:
        model: A preset, a folder in diffusers layout, a hub id, or `FIRST_MASK`.
        matcher: A name in `MATCHERS`; `FIRST_MASK` ignores it.
        recipe: A name in `RECIPES`, or None for the recipe of the model.
    """

    model: str
    matcher: MatcherName = "default"
    recipe: str | None = None

    @property
    def name(self) -> str:
        """The last part of the model, the recipe, and the matcher unless it is the default."""
        model = Path(os.path.abspath(self.model)).name  # "." has a name too
        if self.model == FIRST_MASK:
            return model
        matcher = None if self.matcher == "default" else self.matcher
        return "-".join(part for part in (model, self.recipe, matcher) if part is not None)

    @property
    def config(self) -> Config:
        """The settings of its runs."""
        return Config.named(self.matcher, recipe=self.recipe)


@dataclass(frozen=True, slots=True, eq=False)
class Benchmark:
    """The result of a benchmark.

    Attributes:
        title: What was scored.
        entries: One per configuration. It has no scores if a sequence failed.
        report: The HTML file.
    """

    title: str
    entries: tuple[Entry, ...]
    report: Path


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks that follow a benchmark.

    Attributes:
        say: Called with one line of text.
        progress: Called with the name of a configuration; opens its `Progress`, in frames.
    """

    say: Callable[[str], None] = lambda line: None
    progress: Callable[[str], AbstractContextManager[Progress]] = lambda name: nullcontext(
        lambda done, total: None
    )


def combine(
    models: Sequence[str], matchers: Sequence[MatcherName], recipes: Sequence[str | None] = (None,)
) -> list[Configuration]:
    """Combine every model with every recipe and every matcher; `FIRST_MASK` needs neither.

    Raises:
        ValueError: If a matcher or recipe is unknown, or two configurations have the same name.
        ModelError: If a model is neither a preset nor a folder, and no hub id.
    """
    for matcher in matchers:
        Config.named(matcher)
    for recipe in recipes:
        check_recipe(recipe)
    for model in models:
        if model != FIRST_MASK:
            find_preset(model)
    configurations = [
        Configuration(model, matcher, recipe)
        for model in models
        for recipe in (recipes[:1] if model == FIRST_MASK else recipes)
        for matcher in (matchers[:1] if model == FIRST_MASK else matchers)
    ]
    names = [configuration.name for configuration in configurations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two configurations are named {', '.join(twice)}; give each one once")
    return configurations


def benchmark(
    dataset: Dataset,
    configurations: Sequence[Configuration],
    out: str | Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    overwrite: bool = False,
    command: str = "",
    watch: Watch | None = None,
) -> Benchmark:
    """Predict every sequence with every configuration, score, and write the report.

    Args:
        dataset: The sequences and their truth.
        configurations: Each with a name of its own.
        out: Folder for everything; created if it does not exist.
        device, engine: See `Propagator`.
        overwrite: Whether to replace runs with other settings. Finished runs with the same settings
            are kept.
        command: The command that repeats the benchmark, for the report.
        watch: Callbacks; None for no messages.

    Raises:
        OutputError: If there are runs with other settings, or the results cannot be written.
        ModelError, DeviceError: If a model cannot be loaded; missing ones are reported before the
            first one is run.
        EvaluationError: If the truth cannot be used.
    """
    out = Path(out)
    runs = [_Runs(dataset, c, out / c.name, device, engine, overwrite) for c in configurations]
    if not overwrite:
        _refuse_others(runs)
    _refuse_models(runs)
    make_output_folder(out)
    entries = [_entry(each, each.run(watch or Watch())) for each in runs]
    about = {"command": command, **dataset.about}
    summary = {"title": dataset.title, **about, "configurations": [_summary(e) for e in entries]}
    write_atomically(out / "benchmark.json", (json.dumps(summary, indent=1) + "\n").encode())
    report = html_report(entries, _frame_reader(dataset, out), title=dataset.title, about=about)
    write_atomically(out / "report.html", report.encode())
    return Benchmark(dataset.title, tuple(entries), out / "report.html")


# --- running -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of one configuration, one per sequence."""

    dataset: Dataset
    configuration: Configuration
    folder: Path
    device: str
    engine: str
    overwrite: bool

    def is_finished(self, sequence: str) -> bool:
        """Whether there are finished masks with these settings."""
        try:
            return self.differences(sequence) == []
        except PropagateError:
            return False  # the reference cannot be read, and `run` reports that

    def differences(self, sequence: str) -> list[str] | None:
        """Name the settings in which a finished run differs; None if there is no finished run."""
        report = read_report(self.folder / sequence)
        if report is None:
            return None
        settings = self._settings(sequence, self.dataset.references(sequence))
        return differences(report, settings)

    def run(self, watch: Watch) -> dict[str, str]:
        """Predict the sequences that are not finished; return the errors of those that fail."""
        name, sequences = self.configuration.name, self.dataset.sequences
        todo = [sequence for sequence in sequences if not self.is_finished(sequence)]
        if len(todo) < len(sequences):
            count = len(sequences) - len(todo)
            others = self._other_versions(set(sequences) - set(todo))
            watch.say(
                f"{name}: {count} of {len(sequences)} sequences were already finished{others}"
            )
        if not todo:
            return {}
        predict, facts = self._load()
        failures: dict[str, str] = {}
        counts = {sequence: self._frame_count(sequence) for sequence in todo}
        done = 0
        with watch.progress(name) as progress:
            for number, sequence in enumerate(todo, 1):
                watch.say(f"{name}: {sequence}, sequence {number} of {len(todo)}")
                before = done

                def advance(count: int, before: int = before) -> None:
                    progress(before + count, sum(counts.values()))

                try:
                    self._run_one(sequence, predict, facts, advance)
                except PropagateError as error:
                    failures[sequence] = " ".join(str(error).split())
                done += counts[sequence]
        return failures

    def _other_versions(self, finished: Iterable[str]) -> str:
        """Say with which other versions finished sequences were made."""
        reports = [read_report(self.folder / sequence) or {} for sequence in sorted(finished)]
        found = dict.fromkeys(other for report in reports for other in other_versions(report))
        return f", with {', '.join(found)}" if found else ""

    def _settings(self, sequence: str, references: Mapping[int, Mask]) -> dict[str, Any]:
        """Collect everything that decides the masks of a sequence, as plain values."""
        settings: dict[str, Any] = {
            "model": self.configuration.model,
            "frames_given": len(self.dataset.images(sequence)),
            "references_sha256": {
                str(index): checksum(mask.ids) for index, mask in references.items()
            },
        }
        if self.configuration.model == FIRST_MASK:
            return settings
        config = self.configuration.config.to_json()
        return settings | self._made_of() | {"config": config}

    def _made_of(self) -> dict[str, Any]:
        """Say what computes the features; files of weights that were hashed are not read again."""
        return will_be_made_of(
            self.configuration.model,
            self.device,
            engine=self.engine,
            recipe=self.configuration.recipe,
        )

    def _frame_count(self, sequence: str) -> int:
        try:
            return len(self.dataset.images(sequence))
        except PropagateError:
            return 0

    def _load(self) -> tuple[Predict, dict[str, str]]:
        """Load the model once for all sequences; return the predictor and facts about it."""
        if self.configuration.model == FIRST_MASK:
            return copy_first_mask, {}
        config = self.configuration.config
        propagator = Propagator(
            self.configuration.model, device=self.device, engine=self.engine, config=config
        )

        def predict(frames: Iterable[Frame], references: Mapping[int, Mask]) -> Results:
            return propagator.follow(propagator.session(), frames, references)

        return predict, {"device": str(propagator.backbone.device)}

    def _run_one(
        self,
        sequence: str,
        predict: Predict,
        facts: Mapping[str, str],
        advance: Callable[[int], None],
    ) -> None:
        """Write the run of one sequence; `advance` is called with the number of frames done."""
        started = time.monotonic()
        references = self.dataset.references(sequence)
        settings = self._settings(sequence, references)
        images = self.dataset.images(sequence)
        with (
            ImageFolder(images[0].parent, images) as frames,
            RunFolder(self.folder / sequence, settings, overwrite=self.overwrite) as folder,
            closing(predict(frames, references)) as results,
        ):
            for count, (frame, result) in enumerate(results, 1):
                folder.write(frame, result)
                advance(count)
            seconds = round(time.monotonic() - started, 3)
            folder.report(**facts, versions=versions(), timing={"seconds": seconds})


def copy_first_mask(frames: Iterable[Frame], references: Mapping[int, Mask]) -> Results:
    """Predict the first mask for every frame: a baseline that follows nothing."""
    first = references[min(references)]
    ids = np.where(np.isin(first.ids, first.object_ids), first.ids, np.uint8(BACKGROUND_ID))
    scores = dict.fromkeys(first.object_ids, 1.0)
    states: dict[int, State] = dict.fromkeys(first.object_ids, "tracked")
    for frame in frames:
        yield frame, Result(frame.index, frame.time_s, ids, scores, states, scores)


def _refuse_others(runs: Sequence[_Runs]) -> None:
    """Raise an error, before anything is run, if there are finished runs with other settings."""
    others = {}
    for each in runs:
        for sequence in each.dataset.sequences:
            with suppress(PropagateError):  # `run` reports it
                if differences := each.differences(sequence):
                    others[each.folder / sequence] = differences
    if others:
        folder, differences = next(iter(others.items()))
        count = len(others) - 1
        more = f" (and {count} more)" if count else ""
        raise OutputError(
            f"{folder}: was run with other settings: {'; '.join(differences)}{more}",
            "pass {overwrite=True} to run it again, or choose another folder ({out})",
        )


def _refuse_models(runs: Sequence[_Runs]) -> None:
    """Raise an error, before anything is run, if a model that is needed cannot be had."""
    for each in runs:
        model = each.configuration.model
        if model == FIRST_MASK or all(map(each.is_finished, each.dataset.sequences)):
            continue
        choose_engine(each.engine, each.device)
        preset = find_preset(model)
        if preset.source is not None:
            open_model_folder(model, preset.source, preset.unet_weights)


# --- scoring and showing -------------------------------------------------------------------------


def _entry(runs: _Runs, failures: Mapping[str, str]) -> Entry:
    """Score a configuration, if none of its sequences failed."""
    reports = [read_report(runs.folder / sequence) for sequence in runs.dataset.sequences]
    finished = [report for report in reports if report is not None]
    scores_file = runs.folder / "scores.json"
    scored = None
    if failures:
        # The scores of an earlier benchmark no longer belong to the masks in the folder.
        scores_file.unlink(missing_ok=True)
    else:
        scored = runs.dataset.score(runs.folder)
        write_atomically(scores_file, scored.json.encode())
    is_baseline = runs.configuration.model == FIRST_MASK
    return Entry(
        name=runs.configuration.name,
        scores=scored and scored.scores,
        frames=sum(report["frames"] for report in finished),
        seconds=None if is_baseline else sum(r["timing"]["seconds"] for r in finished),
        failures=failures,
        facts=_facts(runs.configuration, finished),
        figures=scored.figures if scored else {},
    )


def _facts(configuration: Configuration, reports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Collect facts about the runs. If runs differ, as after an update, list all values."""
    if configuration.model == FIRST_MASK:
        return {"model": "the first mask, copied to every frame"}

    def values(of: Callable[[Mapping[str, Any]], Any]) -> str:
        return ", ".join(dict.fromkeys(str(of(report)) for report in reports))

    config = configuration.config
    facts = {
        "model": configuration.model,
        "recipe": configuration.recipe or "the model's own",
        "matcher": configuration.matcher,
        "matcher settings": "; ".join(
            f"{stage}: {_settings_text(settings)}"
            for stage, settings in asdict(config.matcher).items()
        ),
        "short side": f"{config.short_side_px} px",
        "device": values(lambda report: report["device"]),
        "engine": values(lambda report: report.get("engine", "-")),
        "precision": values(lambda report: report.get("dtype", "-")),
    }
    for name in versions():
        facts[name] = values(lambda report, name=name: report["versions"].get(name, "-"))
    return facts


def _settings_text(settings: Mapping[str, Any] | None) -> str:
    """Write the settings of one stage of the matcher."""
    return ", ".join(f"{k} {v}" for k, v in settings.items()) if settings else "off"


def _summary(entry: Entry) -> dict[str, Any]:
    """Convert an entry to plain values, without its scores per frame, which have their own file."""
    scores = entry.scores.to_dict() if entry.scores else None
    return {
        "name": entry.name,
        "global": scores and scores["global"],
        "per_sequence": scores and scores["per_sequence"],
        "figures": dict(entry.figures),
        "frames": entry.frames,
        "seconds": entry.seconds and round(entry.seconds, 3),
        "failures": dict(entry.failures),
        "facts": dict(entry.facts),
    }


def _frame_reader(dataset: Dataset, out: Path) -> ReadFrame:
    tree_of = cache(lambda configuration: open_mask_tree(out / configuration))

    def read_frame(configuration: str, sequence: str, frame: str) -> ReportFrame:
        images = dataset.images(sequence)
        image = images[[path.stem for path in images].index(frame)]
        prediction = tree_of(configuration).read(sequence, frame).ids
        assert prediction is not None  # runs write maps of ids
        with ImageFolder(image.parent, [image]) as frames:
            return ReportFrame(next(frames).image, dataset.truth(sequence, frame), prediction)

    return read_frame
