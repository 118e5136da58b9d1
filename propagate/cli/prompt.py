"""The command `propagate prompt`: parse, call the public functions, print."""

from pathlib import Path
from typing import Annotated

import typer

from propagate.cli.options import (
    BackboneChoice,
    MaxPixels,
    Overwrite,
    ShortSide,
    limited_to,
    spread,
)
from propagate.cli.prompt_choice import PromptChoice
from propagate.cli.terminal import saying_what_is_slow
from propagate.config import SHORT_SIDE_PX


@spread
def prompt(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A picture, a video or a folder of images.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="MASK", help="The mask to write, a .png.")
    ],
    choice: PromptChoice,
    model: BackboneChoice,
    short_side: ShortSide = SHORT_SIDE_PX,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a mask of one frame from boxes, clicks, strokes and polygons.

    Writes MASK, a palette PNG for `propagate run -m`, and beside it <name>-overlay.png to look at.
    Coordinates are pixels from the upper left corner; pixel i covers i to i+1. What is painted is
    kept exactly, and outside its box there is nothing of an object.

    Example: propagate prompt clip.mp4 --point 1=120,80 --box 2=200,40,260,110 -o first.png
    """
    prompts = choice.prompts()
    if not prompts:
        raise typer.BadParameter(
            "give at least one --box, --point, --stroke or --polygon", param_hint="--point"
        )
    if len(prompts) > 1:
        listed = ", ".join(map(str, prompts))
        raise typer.BadParameter(f"a mask is of one frame, not of {listed}", param_hint="--at")
    if out.suffix.lower() != ".png":
        raise typer.BadParameter(f"{out}: the mask is a .png", param_hint="-o")

    overlay = out.with_name(f"{out.stem}-overlay.png")

    from propagate.config import Config
    from propagate.io.decode.live import live_display_name
    from propagate.io.write.files import make_output_folder, refuse_existing, write_atomically

    if not overwrite:
        refuse_existing([out, overlay])
    with saying_what_is_slow() as now:
        now(f"reading {live_display_name(source)}")
        frames = choice.read_frames(source, prompts, limited_to(max_pixels))

        now(f"loading {model.model}")
        from propagate.io.masks.describe import describe_mask
        from propagate.io.masks.png import write_mask
        from propagate.io.write.encode import encode_image
        from propagate.io.write.overlay import draw_overlay
        from propagate.pipeline import Propagator

        config = Config(short_side_px=short_side, recipe=model.recipe)
        propagator = Propagator(model.load(), dtype=model.dtype.value, config=config)
        ((index, mask),) = choice.masks(propagator, frames, prompts, now).items()
        now(f"writing {out} and {overlay.name}")
        make_output_folder(out.parent)
        drawn = draw_overlay(frames[index].image, mask.ids)
        write_atomically(overlay, encode_image(drawn, "PNG", compress_level=1))
        write_mask(out, mask.ids)
    print(f"{out}, {overlay.name}: {describe_mask(mask, f'frame {index}').partition(': ')[2]}")
