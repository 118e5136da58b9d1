"""The values that travel between stages: small, frozen, and checked when they are made."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

# Called while long work goes on, with how much is done and about how much there is, if known.
Progress = Callable[[int, int | None], None]
State = Literal["tracked", "unsure", "absent"]

BACKGROUND_ID = 0
VOID_ID = 255
MAX_OBJECT_ID = 254


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which a live source was away.

    Attributes:
        after: Index of the last frame before.
        seconds: From that frame to the next one.
        reason: Why it broke off.
    """

    after: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Damage:
    """Frames of a damaged file that are missing, or not as they were recorded.

    Attributes:
        first: Index of the first of them.
        last: Index of the last of them.
        kind: "lost": there is no such frame. "concealed": the frame is there, but parts of it were
            filled in by the decoder, or it refers to a damaged frame.
        reason: Why, in a few words.
    """

    first: int
    last: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """What is known of a source before its frames are read.

    Attributes:
        name: Stem of the file or folder; the name of the output folder.
        width: Pixels, rotation applied.
        height: Pixels, rotation applied.
        fps: Average frames per second, exact; None where the source does not say.
        frame_count: What the container claims. An estimate: never a bound for reading.
        decoder: "decord", "pyav" or "images".
        gaps: Of a live source, the times so far in which it was away.
        damage: Of a file, the frames so far that were lost or concealed.
        notes: Lines for a person about what was found while reading so far: a clock that jumps,
            frames that are not shown.
    """

    name: str
    width: int
    height: int
    fps: Fraction | None
    frame_count: int | None
    decoder: str
    gaps: tuple[Gap, ...] = ()
    damage: tuple[Damage, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes:
        image: (H, W, 3) uint8, RGB, rotation applied.
        index: Position in presentation order, from 0.
        time: Presentation time in seconds, exact.
        name: Stem of the mask file: the image's own stem for a folder, else the index as %05d.
        in_range: Whether it is a frame of the range that was asked for. False: it is read for the
            sake of a reference (see `FrameRange.also`), and no mask is given for it.
    """

    image: np.ndarray
    index: int = 0
    time: Fraction = Fraction(0)
    name: str = ""
    in_range: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.index:05d}")
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image: (H, W, 3) uint8, not {self.image.shape} {self.image.dtype}")

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.time)

    def _repr_png_(self) -> bytes:
        """Show the picture in a notebook, at most 800 columns wide."""
        from propagate.io.write.notebook import picture_png

        return picture_png(self.image)

    def __repr__(self) -> str:
        height, width, _ = self.image.shape
        return f"Frame(index={self.index}, time_s={self.time_s:.3f}, {width}x{height})"


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Object ids of one frame, as a person gave them.

    Attributes:
        ids: (H, W) uint8. 0 background, 1..254 objects, 255 void (neither: not known).
        binary: The source was black and white (only 0 and 255) and was read as one object, id 1.
        source: Where it came from, for messages.
        notes: How its file was understood, where that is not obvious; settings are written as in
            the hint of a `PropagateError`.
        names: Of its objects, by id, as far as the file gives names.
        object_ids: Its objects, increasing. None: no object is visible on this frame.
    """

    ids: np.ndarray
    binary: bool = False
    source: str = "mask"
    notes: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    object_ids: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype != np.uint8:
            raise ValueError(f"ids: (H, W) uint8, not {self.ids.shape} {self.ids.dtype}")
        present = (int(i) for i in np.unique(self.ids))
        objects = tuple(i for i in present if i not in (BACKGROUND_ID, VOID_ID))
        object.__setattr__(self, "object_ids", objects)

    def tells_of(self, followed: Collection[int]) -> tuple[int, ...]:
        """Return the objects of which this mask says where they are.

        Those are its own; a mask without objects says of all that are followed that they are not
        visible.
        """
        return self.object_ids or tuple(followed)

    def names_all(self, followed: Collection[int]) -> bool:
        """Whether it has every one of these objects, and there is one."""
        return bool(followed) and set(followed) <= set(self.object_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a step says of one frame.

    Attributes:
        index: Position of the frame in its video, from 0; in a session that is fed by hand, in the
            session.
        time_s: The time it was given with; None if it was given none.
        mask: (H, W) uint8 object ids, 0 background.
        scores: Per object id, 0..1: the mean soft label over the object's pixels, before any
            rescaling; 0 where no pixel is left of it.
        states: Per object id: "tracked", "unsure" (score below
            `MaskSettings.unsure_below`) or "absent" (no pixel).
        margins: Per object id, -1..1: by how much that label is above the best of the others, on
            average over the object's pixels, before any rescaling; near 0 where a look-alike or the
            background is as likely, 0 where no pixel is left of it.
        probabilities: Per id, 0 (background) included: (H, W) float32 soft labels that sum to one;
            None unless the session was asked for them.
    """

    index: int
    time_s: float | None
    mask: np.ndarray
    scores: dict[int, float]
    states: dict[int, State]
    margins: dict[int, float]
    probabilities: dict[int, np.ndarray] | None = None

    def tensor(self, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """Return the mask as a tensor, (H, W) uint8; on the CPU it shares the mask's memory."""
        import torch

        return torch.from_numpy(self.mask).to(device)

    def overlay(
        self,
        frame: "Frame | np.ndarray",
        colours: Mapping[int, tuple[int, int, int]] | None = None,
    ) -> np.ndarray:
        """Draw the mask over its frame, as `overlay.mp4` shows it.

        Args:
            frame: The frame of this result, or its image, (H, W, 3) uint8 RGB. A result does not
                keep its frame: results of a long video would fill the memory.
            colours: RGB by object id; None: those that stand out most in this frame.

        Returns:
            (H, W, 3) uint8, RGB, a new array.

        Raises:
            ValueError: If the frame has another size.
        """
        from propagate.io.write.overlay import draw_overlay, object_labels

        image = frame.image if isinstance(frame, Frame) else frame
        labels = object_labels(self.scores, {})
        return draw_overlay(image, self.mask, colours=colours, labels=labels)

    def _repr_png_(self) -> bytes:
        """Show the mask in a notebook: its objects in colours, at most 800 columns wide."""
        from propagate.io.write.notebook import mask_png

        return mask_png(self.mask)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        objects = ", ".join(f"{i} {self.states[i]} {s:.2f}" for i, s in self.scores.items())
        return f"Result(index={self.index}, {width}x{height}, {objects or 'no object yet'})"


# Called with each frame whose mask was computed.
OnResult = Callable[[Frame, Result], None]
