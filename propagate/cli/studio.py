"""The command `propagate studio`: parse, call the public function, print."""

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from propagate.cli.options import Device, Engine, FeaturesEngineName, Model
from propagate.cli.terminal import Interrupted, as_option, say
from propagate.errors import PropagateError


def studio(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="VIDEO", help="Videos and folders of images to open at once."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The page may open files below this folder. [the folders of the videos, else the "
            "current folder]",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the results, one folder a video.")
    ] = Path("out"),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine; 0 takes a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    model: Model = "tiny",
    device: Device = "auto",
    engine: Engine = FeaturesEngineName.auto,
    uploads: Annotated[
        bool, typer.Option("--uploads", help="The page may send videos from the browser's machine.")
    ] = False,
    cache_mib: Annotated[
        int,
        typer.Option(
            min=1, metavar="MIB", help="Most temporary disk space for decoded frames, in MiB."
        ),
    ] = 2048,
) -> None:
    """Label, follow, watch and correct on a page in the browser.

    The page is for this machine only: the address that is printed holds a key, and is new at each
    start. On another machine, use an SSH tunnel: ssh -L 8000:127.0.0.1:8000 HOST, with --port 8000
    --no-browser there. A page that is open when the studio is started again needs the new address,
    also with --port. What is labelled and followed is saved at once in OUT/<name>/, where
    `propagate run` can go on with it.

    Example: propagate studio clip.mp4 -o out
    """
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise PropagateError(
            "the studio needs packages that are not installed",
            'pip install "propagate-video[studio]"',
        )

    from propagate.studio.serve import serve
    from propagate.studio.settings import StudioSettings

    given = videos or []
    roots = [root] if root is not None else [video.absolute().parent for video in given]
    settings = StudioSettings(
        roots=tuple(roots or [Path.cwd()]),
        out=out,
        model=model,
        device=device,
        engine=engine.value,
        uploads=uploads,
        cache_bytes=cache_mib * 2**20,
        command=_command(given, root, out, port, browser, model, device, uploads, cache_mib),
    )
    try:
        serve(settings, given, port=port, browser=browser, spelling=as_option, say=say)
    except Interrupted:
        say(f"the studio has ended; everything is saved. Start it again: {settings.command}")


def _command(
    videos: Sequence[Path],
    root: Path | None,
    out: Path,
    port: int,
    browser: bool,
    model: str,
    device: str,
    uploads: bool,
    cache_mib: int,
) -> str:
    """Spell the command that starts such a studio, for a shell."""
    words = ["propagate", "studio", *map(str, videos), "-o", str(out)]
    chosen = {
        "--root": root,
        "--port": port or None,
        "--model": None if model == "tiny" else model,
        "--device": None if device == "auto" else device,
        "--cache-mib": None if cache_mib == 2048 else cache_mib,
    }
    for option, value in chosen.items():
        words += [] if value is None else [option, str(value)]
    words += [] if browser else ["--no-browser"]
    words += ["--uploads"] if uploads else []
    return shlex.join(words)
