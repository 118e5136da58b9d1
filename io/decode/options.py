"""The options for opening a source of frames, in one record that can be sent to a child process."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.pixel_limit import MAX_PIXELS

Decoder = Literal["auto", "decord", "pyav"]
OnDamage = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Says how a source of frames is opened, and which of its frames are read.

    Attributes:
        decoder: "auto" uses decord for files that it decodes exactly, and PyAV for all others.
            "pyav" uses PyAV. "decord" uses decord, or raises. Folders and streams have one decoder
            each, which this does not change.
        frame_range: The frames to read. None: all. Earlier frames are decoded and dropped.
        isolate: Decode in a child process, so that a crash there becomes a VideoError. See
            `propagate.io.decode.isolated`.
        max_pixels: Largest number of pixels in a frame.
        follow_timeout_s: For a folder that is still being written: how long to wait for the next
            image, in seconds (see `GrowingFolder`). None: read only the images that exist now.
        allow_gaps: Whether numbers may be missing among the images of a folder.
        reconnect_s: How long to try to reach a live source that has stopped, in seconds. 0: never.
        on_damage: What to do where a video file is damaged. "stop" raises a VideoError at the
            first frame that is lost or concealed, after the frames before. "skip" goes on with the
            next frame that can be decoded; frames keep their numbers and times, and
            `VideoInfo.damage` lists those that were lost or concealed.

    Raises:
        ValueError: An unknown decoder, or a limit that is not positive.
    """

    decoder: Decoder = "auto"
    frame_range: FrameRange | None = None
    isolate: bool = False
    max_pixels: int = MAX_PIXELS
    follow_timeout_s: float | None = None
    reconnect_s: float = 0.0
    allow_gaps: bool = False
    on_damage: OnDamage = "stop"

    def __post_init__(self) -> None:
        if self.decoder not in get_args(Decoder):
            known = ", ".join(get_args(Decoder))
            raise ValueError(f"decoder must be one of {known}, not {self.decoder!r}")
        if self.on_damage not in get_args(OnDamage):
            known = ", ".join(get_args(OnDamage))
            raise ValueError(f"on_damage must be one of {known}, not {self.on_damage!r}")
        if not self.max_pixels > 0:
            raise ValueError(f"max_pixels must be more than 0, not {self.max_pixels}")
        if self.follow_timeout_s is not None and not self.follow_timeout_s > 0:
            raise ValueError(f"follow_timeout_s must be more than 0, not {self.follow_timeout_s}")
        if not self.reconnect_s >= 0:
            raise ValueError(f"reconnect_s must be 0 or more, not {self.reconnect_s}")

    @property
    def may_leave_out(self) -> bool:
        """Whether the frames that are read may not be all frames from 0 on."""
        return self.frame_range is not None or self.on_damage == "skip"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `from_json`."""
        wanted = None if self.frame_range is None else self.frame_range.to_json()
        return asdict(self) | {"frame_range": wanted}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make the record again from the values of `to_json`."""
        wanted = values["frame_range"]
        return cls(**{**values, "frame_range": None if wanted is None else FrameRange(**wanted)})
