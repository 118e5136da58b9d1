"""Options that several commands share, each declared once, and the records made of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from propagate.cli.terminal import as_option, say
from propagate.config import SHORT_SIDE_PX, TEMPLATE, Config
from propagate.errors import spelled

if TYPE_CHECKING:
    from propagate.features.backbone import Backbone
    from propagate.io.decode.options import SourceOptions
    from propagate.io.masks.reading import MaskReading
    from propagate.records import Mask
    from propagate.run_options import Format, RunOptions


class DtypeName(StrEnum):
    """Precision of the U-Net."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class FeaturesEngineName(StrEnum):
    """What runs the U-Net; the values of `propagate.features.engine.ENGINES`."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"


class MatcherName(StrEnum):
    """The named matchers; `propagate.MATCHERS` holds their parameters."""

    default = "default"
    dino = "dino"
    dift = "dift"
    crw = "crw"


class OnDamageName(StrEnum):
    """What to do where a video file is damaged."""

    stop = "stop"
    skip = "skip"


class DecoderName(StrEnum):
    """The decoder of video files."""

    auto = "auto"
    decord = "decord"
    pyav = "pyav"


class BackwardsName(StrEnum):
    """Which objects are followed backwards from a reference."""

    all = "all"
    new = "new"
    none = "none"


class Value255Name(StrEnum):
    """What 255 means in a mask."""

    void = "void"
    object = "object"
    background = "background"


class MasksAreName(StrEnum):
    """What the files of a mask folder are."""

    auto = "auto"
    frames = "frames"
    objects = "objects"


Model = Annotated[
    str, typer.Option(help="Preset (see `propagate models`), diffusers folder, or hub id.")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Which features are read from a Stable Diffusion model: default, dift, dift-semantic, "
        "paper, official. [what the preset or its folder says, else default]"
    ),
]
Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N.")]
Dtype = Annotated[DtypeName, typer.Option(help="Precision of the U-Net.")]
ENGINE_HELP = "What runs the U-Net: PyTorch (auto), or OpenVINO on a CPU, faster with tiny."
Engine = Annotated[
    FeaturesEngineName, typer.Option("--engine", "--features-engine", help=ENGINE_HELP)
]
Template = Annotated[str, typer.Option(help="Prompt around class names.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")]
ShortSide = Annotated[
    int,
    typer.Option(min=16, metavar="PX", help="Short side at which features are read."),
]
Matching = Annotated[
    MatcherName, typer.Option(help="How labels are matched: our default, or a published method.")
]
Decoding = Annotated[DecoderName, typer.Option(help="Decoder of video files.")]
OnDamage = Annotated[
    OnDamageName,
    typer.Option(
        help="Where a video file is damaged: stop with an error and keep the masks so far, or skip "
        "the frames that cannot be decoded. The others keep their numbers and times."
    ),
]
Backwards = Annotated[
    BackwardsName,
    typer.Option(
        help="Objects that are followed backwards from a reference too: all; new, those that no "
        "earlier reference names, so a correction acts forwards only; none."
    ),
]
Update = Annotated[
    bool,
    typer.Option(
        "--update",
        help="Go on with a run of other references: masks that the references given now do not "
        "change stay, the others are computed again.",
    ),
]
Overlay = Annotated[bool, typer.Option("--overlay", help="Write overlay.mp4 with the masks drawn.")]
NoLabels = Annotated[
    bool, typer.Option("--no-labels", help="No ids and names of objects in overlay.mp4.")
]
Report = Annotated[
    bool,
    typer.Option(
        "--report", help="Write report.html: a page with the timeline and the worst frames."
    ),
]
Refine = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Refine the masks with SAM: sam, sam2, a folder in transformers layout, or a hub id. "
        "Refined masks go into refined/, beside masks/, and into the overlay.",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Frames through the U-Net at once. [as many as fit, 1 on a CPU]"),
]
Formats = Annotated[
    str,
    typer.Option("--format", help="png (palette, like those of DAVIS), rle (COCO), or png,rle."),
]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="First frame to read: a frame number (250) or a time (10s, 2.5s, 1:30). Frames keep "
        "their numbers and times. Frames that are not read get no mask.",
    ),
]
End = Annotated[
    str | None,
    typer.Option(metavar="PLACE", help="Frame or time at which reading ends; it is not read."),
]
Stride = Annotated[int, typer.Option(min=1, help="Read one frame in this many.")]
Fps = Annotated[
    str | None,
    typer.Option(metavar="RATE", help="Read this many frames per second: 5, 29.97, 30000/1001."),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Decode in a separate process: a crash or a hang there is one error.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(min=1, help="Largest frame or mask, in pixels. [67108864, which is 8192x8192]"),
]
LogJson = Annotated[
    Path | None,
    typer.Option(
        "--log-json", metavar="FILE", help="Add every event to this file, one JSON object a line."
    ),
]
Reconnect = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Wait this long for a camera or stream that went away."
    ),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Read a folder of images while it is being written, until it holds a file END or no "
        "image came for --follow-timeout.",
    ),
]
AllowGaps = Annotated[
    bool,
    typer.Option("--allow-gaps", help="Numbers may be missing among the images of a folder."),
]
FollowTimeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Longest wait for the next image.")
]
Mask255 = Annotated[
    Value255Name,
    typer.Option(
        "--mask-255",
        help="What 255 means in a mask with other ids: void (neither object nor background), an "
        "object, or the background.",
    ),
]
MaskAlpha = Annotated[
    bool, typer.Option("--mask-alpha", help="The mask is the alpha channel of the picture.")
]
MasksAre = Annotated[
    MasksAreName,
    typer.Option(
        help="Files of a mask folder: masks of several frames, or black-and-white masks of several "
        "objects of one frame."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")
]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: dataclasses whose fields are options.

    A parameter whose type is a group is replaced by the options of its fields; the command gets the
    group. So several commands share one declaration of their options.
    """
    signature = inspect.signature(command)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }
    options: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name not in groups:
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for field in fields(groups[name]):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            options.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=field.type,
                )
            )

    @wraps(command)
    def with_groups(**values: Any) -> None:
        for name, group in groups.items():
            chosen = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**chosen)
        command(**values)

    with_groups.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {option.name: option.annotation for option in options}
    return with_groups


@dataclass(frozen=True, slots=True)
class MaskChoice:
    """How masks are read."""

    mask_255: Mask255 = Value255Name.void
    mask_alpha: MaskAlpha = False

    def reading(self, max_pixels: int) -> "MaskReading":
        """Make the record."""
        from propagate.io.masks.reading import MaskReading

        return MaskReading(self.mask_255.value, self.mask_alpha, max_pixels=max_pixels)


@dataclass(frozen=True, slots=True)
class ReferenceChoice(MaskChoice):
    """How the reference masks of a video are read."""

    masks_are: MasksAre = MasksAreName.auto

    def reading(self, max_pixels: int) -> "MaskReading":
        """Make the record."""
        return replace(MaskChoice.reading(self, max_pixels), masks_are=self.masks_are.value)


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """The model that computes features."""

    model: Model = "tiny"
    recipe: Recipe = None
    device: Device = "auto"
    dtype: Dtype = DtypeName.auto
    engine: Engine = FeaturesEngineName.auto

    def load(self, class_name: str | None = None, template: str = TEMPLATE) -> "Backbone":
        """Load the model; a wrong value is a usage error."""
        from propagate.features.registry import load_backbone

        try:
            return load_backbone(
                self.model,
                device=self.device,
                dtype=self.dtype.value,
                engine=self.engine.value,
                recipe=self.recipe,
                class_names=() if class_name is None else (class_name,),
                template=template,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    @property
    def settings(self) -> dict[str, Any]:
        """What a report says of the model."""
        return {
            "model": self.model,
            "recipe": self.recipe,
            "dtype": self.dtype.value,
            "engine": self.engine.value,
        }


@dataclass(frozen=True, slots=True)
class ModelChoice(BackboneChoice):
    """The model, and how its features are matched."""

    matcher: Matching = MatcherName.default
    template: Template = TEMPLATE
    short_side: ShortSide = SHORT_SIDE_PX

    def config(self, class_names: Mapping[int, str]) -> Config:
        """Make the configuration."""
        return Config.named(
            self.matcher.value,
            short_side_px=self.short_side,
            recipe=self.recipe,
            class_names=class_names,
            template=self.template,
        )


@dataclass(frozen=True, slots=True)
class BatchModelChoice(ModelChoice):
    """The same for `batch`, where `--engine` says where workers run."""

    engine: Annotated[FeaturesEngineName, typer.Option("--features-engine", help=ENGINE_HELP)] = (
        FeaturesEngineName.auto
    )


@dataclass(frozen=True, slots=True)
class OutputChoice:
    """What is written of each video."""

    overlay: Overlay = False
    no_labels: NoLabels = False
    report: Report = False
    formats: Formats = "png"
    refine: Refine = None
    batch_size: BatchSize = None
    max_frames: MaxFrames = None
    backwards: Backwards = BackwardsName.all
    overwrite: Overwrite = False
    update: Update = False

    def run_options(self, source_options: "SourceOptions", **others: Any) -> "RunOptions":
        """Make the record of a run."""
        from propagate.run_options import RunOptions

        try:
            return RunOptions(
                source_options=source_options,
                formats=parse_formats(self.formats),
                overlay=self.overlay,
                labels=not self.no_labels,
                report=self.report,
                batch_size=self.batch_size,
                max_frames=self.max_frames,
                backwards=self.backwards.value,
                update=self.update,
                **others,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """How a source is opened, and which of its frames are read."""

    decoder: Decoding = DecoderName.auto
    start: Start = None
    end: End = None
    stride: Stride = 1
    fps: Fps = None
    isolate: Isolate = False
    max_pixels: MaxPixels = None
    follow: Follow = False
    follow_timeout: FollowTimeout = 10.0
    reconnect: Reconnect = 0.0
    allow_gaps: AllowGaps = False
    on_damage: OnDamage = OnDamageName.stop

    def source_options(self) -> "SourceOptions":
        """Make the record; values that do not go together are a usage error."""
        from propagate.io.decode.frame_range import FrameRange
        from propagate.io.decode.options import SourceOptions
        from propagate.io.decode.pixel_limit import MAX_PIXELS

        try:
            frames = FrameRange.parse(self.start, self.end, self.stride, self.fps)
            return SourceOptions(
                decoder=self.decoder.value,
                frame_range=None if frames == FrameRange() else frames,
                isolate=self.isolate,
                max_pixels=self.max_pixels or MAX_PIXELS,
                follow_timeout_s=self.follow_timeout if self.follow else None,
                reconnect_s=self.reconnect,
                allow_gaps=self.allow_gaps,
                on_damage=self.on_damage.value,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error


def parse_formats(formats: str) -> "tuple[Format, ...]":
    """Read `png,rle` and the like."""
    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    from propagate.run_options import Format

    if not chosen or set(chosen) - {*get_args(Format)}:
        raise typer.BadParameter(f"{formats!r}: png, rle, or png,rle", param_hint="--format")
    return tuple(one for one in get_args(Format) if one in chosen)


def limited_to(max_pixels: int | None) -> "SourceOptions":
    """Make source options where only the largest size can be chosen."""
    from propagate.io.decode.options import SourceOptions

    return SourceOptions() if max_pixels is None else SourceOptions(max_pixels=max_pixels)


def read_given_mask(
    path: Path | None, choice: MaskChoice, options: "SourceOptions"
) -> "Mask | None":
    """Read a mask, if one is given."""
    if path is None:
        return None
    from propagate.io.masks.files import read_mask

    return read_mask(path, choice.reading(options.max_pixels))


def say_mask(mask: "Mask | None") -> None:
    """Say what a reference mask holds, and how its file was understood."""
    if mask is None:
        return
    from propagate.io.masks.describe import describe_mask

    say(describe_mask(mask, "the reference"))
    for note in mask.notes:
        say(f"{mask.source}: {spelled(note, as_option)}")
