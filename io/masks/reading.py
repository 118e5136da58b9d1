"""How the pixel values of a mask are read, where a file alone does not say it."""

from dataclasses import dataclass
from typing import Literal, get_args

from propagate.io.decode.pixel_limit import MAX_PIXELS

Value255 = Literal["void", "object", "background"]
MasksAre = Literal["auto", "frames", "objects"]


@dataclass(frozen=True, slots=True)
class MaskReading:
    """How mask files are read.

    Attributes:
        value_255: What 255 means in a mask that has other values than 0 and 255: "void" (neither
            object nor background, as in DAVIS), "object" (an object like others), or
            "background". With "background", 0 is an object, and white is the background of a
            picture of colours.
        alpha: Whether the mask is the alpha channel: opaque pixels are the object.
        masks_are: What the files of a folder are: masks of several "frames", masks of several
            "objects" of one frame, each in black and white, or "auto": what their names and pixels
            say, or an error if they allow both.
        max_pixels: The most pixels a mask may have.

    Raises:
        ValueError: A word that is not listed here.
    """

    value_255: Value255 = "void"
    alpha: bool = False
    masks_are: MasksAre = "auto"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name, words in (("value_255", get_args(Value255)), ("masks_are", get_args(MasksAre))):
            if getattr(self, name) not in words:
                known = ", ".join(words)
                raise ValueError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
