"""The command `propagate report`."""

from pathlib import Path
from typing import Annotated

import typer

from propagate.cli.options import MaxPixels, Overwrite, limited_to


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of one video's run: out/clip.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="The page. [FOLDER/report.html]"),
    ] = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page about a run: how sure each object was, and the frames to look at.

    The run need not be finished. The page is one HTML file that loads nothing. Its pictures are
    taken from the source, which is read again; if it is gone, the masks are shown alone.

    Example: propagate report out/clip
    """
    from propagate.report.page import write_report

    print(write_report(folder, out, overwrite=overwrite, options=limited_to(max_pixels)))
