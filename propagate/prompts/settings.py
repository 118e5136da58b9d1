"""Every constant that decides what the walker makes of prompts."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How seeds spread over a frame, and where the object ends.

    `Propagator.prompt` takes one. All were chosen on the first frames of development clips, see the
    README of this folder. Colours are CIE Lab; their distances are squared, and one is the mean
    over neighbouring cells.

    Attributes:
        feature_contrast: A step between neighbouring cells is e^-this as likely for each unit that
            their cosine is below 1.
        color_contrast: The same for each unit of colour distance.
        smallest_affinity: Of neighbouring cells, however different; above 0.
        leak: How easily a walk ends as background anywhere, compared with a step between equal
            cells.
        border_leak: The same on the outermost cells of the frame, where they are unlike the seeds.
        like_from, like_slope: A cell whose cosine with the seeds is `like_from` is half like them;
            `like_slope` is how sharp that is.
        vote_pull, vote_slope: How strongly each cell is pulled to the seeds that it is like, and
            how much a difference of cosines counts.
        vote_seeds: The fewest cells that must be painted on the object, and off it, for that. A few
            clicks say too little of what else belongs to it.
        sample_cells, nearest_cells: Of a region at most so many cells, evenly spaced, are compared
            with a cell, and the so many most alike count.
        reach_cells: Of the pairs of cells whose cosines tell how strong a boundary is. Cells on the
            boundary itself show both sides.
        boundary_weight, label_weight, area_weight, area_square_weight: Of what the best boundary
            is chosen by: the mean cosine across it; the logarithm of the mean label inside; the
            logarithm of the share of the frame inside, and its square.
        balance: How much the boundary keeps to the even label 0.5 once paint says where the object
            is not: the weight of the squared logit of the boundary's label.
        choices: How many boundaries are compared; 0: the boundary stays at 0.5.
        fewest_cells: Of an object that is chosen by its boundary, unless its paint covers fewer.
        largest_share: Of the frame, of an object that is given by places on it alone.
        box_feature_votes, box_color_votes: How much it counts for a cell in a box that it is
            unlike the cells around the box, in features and in colour.
        box_nearest_colors: Among the colours around the box, the so many nearest count.
        box_center, box_middle: How much it counts that a cell is nearer to the box's middle than
            `box_middle`, where 0 is the middle and 1 the middle of a side.
        box_pull: How strongly these votes pull, compared with a step between equal cells.
        box_around: Width of what is looked at around a box, in long sides of the box.
        box_rounds: How often the votes are taken again from the object and what is not.
        box_choices, box_boundary_weight, box_share_weight, box_share_square_weight: The same
            in a box: among how many the best boundary is chosen, and the weights of the mean cosine
            across it, the share of the box inside, and its square.
        sharpen_px: How far, in pixels, the outline may move to an edge of the frame; 0: not.
        sharpen_contrast: See `color_contrast`, for neighbouring pixels.
        sharpen_pull: How strongly the label before keeps its place, compared with a step between
            equal pixels.
        sharpen_steps, sharpen_relaxation: Of the iterative solver, successive over-relaxation.
        most_whole_px, sampled_px: Of a frame of more than so many pixels, the colours of about
            `sampled_px` evenly spaced ones stand for all; the outline is sharpened at full size.
    """

    feature_contrast: float = 8.0
    color_contrast: float = 3.0
    smallest_affinity: float = 1e-4
    leak: float = 1e-4
    border_leak: float = 0.1
    like_from: float = 0.35
    like_slope: float = 8.0
    vote_pull: float = 0.003
    vote_slope: float = 8.0
    vote_seeds: int = 12
    sample_cells: int = 400
    nearest_cells: int = 5
    reach_cells: int = 2
    boundary_weight: float = -1.114
    label_weight: float = 0.06
    area_weight: float = -0.053
    area_square_weight: float = -0.0096
    balance: float = 0.001
    choices: int = 36
    fewest_cells: int = 4
    largest_share: float = 0.6
    box_feature_votes: float = 6.0
    box_color_votes: float = 0.15
    box_nearest_colors: int = 3
    box_center: float = 2.0
    box_middle: float = 0.8
    box_pull: float = 0.05
    box_around: float = 0.5
    box_rounds: int = 1
    box_choices: int = 19
    box_boundary_weight: float = -1.543
    box_share_weight: float = 0.844
    box_share_square_weight: float = -0.586
    sharpen_px: int = 6
    sharpen_contrast: float = 3.0
    sharpen_pull: float = 0.02
    sharpen_steps: int = 30
    sharpen_relaxation: float = 1.5
    most_whole_px: int = 4096 * 2160
    sampled_px: int = 2160 * 1920

    def __post_init__(self) -> None:
        above_0 = ("smallest_affinity", "leak", "reach_cells", "vote_seeds", "largest_share")
        counts = ("sample_cells", "nearest_cells", "fewest_cells", "box_nearest_colors")
        for name in (*above_0, *counts, "sharpen_relaxation", "sampled_px"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: above 0, not {getattr(self, name)}")
        for name in (f.name for f in fields(self) if not f.name.endswith("_weight")):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: 0 or more, not {getattr(self, name)}")
