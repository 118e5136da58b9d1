"""The commands `propagate eval ...`: parse, call the public functions, print.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from propagate.terminal import show

eval_app = typer.Typer(
    no_args_is_help=True,
    help="Score predicted masks against ground truth.\n\n"
    "Example: propagate eval davis --root DAVIS --pred out",
)


@eval_app.command()
def davis(
    root: Annotated[
        Path, typer.Option(help="DAVIS root, or a folder of <sequence>/<frame>.png ground truth.")
    ],
    pred: Annotated[
        Path, typer.Option(help="Folder of <sequence>/<frame>.png, or the -o of `propagate run`.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every number here.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="ImageSets/2017/<split>.txt; without it, every sequence.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes to score with.")] = 1,
) -> None:
    """J, F and J&F as the DAVIS-2017 semi-supervised benchmark defines them.

    Example: propagate eval davis --root DAVIS --pred out --json scores.json
    """
    from propagate.eval.davis import evaluate_davis
    from propagate.eval.report import format_table
    from propagate.io.files import write_atomically

    scores = evaluate_davis(root, pred, split=split, jobs=jobs)
    if json_file is not None:
        write_atomically(json_file, scores.to_json().encode())
    show(format_table(scores))
