"""How a source of frames is opened, in one record that travels from the command line to a child."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.pixel_limit import MAX_PIXELS

Decoder = Literal["auto", "decord", "pyav"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source of frames is opened, and which of its frames are read.

    Attributes:
        decoder: "auto" takes decord where it decodes a file exactly, else PyAV; "pyav" takes PyAV;
            "decord" takes decord or raises. Folders and streams have one decoder each.
        frame_range: The frames to hand out; None: all. Those before are decoded and dropped.
        isolate: Decode in a child process: a crash there is a VideoError here. See
            `propagate.io.decode.isolated`.
        max_pixels: Most pixels of a frame.
        follow_timeout_s: Of a folder that somebody is still writing: how long to wait for another
            image, in seconds (see `GrowingFolder`). None: the images that are there.
        reconnect_s: How long to try to reach a live source again that stopped, in seconds; 0: not.

    Raises:
        ValueError: An unknown decoder, or a limit that is not positive.
    """

    decoder: Decoder = "auto"
    frame_range: FrameRange | None = None
    isolate: bool = False
    max_pixels: int = MAX_PIXELS
    follow_timeout_s: float | None = None
    reconnect_s: float = 0.0

    def __post_init__(self) -> None:
        if self.decoder not in get_args(Decoder):
            known = ", ".join(get_args(Decoder))
            raise ValueError(f"decoder: one of {known}, not {self.decoder!r}")
        if not self.max_pixels > 0:
            raise ValueError(f"max_pixels: more than 0, not {self.max_pixels}")
        if self.follow_timeout_s is not None and not self.follow_timeout_s > 0:
            raise ValueError(f"follow_timeout_s: more than 0, not {self.follow_timeout_s}")
        if not self.reconnect_s >= 0:
            raise ValueError(f"reconnect_s: 0 or more, not {self.reconnect_s}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `from_json`."""
        wanted = None if self.frame_range is None else self.frame_range.to_json()
        return asdict(self) | {"frame_range": wanted}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make what `to_json` was called on."""
        wanted = values["frame_range"]
        return cls(**{**values, "frame_range": None if wanted is None else FrameRange(**wanted)})
