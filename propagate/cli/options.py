"""Options that several commands share, and what is made of them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from propagate.cli.terminal import say
from propagate.config import TEMPLATE

if TYPE_CHECKING:
    from propagate.features.backbone import Backbone
    from propagate.io.decode.options import SourceOptions
    from propagate.records import Mask


class DtypeName(StrEnum):
    """Precision of the U-Net."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class MatcherName(StrEnum):
    """The named matchers; `propagate.MATCHERS` holds their parameters."""

    default = "default"
    dino = "dino"
    dift = "dift"
    crw = "crw"


class DecoderName(StrEnum):
    """Who decodes a video file."""

    auto = "auto"
    decord = "decord"
    pyav = "pyav"


Model = Annotated[
    str, typer.Option(help="Preset (see `propagate models`), diffusers folder, or hub id.")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="What is read of a Stable Diffusion model: default, dift, dift-semantic, paper, "
        "official. [what the preset or its folder says, else default]"
    ),
]
Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N.")]
Dtype = Annotated[DtypeName, typer.Option(help="Precision of the U-Net.")]
Template = Annotated[str, typer.Option(help="The prompt around class names.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")]
ShortSide = Annotated[
    int,
    typer.Option(min=16, metavar="PX", help="Size of the short side at which features are read."),
]
Matching = Annotated[
    MatcherName, typer.Option(help="How labels travel: our default, or another method's.")
]
Decoding = Annotated[DecoderName, typer.Option(help="Who decodes files.")]
ForwardOnly = Annotated[
    bool,
    typer.Option("--forward-only", help="Do not go back from a reference to the frames before it."),
]
Overlay = Annotated[bool, typer.Option("--overlay", help="Write overlay.mp4 with the masks drawn.")]
Formats = Annotated[
    str, typer.Option("--format", help="png (palette, DAVIS layout), rle (COCO), or png,rle.")
]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="First frame to read: a frame number (250) or a time (10s, 2.5s, 1:30). Frames keep "
        "their numbers and times; those that are not read get no mask.",
    ),
]
End = Annotated[
    str | None, typer.Option(metavar="PLACE", help="Frame or time before which reading ends.")
]
Stride = Annotated[int, typer.Option(min=1, help="Read every so many frames.")]
Fps = Annotated[
    str | None,
    typer.Option(metavar="RATE", help="Read so many frames per second: 5, 29.97, 30000/1001."),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Decode in a process of its own: what crashes or hangs there is an error.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(min=1, help="Most pixels of a frame or mask. [67108864, which is 8192x8192]"),
]
LogJson = Annotated[
    Path | None,
    typer.Option(
        "--log-json", metavar="FILE", help="Add every event to this file, a JSON object a line."
    ),
]
Reconnect = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Wait so long for a camera or stream that went away."
    ),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Read a folder of images while it is written: until it holds a file END, or no image "
        "came for --follow-timeout.",
    ),
]
FollowTimeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Longest wait for the next image.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")
]


def parse_formats(formats: str) -> tuple[str, ...]:
    """Read `png,rle` and the like."""
    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    if not chosen or set(chosen) - {"png", "rle"}:
        raise typer.BadParameter(f"{formats!r}: png, rle, or png,rle", param_hint="--format")
    return chosen


def load_asked(
    model: str,
    device: str,
    dtype: DtypeName,
    recipe: str | None,
    class_name: str | None = None,
    template: str = TEMPLATE,
) -> "Backbone":
    """Load a model as the options say; a value that cannot be is a usage error."""
    from propagate.features.registry import load_backbone

    try:
        return load_backbone(
            model,
            device=device,
            dtype=dtype.value,
            recipe=recipe,
            class_names=() if class_name is None else (class_name,),
            template=template,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def limited_to(max_pixels: int | None) -> "SourceOptions":
    """How pictures and videos are opened where their size is all that can be chosen."""
    from propagate.io.decode.options import SourceOptions

    return SourceOptions() if max_pixels is None else SourceOptions(max_pixels=max_pixels)


def read_given_mask(path: Path | None, options: "SourceOptions") -> "Mask | None":
    """Read a mask, if one is given, and say how it was taken where that could surprise."""
    if path is None:
        return None
    from propagate.io.write.masks import read_mask

    mask = read_mask(path, max_pixels=options.max_pixels)
    if mask.binary:
        say(f"{mask.source}: black and white: one object, id 1")
    return mask
