"""The commands `propagate benchmark ...`: parse, call the public functions, print.

Heavy imports are inside the commands, so that `--help` answers at once.
"""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from propagate.cli.options import Device, Engine, FeaturesEngineName
from propagate.cli.terminal import CONTINUE, if_interrupted, progress_of, say, show
from propagate.errors import counted

if TYPE_CHECKING:
    from propagate.benchmark.datasets import Dataset
    from propagate.benchmark.runner import Configuration
    from propagate.matchers import MatcherName

benchmark_app = typer.Typer(
    no_args_is_help=True,
    help="Run models over a data set, score them side by side, and write an HTML report.\n\n"
    "The same command continues a benchmark that was stopped.\n\n"
    "Example: propagate benchmark davis --root DAVIS --model tiny --model first-mask -o out",
)


class DavisName(StrEnum):
    """The rules by which a DAVIS root is scored."""

    davis2017 = "davis2017"
    davis2016 = "davis2016"


Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        metavar="MODEL",
        help="As for `propagate run`; or first-mask, which copies the first mask. Give it several "
        "times to compare.",
    ),
]
Matchers = Annotated[
    list[str],
    typer.Option(
        "--matcher",
        metavar="NAME",
        default_factory=lambda: ["default"],
        show_default="default",
        help="default, dino, dift, crw. Give it several times to compare.",
    ),
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="Which features are read: default, dift, dift-semantic, paper, official. Give it "
        "several times to compare. [what the model's folder says]",
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for masks, scores and report.")]
Sequences = Annotated[
    str, typer.Option(metavar="A,B", help="Only these sequences, separated by commas.")
]
MaxFrames = Annotated[
    int | None, typer.Option(min=3, help="Only this many frames of each sequence.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes to score with.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace runs that were made with other settings.")
]


@benchmark_app.command()
def davis(
    root: Annotated[Path, typer.Option(help="DAVIS root: JPEGImages and Annotations.")],
    models: Models,
    matchers: Matchers,
    out: Out,
    recipes: Recipes = None,
    protocol: Annotated[
        DavisName, typer.Option(help="davis2016 merges all objects into one.")
    ] = DavisName.davis2017,
    split: Annotated[
        str,
        typer.Option(
            help="List of sequences in ImageSets. auto: val, or all sequences if there are no "
            "ImageSets."
        ),
    ] = "auto",
    sequences: Sequences = "",
    max_frames: MaxFrames = None,
    jobs: Jobs = 1,
    device: Device = "auto",
    engine: Engine = FeaturesEngineName.auto,
    overwrite: Overwrite = False,
) -> None:
    """J and F on a DAVIS root, each sequence from its first annotated mask.

    Example: propagate benchmark davis --root DAVIS --model tiny --model first-mask -o out
    """
    from propagate.benchmark.datasets import DavisData

    configurations = _combine(models, matchers, recipes)
    data = DavisData(
        root,
        protocol=protocol.value,
        split=split,
        sequences=_names(sequences),
        max_frames=max_frames,
        jobs=jobs,
    )
    _benchmark(data, configurations, out, device, engine, overwrite)


@benchmark_app.command()
def permis(
    root: Annotated[Path, typer.Option(help="Images, as for `propagate eval permis build`.")],
    permis_list: Annotated[
        Path, typer.Option("--list", help="The list that `propagate eval permis build` wrote.")
    ],
    models: Models,
    matchers: Matchers,
    out: Out,
    recipes: Recipes = None,
    sequences: Sequences = "",
    max_frames: MaxFrames = None,
    jobs: Jobs = 1,
    device: Device = "auto",
    engine: Engine = FeaturesEngineName.auto,
    overwrite: Overwrite = False,
) -> None:
    """J, F and identity switches on PerMIS-video, each video from the masks of its first frame.

    Example: propagate benchmark permis --root BURST --list permis.json --model tiny -o out
    """
    from propagate.benchmark.datasets import PermisData

    configurations = _combine(models, matchers, recipes)
    names = _names(sequences)
    data = PermisData(root, permis_list, sequences=names, max_frames=max_frames, jobs=jobs)
    _benchmark(data, configurations, out, device, engine, overwrite)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _combine(
    models: list[str], matchers: list[str], recipes: list[str] | None
) -> "list[Configuration]":
    """Combine the options; a name that is unknown is an error before the data set is read."""
    from propagate.benchmark.runner import combine

    try:
        return combine(models, cast("list[MatcherName]", matchers), recipes or [None])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _benchmark(
    data: "Dataset",
    configurations: "list[Configuration]",
    out: Path,
    device: str,
    engine: FeaturesEngineName,
    overwrite: bool,
) -> None:
    from propagate.benchmark.runner import Watch, benchmark
    from propagate.cli.tables import format_comparison

    with if_interrupted(CONTINUE):
        result = benchmark(
            data,
            configurations,
            out,
            device=device,
            engine=engine.value,
            overwrite=overwrite,
            command=shlex.join(["propagate", *sys.argv[1:]]),
            watch=Watch(say, progress_of),
        )
    show(format_comparison(result.entries, result.title))
    print(f"report: {result.report}")
    failures = [
        f"{entry.name}, {sequence}: {error}"
        for entry in result.entries
        for sequence, error in entry.failures.items()
    ]
    for failure in failures:
        say(f"error: {failure}")
    if failures:
        say(
            f"error: {counted(len(failures), 'run')} failed, see above; run the same command to "
            "try again"
        )
        raise typer.Exit(1)
