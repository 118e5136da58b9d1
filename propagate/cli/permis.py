"""The commands `propagate eval permis ...`: parse, call the public functions, print."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from propagate.cli.terminal import say, show
from propagate.errors import counted

permis_app = typer.Typer(invoke_without_command=True)


class Task(StrEnum):
    """What is scored."""

    VIDEO = "video"
    IMAGES = "images"
    RETRIEVAL = "retrieval"


@permis_app.callback()
def permis(
    context: typer.Context,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="The list that `permis build` wrote.")
    ] = None,
    pred: Annotated[
        Path | None,
        typer.Option(
            help="Predictions: a folder of <video>/<frame>.png or the -o of `propagate run`, with "
            "the names of the list, or a BURST JSON. For retrieval, a CSV or JSON table of "
            "similarities."
        ),
    ] = None,
    task: Annotated[
        Task,
        typer.Option(
            help="video: J, F and identity switches. images: IoU and boundary IoU of pairs. "
            "retrieval: mAP and recall."
        ),
    ] = Task.VIDEO,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every number here.")
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out videos and frames without a prediction, and name them.",
        ),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes that score videos.")] = 1,
) -> None:
    """Score PerMIS: videos and images with several instances of one class.

    Example: propagate eval permis --list permis.json --pred out --json scores.json
    """
    if context.invoked_subcommand is not None:
        return
    if list_file is None or pred is None:
        missing = "--list" if list_file is None else "--pred"
        raise typer.BadParameter("this option is required", param_hint=f"'{missing}'")
    from propagate.cli.tables import format_images, format_permis, format_retrieval
    from propagate.eval.permis.images import evaluate_permis_images
    from propagate.eval.permis.list import read_permis_list
    from propagate.eval.permis.retrieval import evaluate_permis_retrieval
    from propagate.eval.permis.video import evaluate_permis
    from propagate.io.write.files import write_atomically

    videos = read_permis_list(list_file)
    if task is Task.VIDEO:
        scores = evaluate_permis(videos, pred, allow_missing=allow_missing, jobs=jobs, say=say)
        table = format_permis(scores)
    elif task is Task.IMAGES:
        scores = evaluate_permis_images(videos, pred, allow_missing=allow_missing, say=say)
        table = format_images(scores)
    else:
        scores = evaluate_permis_retrieval(videos, pred)
        table = format_retrieval(scores)
    if json_file is not None:
        write_atomically(json_file, scores.to_json().encode())
    show(table)


@permis_app.command()
def build(
    annotations: Annotated[
        list[Path],
        typer.Option(help="BURST's all_classes.json of a split; give it once for each split."),
    ],
    images: Annotated[Path, typer.Option(help="Folder of <split>/<data set>/<sequence>/<image>.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write the list.")],
    drop: Annotated[
        str, typer.Option(help="Source data sets to leave out, separated by commas; '' for none.")
    ] = "AVA,HACS,LaSOT",
    minimum_instances: Annotated[
        int, typer.Option(min=2, help="Instances of one class that a frame must show.")
    ] = 2,
    minimum_area: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of the frame that an instance must fill.")
    ] = 0.001,
    seed: Annotated[int, typer.Option(help="Seed that draws the frames of the image tasks.")] = 0,
) -> None:
    """Build the list of videos, frames and instances. Scores over the same list are comparable.

    Example: propagate eval permis build --annotations val.json --images frames -o permis.json
    """
    from propagate.cli.tables import format_list
    from propagate.eval.permis.build import Choices, build_permis_list
    from propagate.eval.permis.list import write_permis_list

    choices = Choices(
        dropped_sources=tuple(name for name in drop.split(",") if name),
        minimum_instances=minimum_instances,
        minimum_area_share=minimum_area,
        seed=seed,
    )
    videos = build_permis_list(annotations, images, choices)
    write_permis_list(out, videos)
    say(f"{out}: {counted(len(videos.videos), 'video')}")
    show(format_list(videos))
