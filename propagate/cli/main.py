"""The command `propagate`: parse, call the public functions, print.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from propagate.cli.batch import batch, status
from propagate.cli.benchmark import benchmark_app
from propagate.cli.evaluate import eval_app
from propagate.cli.event_log import event_log, logging_to
from propagate.cli.features import features
from propagate.cli.find import find
from propagate.cli.models import models
from propagate.cli.options import (
    DecoderName,
    Decoding,
    Device,
    Dtype,
    DtypeName,
    End,
    Follow,
    FollowTimeout,
    Formats,
    ForwardOnly,
    Fps,
    Isolate,
    LogJson,
    MatcherName,
    Matching,
    MaxFrames,
    MaxPixels,
    Model,
    Out,
    Overlay,
    Overwrite,
    Recipe,
    Reconnect,
    ShortSide,
    Start,
    Stride,
    Template,
    parse_formats,
)
from propagate.cli.segment import segment
from propagate.cli.terminal import GO_ON, Interrupted, if_interrupted, progress_of, say, say_error
from propagate.config import SHORT_SIDE_PX, TEMPLATE, Config
from propagate.errors import PropagateError

if TYPE_CHECKING:
    from propagate.batch.events import Pulse, Run
    from propagate.records import Progress
    from propagate.run import RunSummary

app = typer.Typer(
    name="propagate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Follow object instances through a video from one labelled frame, training nothing.\n\n"
    "Example: propagate run clip.mp4 -m first.png -o out --overlay",
)
app.add_typer(eval_app, name="eval")
app.add_typer(benchmark_app, name="benchmark")
app.command()(batch)
app.command()(status)
app.command()(models)
app.command()(features)
app.command()(find)
app.command()(segment)

INTERRUPTED = 130
LIVE_IS_OVER = (
    "a camera or stream cannot be gone on with: what was written stays, choose another folder with "
    "-o for the next run"
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"propagate {version('propagate-video')}")
        except PackageNotFoundError:
            print("propagate, not installed: run from a checkout")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback in place of a one-line error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Set what all commands share."""
    # `main` looks for --debug itself: it has to know before anything is parsed.


@app.command()
def run(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="Video files, folders of images, a camera index or address."
        ),
    ],
    out: Out,
    masks: Annotated[
        Path | None,
        typer.Option(
            "-m",
            "--mask",
            metavar="MASK",
            help="Mask of frame 0 (index PNG), or a folder: of <frame number>.png for one "
            "source, of <name>.png or <name>/ for several.",
        ),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="FRAME=MASK",
            help="Mask of any frame, counted from 0: 120=b.png. May be repeated.",
        ),
    ] = None,
    forward_only: ForwardOnly = False,
    model: Model = "tiny",
    recipe: Recipe = None,
    matcher: Matching = MatcherName.default,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="ID=CLASS",
            help="What an object is, for models that take text: 1=dog. May be repeated. Helps to "
            "find it when it was lost.",
        ),
    ] = None,
    template: Template = TEMPLATE,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    short_side: ShortSide = SHORT_SIDE_PX,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the U-Net: minutes at first, less for every frame. For GPUs."
        ),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Frames through the U-Net at once. [as many as fit, 1 on a CPU]"),
    ] = None,
    overlay: Overlay = False,
    formats: Formats = "png",
    refine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Refine the masks with SAM: sam, sam2, a folder in transformers layout, or hub "
            "id. They go into refined/, beside masks/, and into the overlay.",
        ),
    ] = None,
    decoder: Decoding = DecoderName.auto,
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    fps: Fps = None,
    isolate: Isolate = False,
    max_pixels: MaxPixels = None,
    follow: Follow = False,
    follow_timeout: FollowTimeout = 10.0,
    reconnect: Reconnect = 0.0,
    overwrite: Overwrite = False,
    max_frames: MaxFrames = None,
    log_json: LogJson = None,
) -> None:
    """Follow the objects of a mask through a video.

    Writes OUT/<name>/masks/00000.png ... and, last, OUT/<name>/result.json. White on black is one
    object; other values are object ids, 255 is void. Frames before a reference are reached
    backwards from it, those between two from both.

    Example: propagate run clip.mp4 -m first.png -o out --overlay
    """
    from propagate.io.decode.frame_range import FrameRange
    from propagate.io.decode.live import label
    from propagate.io.decode.options import SourceOptions
    from propagate.io.decode.pixel_limit import MAX_PIXELS
    from propagate.io.write.references import add_references, masks_of_sources

    max_pixels = max_pixels or MAX_PIXELS
    try:
        frame_range = FrameRange.parse(start, end, stride, fps)
        source_options = SourceOptions(
            decoder=decoder.value,
            frame_range=None if frame_range == FrameRange() else frame_range,
            isolate=isolate,
            max_pixels=max_pixels,
            follow_timeout_s=follow_timeout if follow else None,
            reconnect_s=reconnect,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    chosen = parse_formats(formats)
    if masks is None and not named:
        raise typer.BadParameter("give a mask, or --reference FRAME=MASK", param_hint="--mask")
    given = [{} for _ in sources]
    if masks is not None:
        given = masks_of_sources(masks, sources, max_pixels=max_pixels)
    references = add_references(given, named or [], max_pixels=max_pixels)
    for mask in {id(m): m for masks in references for m in masks.values()}.values():
        if mask.binary:
            say(f"{mask.source}: black and white: one object, id 1")

    class_names = parse_class_names(names or [])
    given_ids = {i for masks in references for mask in masks.values() for i in mask.object_ids}
    if unknown := class_names.keys() - given_ids:
        raise typer.BadParameter(
            f"no mask has an object {min(unknown)}; there are {sorted(given_ids)}",
            param_hint="--name",
        )

    from propagate.batch.events import reporting_failures, run_reporting
    from propagate.io.decode.video import is_live, name_of
    from propagate.pipeline import Propagator

    try:
        config = Config.named(
            matcher.value,
            short_side_px=short_side,
            recipe=recipe,
            class_names=class_names,
            template=template,
        )
        propagator = Propagator(
            model, device=device, dtype=dtype.value, compile=compiled, config=config
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    refiner = None
    if refine is not None:
        from propagate.refine.refiner import load_refiner

        refiner = load_refiner(refine, device=device, dtype=dtype.value)
    failures = 0
    with event_log(log_json) as log:
        for number, (source, frames) in enumerate(zip(sources, references, strict=True)):
            go = partial(
                propagator.run,
                source,
                frames,
                out,
                source_options=source_options,
                formats=chosen,
                overlay=overlay,
                refine=refiner,
                batch_size=batch_size,
                max_frames=max_frames,
                both_ways=not forward_only,
                overwrite=overwrite,
                # Given again after an interruption, several are gone on with as one: those before
                # it are done.
                keep_finished=len(sources) > 1,
            )
            on_event = logging_to(log, name_of(source))
            try:
                with (
                    if_interrupted(LIVE_IS_OVER if is_live(source) else GO_ON),
                    reporting_failures(0, number, on_event),
                    progress_of(label(source)) as show,
                ):
                    summary = run_reporting(partial(_showing, show, go), 0, number, on_event)
            except PropagateError as error:
                if len(sources) == 1:
                    raise
                failures += 1
                say_error(error)
            else:
                print(_last_line(summary))
    if failures:
        say(f"error: {failures} of {len(sources)} sources failed, see above")
        raise typer.Exit(1)


def _showing(show: "Progress", run: "Run", *, progress: "Progress", clock: "Pulse") -> "RunSummary":
    """Run, and show how far it is on the terminal too."""

    def both(done: int, total: int | None) -> None:
        show(done, total)
        progress(done, total)

    return run(progress=both, clock=clock)


def parse_class_names(named: list[str]) -> dict[int, str]:
    """Read `1=dog` and the like: object id -> class name."""
    class_names = {}
    for text in named:
        object_id, _, name = text.partition("=")
        if not object_id.strip().isdecimal() or not name.strip():
            raise typer.BadParameter(f"{text!r}: an object id and a class, such as 1=dog")
        class_names[int(object_id)] = name.strip()
    return class_names


def _last_line(summary: "RunSummary") -> str:
    if summary.was_finished:
        return f"{summary.folder}: finished before; left as it is"
    fps = summary.frames / summary.seconds if summary.seconds else 0.0
    objects = f"{len(summary.object_ids)} object{'s' * (len(summary.object_ids) != 1)}"
    return (
        f"{summary.folder}: {', '.join(summary.written)}; {summary.frames} frames, {objects}, "
        f"{summary.seconds:.1f} s, {fps:.1f} frames/s"
    )


def main() -> None:
    """Run the command line; a failure is one line on stderr and exit status 1."""
    debug = "--debug" in sys.argv[1:]
    _stop_on_signals()
    try:
        app()
    except PropagateError as error:
        if debug:
            raise
        say_error(error)
        sys.exit(1)
    except Interrupted as stop:
        if debug:
            raise
        say("; ".join(["interrupted", *getattr(stop, "__notes__", [])]))
        sys.exit(INTERRUPTED)


def _stop_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end a run alike: files finished, the report written."""
    import signal

    def stop(number: int, _frame: object) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM):
        # Under nohup, or behind a shell's "&", a signal is ignored; it stays so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
