"""Options that mark objects on a frame: boxes, points, strokes and polygons."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from propagate.errors import MaskError, counted

if TYPE_CHECKING:
    from propagate.io.decode.options import SourceOptions
    from propagate.pipeline import Propagator
    from propagate.prompts.records import Prompt
    from propagate.records import Frame, Mask

Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="ID=X0,Y0,X1,Y1",
        help="Box around an object, in pixels: 1=40,30,120,90. May be repeated, like the three "
        "options below.",
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point", metavar="ID=X,Y[,off]", help="Click on an object, or off it: 1=80,60,off."
    ),
]
Strokes = Annotated[
    list[str] | None,
    typer.Option(
        "--stroke",
        metavar="ID=X,Y:X,Y:...@RADIUS[,off]",
        help="Stroke on an object, or off it: 1=80,60:90,64@3.",
    ),
]
Polygons = Annotated[
    list[str] | None,
    typer.Option(
        "--polygon",
        metavar="ID=X,Y:X,Y:X,Y:...",
        help="Outline of an object, filled exactly: 1=40,30:120,30:80,90.",
    ),
]
At = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="FRAME",
        help="Frame that these belong to, from 0. A single one may name its own: 1@60=80,60.",
    ),
]
SamChoice = Annotated[
    str | None,
    typer.Option(
        "--sam",
        metavar="NAME",
        help="Find the objects with SAM: sam, sam2, a folder in transformers layout, or a hub id. "
        "[a random walker on the model's features]",
    ),
]


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """What is marked on which frames."""

    boxes: Boxes = None
    points: Points = None
    strokes: Strokes = None
    polygons: Polygons = None
    at: At = 0
    sam: SamChoice = None

    @property
    def given(self) -> bool:
        """Whether anything is marked."""
        return any((self.boxes, self.points, self.strokes, self.polygons))

    def prompts(self) -> "dict[int, list[Prompt]]":
        """Read them, by frame; on each, boxes come first, then polygons, strokes and points.

        A wrong form is a usage error.
        """
        from propagate.prompts.parse import parse_prompt

        read: dict[int, list[Prompt]] = {}
        for kind, texts in (
            ("box", self.boxes),
            ("polygon", self.polygons),
            ("stroke", self.strokes),
            ("point", self.points),
        ):
            for text in texts or ():
                try:
                    frame, prompt = parse_prompt(kind, text, self.at)
                except ValueError as error:
                    raise typer.BadParameter(str(error), param_hint=f"--{kind}") from error
                read.setdefault(frame, []).append(prompt)
        return dict(sorted(read.items()))

    def read_frames(
        self, source: str, prompts: "Mapping[int, list[Prompt]]", options: "SourceOptions"
    ) -> "dict[int, Frame]":
        """Read the frames that are marked, and check that the marks fit them.

        Raises:
            VideoError: A frame cannot be read.
            MaskError: A mark does not fit its frame.
        """
        from propagate.io.decode.one_frame import read_frame
        from propagate.prompts.records import check_prompts

        frames = {}
        for index, given in prompts.items():
            frame = read_frame(source, index, options)
            with naming(index):
                check_prompts(given, *frame.image.shape[:2])
            frames[index] = frame
        return frames

    def masks(
        self,
        propagator: "Propagator",
        frames: "Mapping[int, Frame]",
        prompts: "Mapping[int, list[Prompt]]",
        now: Callable[[str], None],
    ) -> "dict[int, Mask]":
        """Make the mask of each marked frame, and tell `now` what is being done."""
        masks = {}
        for index, frame in frames.items():
            height, width = frame.image.shape[:2]
            objects = counted(len({prompt.object_id for prompt in prompts[index]}), "object")
            with naming(index):
                if self.sam is None:
                    now(f"frame {index}: features of {width}x{height} pixels")
                    read = propagator.prompt_frame(frame)
                    now(f"frame {index}: finding {objects}")
                    masks[index] = propagator.prompt(read, prompts[index])
                else:
                    now(f"frame {index}: finding {objects} with {self.sam}")
                    masks[index] = propagator.prompt(frame, prompts[index], "sam", sam=self.sam)
        return masks


@contextmanager
def naming(index: int) -> Iterator[None]:
    """Put the number of the frame before the message of a `MaskError`."""
    try:
        yield
    except MaskError as error:
        raise MaskError(f"frame {index}: {error.message}", error.hint) from error
