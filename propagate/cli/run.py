"""The command `propagate run`: parse, call the public functions, print."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from propagate.cli.event_log import event_log, logging_to
from propagate.cli.options import (
    LogJson,
    ModelChoice,
    Out,
    OutputChoice,
    ReferenceChoice,
    SourceChoice,
    spread,
)
from propagate.cli.prompt_choice import PromptChoice
from propagate.cli.terminal import (
    CONTINUE,
    error_text,
    if_interrupted,
    progress_of,
    say,
    say_error,
    say_what_is_logged,
    saying_what_is_slow,
    speed_text,
)
from propagate.errors import (
    DeviceError,
    MaskError,
    ModelError,
    OutputError,
    PropagateError,
    counted,
)

if TYPE_CHECKING:
    from propagate.batch.events import Run
    from propagate.io.decode.options import SourceOptions
    from propagate.io.masks.reading import MaskReading
    from propagate.prompts.records import Prompt
    from propagate.records import Frame, Mask, Progress
    from propagate.refine.refiner import Refiner
    from propagate.run_summary import RunSummary

LIVE_IS_OVER = (
    "a camera or stream cannot be continued: what was written stays; choose another folder with -o "
    "for the next run"
)


@spread
def run(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Video files, folders or ZIP archives of images, a camera index or address.",
        ),
    ],
    *,
    out: Out,
    masks: Annotated[
        Path | None,
        typer.Option(
            "-m",
            "--mask",
            metavar="MASK",
            help="Mask of frame 0, as a picture, a NumPy array or COCO JSON. Or a folder: for one "
            "source, of masks named after their frames; for several, of <name>.png or <name>/.",
        ),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="FRAME=MASK",
            help="Mask of any frame, counted from 0: 120=b.png. An image of a folder may be named: "
            "img_0120=b.png or img_0120.jpg=b.png. May be repeated.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="ID=CLASS",
            help="Class of an object, for models that take text: 1=dog. Helps to find the object "
            "when it was lost. May be repeated.",
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the U-Net: the first frames take minutes, all others less. For GPUs.",
        ),
    ] = False,
    prompts: PromptChoice,
    model: ModelChoice,
    output: OutputChoice,
    source: SourceChoice,
    mask_reading: ReferenceChoice,
    log_json: LogJson = None,
) -> None:
    """Follow the objects of a mask through a video.

    Writes OUT/<name>/masks/00000.png ... and, last, OUT/<name>/result.json. In a mask, white on
    black is one object; other values are object ids, 255 is void. Frames before a reference are
    followed backwards from it, frames between two references from both.

    Without a mask, or beside it, objects may be marked with --box, --point, --stroke and --polygon,
    in pixels of the frame --at; see `propagate prompt`, which shows what is made of them.

    Example: propagate run clip.mp4 -m first.png -o out --overlay
    """
    from propagate.io.decode.image_paths import as_folders

    sources = as_folders(sources)
    source_options = source.source_options()
    options = output.run_options(source_options, overwrite=output.overwrite)
    marked = prompts.prompts()
    reading = mask_reading.reading(source_options.max_pixels)
    references = _references(sources, masks, named or [], reading, marked=bool(marked))
    frames = _marked_frames(sources, prompts, marked, references, source_options)
    class_names = _class_names(names or [], references, marked)

    from propagate.batch.events import reporting_failures, run_reporting
    from propagate.features.recipes import check_recipe
    from propagate.io.decode.live import live_display_name
    from propagate.io.decode.video import is_live, name_of
    from propagate.io.write.layout import PAGE
    from propagate.pipeline import Propagator
    from propagate.run_check import check_before_loading

    try:
        config = model.config(class_names)
        check_recipe(model.recipe)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

    @cache
    def load() -> "tuple[Propagator, Refiner | None]":
        """Load the models, once a source has passed all that can be checked without them."""
        try:
            propagator = Propagator(
                model.model,
                device=model.device,
                dtype=model.dtype.value,
                engine=model.engine.value,
                compile=compiled,
                config=config,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        if output.refine is None:
            return propagator, None
        from propagate.refine.refiner import load_refiner

        return propagator, load_refiner(output.refine, device=model.device, dtype=model.dtype.value)

    def follow(path: str, given: "Mapping[int, Mask]", **watched: Any) -> "RunSummary":
        if not marked:
            check_before_loading(path, given, out, options, model=model.model, config=config)
        propagator, refiner = load()
        if marked:
            with saying_what_is_slow() as now:
                found = prompts.masks(propagator, frames, marked, now)
            given = dict(sorted({**given, **_joined(given, found)}.items()))
        return propagator.run(
            path, given, out, options, refine=refiner, keep_finished=True, **watched
        )

    failures = 0
    say_what_is_logged()
    with event_log(log_json) as log:
        for number, (path, given) in enumerate(zip(sources, references, strict=True)):
            go = partial(follow, path, given)
            on_event = logging_to(log, name_of(path))
            try:
                with (
                    if_interrupted(LIVE_IS_OVER if is_live(path) else CONTINUE),
                    reporting_failures(0, number, on_event),
                    progress_of(live_display_name(path)) as show,
                ):
                    summary = run_reporting(partial(_showing, show, go), 0, number, on_event)
            except PropagateError as error:
                if len(sources) == 1 or isinstance(error, ModelError | DeviceError):
                    raise
                failures += 1
                say_error(error)
            else:
                for note in summary.notes if summary.was_finished else ():
                    say(note)
                print(_last_line(summary))
                if output.report:
                    print(summary.folder / PAGE)
                _say_what_is_doubtful(summary.folder, live=is_live(path))
    if failures:
        say(f"error: {failures} of {len(sources)} sources failed, see above")
        raise typer.Exit(1)


def _references(
    sources: Sequence[str],
    masks: Path | None,
    named: Sequence[str],
    reading: "MaskReading",
    *,
    marked: bool,
) -> "list[dict[int, Mask]]":
    """Read the masks of each source."""
    from propagate.io.masks.references import (
        BadReferenceError,
        add_references,
        masks_of_sources,
    )

    if masks is None and not named and not marked:
        raise typer.BadParameter(
            "give a mask, or --reference FRAME=MASK, or mark objects with --point, --box, --stroke "
            "or --polygon",
            param_hint="--mask",
        )
    given = [{} for _ in sources]
    if masks is not None:
        given = masks_of_sources(masks, list(sources), reading=reading)
    try:
        return add_references(given, list(named), source=sources[0], reading=reading)
    except BadReferenceError as error:
        text = error_text(error.message, error.hint)
        raise typer.BadParameter(text, param_hint="--reference") from error


def _marked_frames(
    sources: Sequence[str],
    choice: PromptChoice,
    marked: "Mapping[int, list[Prompt]]",
    references: "Sequence[Mapping[int, Mask]]",
    options: "SourceOptions",
) -> "dict[int, Frame]":
    """Read the frames that are marked; nothing of a mask there may be marked again."""
    if not marked:
        return {}
    from propagate.io.decode.live import live_display_name
    from propagate.io.decode.video import is_live

    if len(sources) > 1:
        raise typer.BadParameter(
            f"objects are marked on frames of one source, not of {len(sources)}",
            param_hint="--point",
        )
    if is_live(sources[0]) or options.follow_timeout_s is not None:
        raise typer.BadParameter(
            f"{live_display_name(sources[0])}: is live, and its frames are not known before the "
            "run; give a mask with -m",
            param_hint="--point",
        )
    for index, prompts in marked.items():
        ids = references[0][index].object_ids if index in references[0] else ()
        if twice := {prompt.object_id for prompt in prompts} & {*ids}:
            raise MaskError(
                f"frame {index}: object {min(twice)} is marked and is in "
                f"{references[0][index].source} too",
                "choose another id for one of them",
            )
    return choice.read_frames(sources[0], marked, options)


def _joined(given: "Mapping[int, Mask]", found: "Mapping[int, Mask]") -> "dict[int, Mask]":
    """Lay the marked objects under those of a mask of the same frame."""
    import numpy as np

    from propagate.io.masks.ids import check_size
    from propagate.records import BACKGROUND_ID

    joined = {}
    for index, mask in found.items():
        under = given.get(index)
        if under is not None:
            check_size(under, *mask.ids.shape)
            ids = np.where(under.ids == BACKGROUND_ID, mask.ids, under.ids)
            mask = replace(under, ids=ids, source=f"{under.source} and prompts")
        joined[index] = mask
    return joined


def _class_names(
    named: Sequence[str],
    references: "Sequence[Mapping[int, Mask]]",
    marked: "Mapping[int, list[Prompt]]",
) -> dict[int, str]:
    """Read `1=dog` and the like; every object must be in a mask."""
    class_names = {}
    for text in named:
        object_id, _, name = text.partition("=")
        if not object_id.strip().isdecimal() or not name.strip():
            raise typer.BadParameter(f"{text!r}: an object id and a class, such as 1=dog")
        class_names[int(object_id)] = name.strip()
    ids = {i for masks in references for mask in masks.values() for i in mask.object_ids}
    ids |= {prompt.object_id for prompts in marked.values() for prompt in prompts}
    if unknown := class_names.keys() - ids:
        raise typer.BadParameter(
            f"no mask has an object {min(unknown)}; there are {sorted(ids)}", param_hint="--name"
        )
    return class_names


def _showing(show: "Progress", run: "Run", *, progress: "Progress") -> "RunSummary":
    """Run, and show the progress on the terminal too."""

    def both(done: int, total: int | None) -> None:
        show(done, total)
        progress(done, total)

    return run(progress=both)


def _say_what_is_doubtful(folder: Path, *, live: bool) -> None:
    """Name the objects that are doubtful in most of their frames, and what to do."""
    from propagate.report.doubtful import mostly_doubtful
    from propagate.report.saved import SavedRun

    try:
        result = SavedRun(folder).result
    except OutputError:
        return  # The run is there all the same, finished by a version that wrote another report.
    for doubt in mostly_doubtful(result):
        look = f"look at the page of `propagate report {folder}`"
        mend = f"if frame {doubt.begins} shows it, give a mask there (--reference, --update), or "
        say(f"{doubt}: {'' if live else mend}{look}")


def _last_line(summary: "RunSummary") -> str:
    if summary.was_finished:
        with_others = f" with {', '.join(summary.made_with)}" if summary.made_with else ""
        return f"{summary.folder}: finished before{with_others}; left as it is"
    fps = summary.frames / summary.seconds if summary.seconds else 0.0
    frames = counted(summary.frames, "frame")
    objects = counted(len(summary.object_ids), "object")
    return (
        f"{summary.folder}: {', '.join(summary.written)}; {frames}, {objects}, "
        f"{summary.seconds:.1f} s, {speed_text(fps)}"
    )
