"""How labels travel from the memory to a frame: one record of settings for each stage.

A `Matcher` joins them. A stage whose record is None is left out. Every number that decides a mask
stands in one of these records, and all of them are saved with a result. The defaults are those of
our own matcher, measured on the clips named in `tests/benchmarks/README.md`; `MATCHERS` holds the
named matchers.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

Window = Literal["square", "circle"]
Reduction = Literal["share", "nearest", "linear"]


def _check(condition: bool, name: str, wanted: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{name} must be {wanted}, not {value}")


@dataclass(frozen=True, slots=True)
class CellSettings:
    """How features become cells that can be compared, and masks become labels of cells.

    Attributes:
        standardize: Bring every channel to mean 0 and standard deviation 1, as measured on the
            first frame, before cosines are taken. U-Net features share a large constant part, which
            makes all cosines alike.
        color_weight: How much the standardized colours of a cell count beside its features: the
            cosine is (features + weight^2 colours) / (1 + weight^2). U-Net features hardly tell a
            white shirt from a white wall. Needs `standardize`.
        reduction: How a reference mask is reduced to cells. "share": the share of the cell that
            each object covers. "nearest": the pixel at the cell's centre. "linear": the four pixels
            around its centre.
    """

    standardize: bool = False
    color_weight: float = 0.0
    reduction: Reduction = "share"

    def __post_init__(self) -> None:
        if self.color_weight < 0 or (self.color_weight and not self.standardize):
            raise ValueError(
                "color_weight must be 0 or more, and 0 without standardize, not "
                f"{self.color_weight} with standardize={self.standardize}"
            )


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Which frames are remembered, beside the reference frames.

    Attributes:
        recent_frames: How many of the last frames are kept.
        older_every: For each of these numbers, each a multiple of the one before, one more frame is
            kept: the newest frame whose number is a multiple of it and that is older than those
            before. Labels that were matched long ago have drifted less.
        repeat_reference: Let the first reference also fill the places of the recent frames until
            there are recent frames.
    """

    recent_frames: int
    older_every: tuple[int, ...] = ()
    repeat_reference: bool = False

    def __post_init__(self) -> None:
        _check(self.recent_frames >= 0, "recent_frames", "0 or more", self.recent_frames)
        _check(
            all(every >= 1 for every in self.older_every)
            and all(large % small == 0 for small, large in pairwise(self.older_every)),
            "older_every",
            "numbers from 1 up, each a multiple of the one before it",
            self.older_every,
        )


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Where in the memory the cells of a frame are searched for.

    Attributes:
        radius: Reach of the search window around a cell, in cells.
        window: "square": |dy| and |dx| up to the radius. "circle": distance below the radius.
        whole_reference: Search the whole reference frame instead of the window around the cell.
        moved_reference: Also search the newest reference of an object shifted to where the object
            is now, if the object has moved.
        moved_cells: An object has moved if its centre is this many rows or columns away.
        tile_cells: Cells are searched for in square tiles of this side. If one cell of a tile is
            searched for, all are; and all follow one flow.
    """

    radius: int
    window: Window = "square"
    whole_reference: bool = False
    moved_reference: bool = False
    moved_cells: int = 4
    tile_cells: int = 8

    def __post_init__(self) -> None:
        _check(self.radius >= 1, "radius", "at least 1 cell", self.radius)


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """How matches are made to agree with the flow of the cells around them.

    The last frame is searched first. Other frames are searched only near the objects found there,
    and older frames only around the place where the flow leads.

    Attributes:
        weight: How much of its cosine a match loses that lies far from the flow.
        tolerance_cells: A match this far from the flow loses 0.4 of `weight`; twice as far, 0.86.
        candidates: Best matches in each remembered frame among which the flow decides.
        aside_cells: Where objects part or meet, a cell may follow the flow of the cells this far
            beside it.
        near_cells: The last frame is searched this near to where objects may be, and the other
            frames this near to where it shows objects.
        radius: How far around the place where the flow leads older frames are searched, in cells.
    """

    weight: float = 0.15
    tolerance_cells: float = 8.0
    candidates: int = 6
    aside_cells: int = 3
    near_cells: int = 2
    radius: int = 6

    def __post_init__(self) -> None:
        _check(self.weight > 0, "flow.weight", "above 0", self.weight)


@dataclass(frozen=True, slots=True)
class VoteSettings:
    """How the matches of a cell vote for its label.

    Attributes:
        top_k: Matches that vote for a cell.
        temperature: Divides the cosines before the soft-max over the matches.
        label_floor: A soft label below this share of its peak on the references becomes background;
            cells where no object can reach it are not matched at all.
    """

    top_k: int
    temperature: float
    label_floor: float = 0.0

    def __post_init__(self) -> None:
        _check(self.top_k >= 1, "top_k", "at least 1", self.top_k)
        _check(self.temperature > 0, "temperature", "above 0", self.temperature)
        _check(0 <= self.label_floor < 1, "label_floor", "from 0 to below 1", self.label_floor)


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """How motion decides between look-alikes that meet.

    Attributes:
        contested_share: A cell is contested if no object holds more than this share of what all
            objects hold of it.
        unexpected: What an object may claim where it is not expected, beside one that is (1).
        unclear_share: An object is not clearly seen, perhaps hidden, if more than this share of it
            is expected to overlap with others and more than this share of it is contested.
        velocity_rate: How fast an object's velocity follows what is seen, 0..1 per frame.
    """

    contested_share: float = 0.7
    unexpected: float = 0.1
    unclear_share: float = 0.1
    velocity_rate: float = 0.2


@dataclass(frozen=True, slots=True)
class BackgroundVoteSettings:
    """How background votes where a cell matches worse than its object's cells usually do.

    What appears from behind an object resembles nothing in the memory. Without this vote it would
    become part of the object.

    Attributes:
        share: Background votes with this share of the best cosine that cells of the object usually
            have, 0..1.
        rate: How fast the usual cosine follows the present one, 0..1 per frame.
    """

    share: float = 0.77
    rate: float = 0.1

    def __post_init__(self) -> None:
        _check(0 < self.share < 1, "background_vote.share", "above 0 and below 1", self.share)


@dataclass(frozen=True, slots=True)
class ReappearanceSettings:
    """When an object is absent, and when it is found again anywhere in the frame.

    Attributes:
        cut_area_share: An object is absent if no more than this share of its cells in the last
            frame is left: after a cut, only chance matches are left.
        lost_area_share: It is also absent if no more than this share of its largest number of cells
            in the remembered frames is left.
        found_area_share: It is back if at least this share of its cells on a reference is seen.
        atypical_share: The least typical share of its cells on the references, which a cell need
            not resemble more than.
    """

    cut_area_share: float = 0.1
    lost_area_share: float = 0.03
    found_area_share: float = 0.2
    atypical_share: float = 0.25


@dataclass(frozen=True, slots=True)
class ComponentSettings:
    """Which connected components of an object are kept beside its largest one.

    The first four decide which components the references support; an unsupported component is taken
    from the object. The last two clean the mask only, not what is remembered.

    Attributes:
        own_share: Of what the references give to the object and to background there, the object's
            share must be at least this.
        far_own_share: A component far from the largest one needs this share of all that the
            references give, to other objects as well.
        far_share, far_cells: A component is far if the gap between the two bounding boxes is at
            least this share of the largest component's height or width, and this many cells.
        speck_cells: A component of at most this many cells outside the bounding box of the largest
            one is left out of the mask, and a hole of at most this many cells is filled.
        speck_share: A component of this share of the largest one or more is no speck.
    """

    own_share: float = 0.3
    far_own_share: float = 0.5
    far_share: float = 0.25
    far_cells: int = 3
    speck_cells: int = 2
    speck_share: float = 0.1

    def __post_init__(self) -> None:
        _check(self.speck_cells >= 0, "speck_cells", "0 or more", self.speck_cells)


@dataclass(frozen=True, slots=True)
class SubcellSettings:
    """How masks along boundaries are made on a grid twice as fine, by colour.

    Needs `CellSettings.color_weight`. The four subcells of a cell take the labels of those subcells
    of its matches that have their colours.

    Attributes:
        sharpness: This, times the squared distance of two standardized colours, counts against the
            cosine divided by the temperature.
        boundary_change: A cell is on a boundary if a label changes by more than this between it and
            its neighbours.
        reach: Subcells this far around a matched cell vote too: a match is only as exact as a cell.
        largest_change: A label may become this many times stronger or weaker in all four subcells,
            so that together they keep the label of the cell.
        smallest_share: Shares below this are not scaled up.
        largest_difference: If the votes of the subcells differ from the label of their cell by more
            than this share, the cell keeps its label: something other than colour decided it.
    """

    sharpness: float = 6.0
    boundary_change: float = 0.5
    reach: int = 1
    largest_change: float = 5.0
    smallest_share: float = 0.02
    largest_difference: float = 0.3

    def __post_init__(self) -> None:
        _check(self.sharpness > 0, "sharpness", "above 0", self.sharpness)


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """How soft labels become a mask of the frame's size, and what is said of each object.

    Attributes:
        stretch_above: Each label whose peak in a frame reaches this is stretched to 0..1 before the
            largest label wins, so that an object that faded a little does not shrink. One that
            peaks lower is left to disappear. None: nothing is stretched. 0: everything is, so that
            nothing can disappear (`norm_mask` of DINO's script).
        through_grid: Enlarge labels to the grid times its stride first, and take the mask from
            there by nearest neighbour, as DINO's script does.
        unsure_below: An object whose score is below this is "unsure": its pixels belong as often to
            something else.
    """

    stretch_above: float | None = None
    through_grid: bool = False
    unsure_below: float = 0.6


@dataclass(frozen=True, slots=True)
class Matcher:
    """How labels travel from the memory to a frame; a stage that is None is left out.

    Attributes:
        search, vote, memory, cells, mask: The stages that every matcher has.
        flow: Needs a window on the references, and a recent frame.
        motion, background_vote, reappearance, components, subcell: See there.
    """

    search: SearchSettings
    vote: VoteSettings
    memory: MemorySettings
    cells: CellSettings = field(default_factory=CellSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)
    flow: FlowSettings | None = None
    motion: MotionSettings | None = None
    background_vote: BackgroundVoteSettings | None = None
    reappearance: ReappearanceSettings | None = None
    components: ComponentSettings | None = None
    subcell: SubcellSettings | None = None

    def __post_init__(self) -> None:
        if self.flow and (self.search.whole_reference or not self.memory.recent_frames):
            raise ValueError("flow: needs a window on the references and a recent frame")
        if self.subcell and not self.cells.color_weight:
            raise ValueError("subcell: needs a color_weight above 0")
        if self.subcell and self.mask.through_grid:
            raise ValueError("subcell: not with through_grid, which ends on the coarser grid")

    @property
    def labels_per_cell(self) -> int:
        """How many labels of each cell masks are made of: 1, or 4 on the 2x subcell grid."""
        return 4 if self.subcell else 1

    def without_colors(self) -> "Matcher":
        """The same matcher by features alone, and so without the subcell grid."""
        return replace(self, cells=replace(self.cells, color_weight=0.0), subcell=None)


MatcherName = Literal["default", "dino", "dift", "crw"]

MATCHERS: dict[str, Matcher] = {
    # Ours: see `matching/README.md` for what each stage is worth.
    "default": Matcher(
        search=SearchSettings(radius=15, moved_reference=True),
        vote=VoteSettings(top_k=8, temperature=0.07, label_floor=0.02),
        memory=MemorySettings(recent_frames=1, older_every=(8, 64)),
        cells=CellSettings(standardize=True, color_weight=0.8),
        mask=MaskSettings(stretch_above=0.3),
        flow=FlowSettings(),
        motion=MotionSettings(),
        background_vote=BackgroundVoteSettings(),
        reappearance=ReappearanceSettings(),
        components=ComponentSettings(),
        subcell=SubcellSettings(),
    ),
    # facebookresearch/dino eval_video_segmentation.py
    "dino": Matcher(
        search=SearchSettings(radius=12),
        vote=VoteSettings(top_k=5, temperature=0.1),
        memory=MemorySettings(recent_frames=7),
        cells=CellSettings(reduction="nearest"),
        mask=MaskSettings(stretch_above=0.0, through_grid=True),
    ),
    # Tsingularity/dift eval_davis.py, with the settings that its README gives for SD 2.1
    "dift": Matcher(
        search=SearchSettings(radius=15),
        vote=VoteSettings(top_k=15, temperature=0.2),
        memory=MemorySettings(recent_frames=28),
        cells=CellSettings(reduction="nearest"),
        mask=MaskSettings(stretch_above=0.0, through_grid=True),
    ),
    # ajabri/videowalk test.py
    "crw": Matcher(
        search=SearchSettings(radius=12, window="circle", whole_reference=True),
        vote=VoteSettings(top_k=10, temperature=0.05),
        memory=MemorySettings(recent_frames=20, repeat_reference=True),
        cells=CellSettings(reduction="linear"),
    ),
}
