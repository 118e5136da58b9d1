"""The command `propagate find`: parse, call the public functions, print."""

from pathlib import Path
from typing import Annotated

import typer

from propagate.cli.options import (
    BackboneChoice,
    MaskChoice,
    MaxPixels,
    Overwrite,
    Template,
    limited_to,
    read_given_mask,
    say_mask,
    spread,
)
from propagate.cli.terminal import progress_of, say, say_error, show
from propagate.config import TEMPLATE
from propagate.errors import VideoError, counted


@spread
def find(
    *,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A picture, or a video for its first frame.")
    ],
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEO", help="Video files and folders of images.")
    ],
    mask: Annotated[
        Path | None,
        typer.Option("-m", "--mask", metavar="MASK", help="Mask of the objects in the picture."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Class of the object, for models that take text: dog. Without a mask, the object "
            "is found in the picture by its class.",
        ),
    ] = None,
    template: Template = TEMPLATE,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for contact_sheet.png and find.json."),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.001, help="Seconds between the frames that are examined.")
    ] = 0.5,
    top: Annotated[
        int, typer.Option(min=1, help="Most videos in the table and on the sheet, per object.")
    ] = 20,
    model: BackboneChoice,
    mask_reading: MaskChoice,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
) -> None:
    """Rank videos by how much of an object they show, and say when it appears.

    Each part of the object is compared with the most similar part of a frame. A score of 1 means no
    difference; 0.5 means no more difference than between parts of the labelled picture. A video has
    the score of its best frame. The object appears where the score is 0.43 or more.

    Example: propagate find dog.jpg -m dog.png clips/*.mp4 -o found
    """
    if mask is None and name is None:
        raise typer.BadParameter("give a mask, or a class name with --name", param_hint="--mask")

    from propagate.images.find import Finder, VideoSearch
    from propagate.images.find_report import check_free, format_found, write_found
    from propagate.io.decode.live import live_display_name
    from propagate.io.decode.one_frame import read_frame
    from propagate.run_settings import versions

    if out is not None:
        check_free(out, overwrite)
    options = limited_to(max_pixels)
    given = read_given_mask(mask, mask_reading, options)
    picture = read_frame(reference, options=options).image
    backbone = model.load(name, template)
    finder = Finder(backbone, picture, given, class_name=name)
    say_mask(given)
    searches: list[VideoSearch] = []
    failed = 0
    for video in videos:
        try:
            with progress_of(live_display_name(video)) as progress:
                search = finder.search(
                    video, every_s=every, source_options=options, progress=progress
                )
            searches.append(search)
            failure = search.error
        except VideoError as error:
            failure = error
        if failure is not None:
            failed += 1
            say_error(failure)
    if searches:
        show(format_found(searches, finder.object_ids, top))
    if out is not None and searches:
        settings = {
            "reference": reference,
            "mask": None if mask is None else str(mask),
            **model.settings,
            "every_s": every,
            **finder.settings,
            "versions": versions(),
        }
        write_found(out, searches, finder.object_ids, settings, top)
    if failed > 1:
        say(f"{failed} of {counted(len(videos), 'video')} could not be read to the end")
    if failed:
        raise typer.Exit(1)
