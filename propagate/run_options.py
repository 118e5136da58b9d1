"""The options of a run that writes a folder, for one video or for each of a batch."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from propagate.io.decode.options import SourceOptions

Format = Literal["png", "rle"]
Backwards = Literal["all", "new", "none"]

# The default limit has room for about 2,500 frames of 854x480 with `tiny`.
FEATURE_CACHE_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a source is read, and what is written.

    Attributes:
        source_options: How the source is opened, and which of its frames are read.
        formats: "png", "rle" or both.
        overlay: Whether to write `overlay.mp4`.
        labels: Whether the overlay shows ids and names, where there is more than one object or a
            name.
        report: Whether to write `report.html`, a page for people about the run.
        batch_size: Frames whose features are computed at once; None: 1 on a CPU, on a GPU as many
            as its memory has room for, up to 32. On a CPU it changes no mask; on a GPU features
            agree to rounding, so an interrupted run goes on with the batch size that it began with.
        max_frames: Stop after this many frames.
        backwards: Which objects are followed backwards from a reference too, in a file or folder.
            "all": all of them; between two references both directions are merged. "new": those that
            no earlier reference names, so a correction acts forwards only. "none".
        feature_cache_bytes: Most temporary disk space for going backwards. If more is needed,
            frames are followed backwards only as far as the space allows, and a warning says how
            far.
        overwrite: Whether to replace a finished run, and to start an unfinished one again.
        update: Whether the folder may hold a run that differs in its references only. Masks that
            the references given now do not change stay as they are; the others are computed. All
            files end as those of a new run. Not with a range, nor with a live source.
        save_every_s: Seconds between two saved states; 0 saves after every frame. If above 0,
            saving takes at most 2 % of the time.
    """

    source_options: SourceOptions = field(default_factory=SourceOptions)
    formats: tuple[Format, ...] = ("png",)
    overlay: bool = False
    labels: bool = True
    report: bool = False
    batch_size: int | None = None
    max_frames: int | None = None
    backwards: Backwards = "all"
    feature_cache_bytes: int = FEATURE_CACHE_BYTES
    overwrite: bool = False
    update: bool = False
    save_every_s: float = 30.0

    def __post_init__(self) -> None:
        unknown = set(self.formats) - set(get_args(Format))
        if isinstance(self.formats, str) or not self.formats or unknown:
            raise ValueError(f'formats: a tuple of "png" and "rle", not {self.formats!r}')
        if self.backwards not in get_args(Backwards):
            raise ValueError(f'backwards: "all", "new" or "none", not {self.backwards!r}')
        for name in ("batch_size", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: at least 1, not {value}")
        if self.feature_cache_bytes < 1:
            raise ValueError(f"feature_cache_bytes: above 0, not {self.feature_cache_bytes}")
        if self.update and "png" not in self.formats:
            raise ValueError("update: masks that stay are read from their PNGs; formats has none")
        if self.update and self.source_options.frame_range is not None:
            raise ValueError("update: for whole videos, without a range")
        if self.save_every_s < 0:
            raise ValueError(f"save_every_s must be 0 or more, not {self.save_every_s}")
