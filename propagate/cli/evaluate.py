"""The commands `propagate eval ...`: parse, call the public functions, print.

Heavy imports are inside the commands, so that `--help` is quick.
"""

from pathlib import Path
from typing import Annotated, cast

import typer

from propagate.cli.permis import permis_app
from propagate.cli.terminal import say, show

eval_app = typer.Typer(
    no_args_is_help=True,
    help="Score predicted masks against ground truth.\n\n"
    "Example: propagate eval davis --root DAVIS --pred out",
)
eval_app.add_typer(permis_app, name="permis")


@eval_app.command()
def davis(
    root: Annotated[
        Path,
        typer.Option(
            help="Root of the data set, or any folder with a folder of true masks per sequence."
        ),
    ],
    pred: Annotated[
        Path,
        typer.Option(
            help="Folder with a folder of predicted masks per sequence, as runs write it."
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(help="davis2017, davis2016, youtube-vos, mose, lvos or sa-v; see above."),
    ] = "davis2017",
    task: Annotated[
        str, typer.Option(help="semi-supervised, or unsupervised (davis2017, davis2016).")
    ] = "semi-supervised",
    split: Annotated[
        str | None,
        typer.Option(help="Sequences to score: a list such as ImageSets/2017/<split>.txt. [all]"),
    ] = None,
    resolution: Annotated[str, typer.Option(help="Folder under Annotations, for DAVIS.")] = "480p",
    unseen: Annotated[
        Path | None,
        typer.Option(help="lvos, youtube-vos: sequences of unseen categories (unseen_videos.txt)."),
    ] = None,
    categories: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="youtube-vos: meta.json of the scored split, then that of the training split.",
            metavar="META META",
        ),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(help="davis2016: db_info.yaml, if it is not in the root or in data/."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out sequences and frames without a prediction, and name them.",
        ),
    ] = False,
    refined: Annotated[
        bool, typer.Option("--refined", help="Score the masks that `run --refine` refined.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every number here.")
    ] = None,
    csv_folder: Annotated[
        Path | None,
        typer.Option("--csv", help="Also write the two files of davis2017-evaluation here."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Score J, F and J&F of a data set, as its benchmark defines them.

    davis2017: objects 1..n of the first frame; the first and last frame are not scored. The numbers
    of davis2017-evaluation, bit for bit. Unsupervised: all frames, up to 20 proposals are matched
    to the objects.

    davis2016: one object, every pixel that is not 0; also J and F for each attribute, if listed.

    youtube-vos: an object counts after its own first frame; mean of seen and unseen categories.

    mose: the ids of the first frame; the first and last frame are not scored.

    lvos: like youtube-vos, but the last frame is not scored.

    sa-v: the ids of the scored frames; an object counts from the first frame in which it is in the
    truth or the prediction. The numbers of sav_evaluator and vos-benchmark.

    `propagate eval protocols` lists all rules. A missing or unusable mask is an error that names
    the file.

    Example: propagate eval davis --root DAVIS --pred out --split val --json scores.json
    """
    from propagate.cli.tables import format_table
    from propagate.eval.davis import evaluate_davis
    from propagate.eval.groups import check_lists
    from propagate.eval.protocols import ProtocolName, Task, find_protocol
    from propagate.eval.report.official_csv import write_official_csv
    from propagate.io.write.files import write_atomically

    try:
        check_lists(find_protocol(protocol, task), unseen, categories, attributes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    scores = evaluate_davis(
        root,
        pred,
        protocol=cast(ProtocolName, protocol),
        task=cast(Task, task),
        split=split,
        resolution=resolution,
        unseen=unseen,
        categories=categories,
        attributes=attributes,
        allow_missing=allow_missing,
        refined=refined,
        jobs=jobs,
        say=say,
    )
    if json_file is not None:
        write_atomically(json_file, scores.to_json().encode())
    if csv_folder is not None:
        write_official_csv(scores, csv_folder, split or "all")
    show(format_table(scores))


@eval_app.command()
def protocols() -> None:
    """List the protocols of `eval davis` with their rules.

    Example: propagate eval protocols
    """
    from propagate.cli.tables import format_protocols

    show(format_protocols())
