"""The command `propagate segment`: parse, call the public functions, print."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from propagate.cli.options import (
    BackboneChoice,
    MaskChoice,
    MaxPixels,
    Overwrite,
    limited_to,
    read_given_mask,
    say_mask,
    spread,
)
from propagate.cli.segment_method import Chosen, choose
from propagate.cli.terminal import if_interrupted, progress_of, say, say_error, show
from propagate.config import SHORT_SIDE_PX, TEMPLATE
from propagate.errors import counted

if TYPE_CHECKING:
    from propagate.io.decode.options import SourceOptions


START_AGAIN = "run the same command with --overwrite to start again"


class MethodName(StrEnum):
    """From features to masks, see `propagate.images.segment`."""

    default = "default"
    paper = "paper"
    official = "official"


@spread
def segment(
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="REFERENCE TARGET",
            help="The labelled picture, then pictures and folders of pictures.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("-m", "--mask", metavar="MASK", help="Mask of the objects in REFERENCE."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Class of the objects, for models that take text: dog. Without a mask, the object "
            "is found in REFERENCE by its class.",
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help=f"Prompt around the class name. [{TEMPLATE}]")
    ] = None,
    method: Annotated[
        MethodName,
        typer.Option(
            help="From features to masks: ours, PDM's equations, or the votes of its released "
            "code. paper and official bring the recipe of the same name (for Stable Diffusion), a "
            "short side of 512 and float32; official also the prompt 'A photo'. --recipe, "
            "--short-side, --dtype and --template override them."
        ),
    ] = MethodName.default,
    present_from: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            help="With method default: lowest score of a picture that shows an object; others get "
            "no mask of it. With 0 no picture is left out by its score. [0.43]",
        ),
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option(
            min=16,
            metavar="PX",
            help=f"Short side at which features are read. [{SHORT_SIDE_PX}, or the method's]",
        ),
    ] = None,
    model: BackboneChoice,
    mask_reading: MaskChoice,
    max_pixels: MaxPixels = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write the pictures with their masks drawn.")
    ] = False,
    perseg: Annotated[
        Path | None,
        typer.Option(
            metavar="ROOT",
            help="Instead of pictures: ROOT/Images/<object>/00.jpg ... and "
            "ROOT/Annotations/<object>/00.png ... Each 00 is a reference; the others are scored.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Mark the objects of one labelled picture in other pictures.

    Writes OUT/<name>.png for each target and, last, OUT/result.json. If two targets of different
    folders have one name, OUT keeps the folders below their common parent. White on black is one
    object; other values of the mask are object ids, 255 is void.

    Example: propagate segment dog.jpg photos/ -m dog.png -o masks --overlay
    """
    given = pictures or []
    if perseg is not None and (given or mask is not None or name is not None):
        raise typer.BadParameter(
            "takes its pictures and masks from ROOT; leave REFERENCE, TARGET, -m and --name out",
            param_hint="--perseg",
        )
    if perseg is None and len(given) < 2:
        raise typer.BadParameter("give a reference and at least one target", param_hint="TARGET")
    if perseg is None and mask is None and name is None:
        raise typer.BadParameter("give a mask, or a class name with --name", param_hint="--mask")

    from propagate.run_settings import versions

    options = limited_to(max_pixels)
    if perseg is not None:
        chosen = choose(method.value, model, short_side)
        chosen.say()
        settings: dict[str, Any] = {**chosen.model.settings, "versions": versions()}
        _segment_perseg(perseg, out, chosen, settings, options, overlay, overwrite)
        return

    from propagate.images.segment_files import (
        check_free,
        find_pictures,
        output_names,
        segment_files,
        without_objects,
    )
    from propagate.io.decode.one_frame import read_frame

    reference, *targets = given
    found = find_pictures(targets)
    if not overwrite:
        check_free(out, output_names(found), overlay)
    labelled = read_given_mask(mask, mask_reading, options)
    image = read_frame(reference, options=options).image
    chosen = choose(method.value, model, short_side, name, template)
    chosen.say(labelled)
    segmenter = chosen.learn(image, labelled, present_from)
    say_mask(labelled)
    settings = {
        **chosen.model.settings,
        "versions": versions(),
        "reference": str(reference),
        "mask": None if mask is None else str(mask),
        "name": name,
        "template": None if name is None else chosen.template,
        "prompt": chosen.prompt,
    }
    with if_interrupted(START_AGAIN), progress_of(str(out), "pictures") as progress:
        failures = segment_files(
            segmenter, found, out, settings, options, overlay=overlay, progress=progress
        )
    empty = without_objects(out)
    shows = "shows" if empty == 1 else "show"
    note = f" ({empty} {shows} no object)" if empty else ""
    print(f"{out}: {counted(len(found) - len(failures), 'mask')}{note}, result.json")
    for failure in failures:
        say_error(failure)
    if len(failures) > 1:
        say(f"{len(failures)} of {counted(len(found), 'picture')} could not be read")
    if failures:
        raise typer.Exit(1)


def _segment_perseg(
    root: Path,
    out: Path,
    chosen: Chosen,
    settings: dict[str, Any],
    options: "SourceOptions",
    overlay: bool,
    overwrite: bool,
) -> None:
    """Segment every picture of PerSeg from the reference of its object, and score the masks."""
    from propagate.cli.tables import format_perseg
    from propagate.eval.perseg import REFERENCE, evaluate_perseg, read_perseg
    from propagate.eval.perseg import read_perseg_mask as read
    from propagate.images.segment import Segmenter
    from propagate.images.segment_files import check_free, segment_files
    from propagate.io.decode.one_frame import read_frame
    from propagate.io.masks.ids import mask_from_array
    from propagate.io.write.files import write_atomically

    objects = read_perseg(root)
    if not overwrite:
        for item in objects:
            check_free(out / item.name, item.targets, overlay)
    backbone = chosen.load()
    with if_interrupted(START_AGAIN), progress_of(str(root), "objects") as progress:
        for done, item in enumerate(objects, start=1):
            annotation = item.annotations[REFERENCE]
            labelled = mask_from_array(read(annotation), source=str(annotation))
            image = read_frame(item.images[REFERENCE], options=options).image
            segmenter = Segmenter(
                backbone,
                image,
                labelled,
                method=chosen.method,
                present_from=0.0,  # every picture of a folder shows its object
                config=chosen.config,
            )
            pictures = [item.images[stem] for stem in item.targets]
            facts = {"reference": str(item.images[REFERENCE]), "mask": str(annotation)}
            failures = segment_files(
                segmenter, pictures, out / item.name, settings | facts, options, overlay=overlay
            )
            if failures:
                raise failures[0]
            progress(done, len(objects))
    scores = evaluate_perseg(root, out)
    write_atomically(out / "scores.json", scores.to_json().encode())
    show(format_perseg(scores))
