"""Settings: frozen, checked when made, saved beside every result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

Window = Literal["square", "circle"]
Reduction = Literal["share", "nearest", "linear"]

# The size at which DAVIS and its label-propagation protocols work.
SHORT_SIDE_PX = 480
# What a U-Net is told of the classes that are named.
TEMPLATE = "a photo of a {name}"


@dataclass(frozen=True, slots=True)
class Matcher:
    """How labels travel from the memory to a frame.

    Attributes:
        top_k: Memory cells that vote for a cell.
        radius: Reach of the search window around a cell, in cells.
        window: "square": |dy| and |dx| up to the radius. "circle": distance below the radius.
        reference_window: Whether reference frames are searched inside the window too. If not, the
            whole reference frame is searched.
        temperature: Divides the cosine before the soft-max over the top k.
        recent_frames: Frames kept behind the current one, beside the references.
        older_every: For each of these numbers, each a multiple of the one before, one frame more:
            the newest of every so many that is older than those. What was matched long ago has
            drifted less.
        repeat_reference: Whether the first reference also fills the places of the recent frames
            until there are any.
        reduction: How a reference mask is reduced to cells. "share": the share of the cell that
            each object covers. "nearest": the pixel at the cell's centre. "linear": the four
            pixels around its centre.
        standardize: Whether features are brought to mean zero and spread one per channel, as they
            are on the first frame, before cosines are taken. U-Net features share a large constant
            part, which makes all cosines alike.
        color_weight: How much the colours of a cell, standardised alike, count beside its features:
            the cosine is that of the features plus the square of this times that of the colours,
            over 1 plus the square. U-Net features hardly tell a white shirt from a white wall.
        doubt: Background votes along with this share of the best cosines that the cells of the
            winning object usually have, so that what comes to light behind an object, and
            resembles nothing that is remembered, does not become part of it. 0: it does not.
        flow_weight: How much of its cosine a match loses that lies far from where the flow of the
            cells around, and of the frames before, leads; see `flow.py`. The matches that are voted
            with are chosen after that. The last frame is then searched first, the others only near
            what it says that objects hold, and older ones, which are no references, only around
            where flow leads; see `search.py`. 0: nothing; with `reference_window` and a recent
            frame.
        motion: Whether cells for which several objects have about as much to say go to the one that
            is expected there by how it moved.
        label_floor: Labels below this share of their peak on the reference become background's;
            where no object's label is left within the window, nothing needs to be matched.
        speck_cells: A part of an object of so many cells or fewer that lies off its largest part is
            left out of the mask, unless the object is hardly larger, and a hole of so many in it is
            filled. The memory is left as it is.
        stretch_above: Each label whose peak in a frame reaches this is stretched to 0..1 before the
            largest wins, so that an object that faded a little does not shrink. One that peaks
            lower has faded too far and is left to disappear. None: nothing is stretched. 0:
            everything is, so that nothing can disappear (`norm_mask` of DINO's script).
        sharpness: Along boundaries, masks are made on a grid twice as fine: quarters of a cell get
            the labels of those quarters of its matches that have their colours. This, times the
            squared distance of two standardised colours, counts against the cosine divided by the
            temperature. 0, or no `color_weight`: masks are made on the grid of the features.
        through_grid: Whether labels are enlarged to the grid times its stride and taken from there
            to the frame by nearest neighbour, as DINO's script does; if not, straight to the frame.
        moved_reference: Whether the newest reference of an object that has moved a few cells is
            also searched where the object is now.
        reappear: Whether an object that no cell is left of is looked for in the whole frame, with
            PDM's appearance map.
        drop_strays: Whether parts of an object off its largest one that its references do not know
            are taken from it, for background or for who is around; see `strays.py`.
    """

    top_k: int
    radius: int
    window: Window
    reference_window: bool
    temperature: float
    recent_frames: int
    older_every: tuple[int, ...] = ()
    repeat_reference: bool = False
    reduction: Reduction = "share"
    standardize: bool = False
    color_weight: float = 0.0
    doubt: float = 0.0
    flow_weight: float = 0.0
    motion: bool = False
    label_floor: float = 0.0
    speck_cells: int = 0
    sharpness: float = 0.0
    stretch_above: float | None = None
    through_grid: bool = False
    moved_reference: bool = False
    reappear: bool = False
    drop_strays: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k: at least 1, not {self.top_k}")
        if self.radius < 1:
            raise ValueError(f"radius: at least 1 cell, not {self.radius}")
        if self.temperature <= 0:
            raise ValueError(f"temperature: above 0, not {self.temperature}")
        if self.recent_frames < 0:
            raise ValueError(f"recent_frames: 0 or more, not {self.recent_frames}")
        if any(every < 1 for every in self.older_every) or any(
            large % small for small, large in pairwise(self.older_every)
        ):
            raise ValueError(
                f"older_every: numbers from 1 up, each a multiple of the one before, not "
                f"{self.older_every}"
            )
        if self.color_weight < 0 or (self.color_weight and not self.standardize):
            raise ValueError(
                f"color_weight: 0 or more, with standardize, not {self.color_weight} "
                f"and standardize={self.standardize}"
            )
        if not 0 <= self.doubt < 1:
            raise ValueError(f"doubt: 0 up to 1, not {self.doubt}")
        if self.flow_weight < 0 or (
            self.flow_weight and not (self.reference_window and self.recent_frames)
        ):
            raise ValueError(
                f"flow_weight: 0 or more, with reference_window and a recent frame, not "
                f"{self.flow_weight}"
            )
        if self.speck_cells < 0:
            raise ValueError(f"speck_cells: 0 or more, not {self.speck_cells}")
        if not 0 <= self.label_floor < 1:
            raise ValueError(f"label_floor: 0 up to 1, not {self.label_floor}")
        if self.sharpness < 0:
            raise ValueError(f"sharpness: 0 or more, not {self.sharpness}")
        if self.sharpness and self.through_grid:
            raise ValueError("sharpness: without through_grid, which ends on the coarser grid")

    @property
    def labels_per_cell(self) -> int:
        """How many labels masks are made of, for each cell: one, or one for each quarter."""
        return 4 if self.sharpness and self.color_weight else 1


MATCHERS: dict[str, Matcher] = {
    # Ours; measured on DAVIS-2016 training clips, see README "Numbers".
    "default": Matcher(
        top_k=8,
        radius=15,
        window="square",
        reference_window=True,
        temperature=0.07,
        recent_frames=1,
        older_every=(8, 64),
        standardize=True,
        color_weight=0.8,
        doubt=0.77,
        flow_weight=0.15,
        motion=True,
        label_floor=0.02,
        speck_cells=2,
        sharpness=6.0,
        stretch_above=0.3,
        moved_reference=True,
        reappear=True,
        drop_strays=True,
    ),
    # facebookresearch/dino eval_video_segmentation.py
    "dino": Matcher(
        top_k=5,
        radius=12,
        window="square",
        reference_window=True,
        temperature=0.1,
        recent_frames=7,
        reduction="nearest",
        stretch_above=0.0,
        through_grid=True,
    ),
    # Tsingularity/dift eval_davis.py, the settings its README gives for Stable Diffusion 2.1
    "dift": Matcher(
        top_k=15,
        radius=15,
        window="square",
        reference_window=True,
        temperature=0.2,
        recent_frames=28,
        reduction="nearest",
        stretch_above=0.0,
        through_grid=True,
    ),
    # ajabri/videowalk test.py
    "crw": Matcher(
        top_k=10,
        radius=12,
        window="circle",
        reference_window=False,
        temperature=0.05,
        recent_frames=20,
        reduction="linear",
        repeat_reference=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides a mask, beside the model's weights.

    Attributes:
        matcher: See `Matcher`; `MATCHERS` holds the named ones.
        short_side_px: Frames are resized to about this short side before features are read.
        max_aspect: A longer side counts as this many short sides at most, so that a frame of one
            by thousands of pixels costs no more than an ordinary one.
        recipe: What is read out of the model, a key of `RECIPES`; None: what the model's own folder
            says, else "default".
        class_names: Object id -> name of its class ("dog"), as far as known. PDM's semantic map
            then helps to find an object that was lost.
        template: The prompt around class names, with {name} in their place.
    """

    matcher: Matcher = field(default_factory=lambda: MATCHERS["default"])
    short_side_px: int = SHORT_SIDE_PX
    max_aspect: float = 4.0
    recipe: str | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        if self.short_side_px < 16:
            raise ValueError(f"short_side_px: at least 16, not {self.short_side_px}")
        if self.max_aspect < 1:
            raise ValueError(f"max_aspect: at least 1, not {self.max_aspect}")
        if any(not 1 <= object_id <= 254 for object_id in self.class_names):
            raise ValueError(f"class_names: of objects 1 to 254, not {dict(self.class_names)}")
        if self.class_names and not self.matcher.reappear:
            raise ValueError(
                "class_names: only with a matcher that finds objects again, as default"
            )

    @classmethod
    def named(cls, matcher: str, **settings: Any) -> "Config":
        """Make the configuration with the matcher of that name.

        Args:
            matcher: A key of `MATCHERS`.
            settings: Other fields.

        Raises:
            ValueError: There is none, the message lists the names; or a setting is nonsense.
        """
        if matcher not in MATCHERS:
            raise ValueError(f"no matcher is named {matcher!r}; there are {', '.join(MATCHERS)}")
        return cls(matcher=MATCHERS[matcher], **settings)

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The class names, each once, in the order in which they appear."""
        return tuple(dict.fromkeys(self.class_names.values()))

    def to_json(self) -> dict[str, Any]:
        """The settings as plain values, the same as after a way through JSON."""
        values = asdict(self)
        values["matcher"]["older_every"] = list(self.matcher.older_every)
        return values
