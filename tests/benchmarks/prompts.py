"""Measure the masks that `propagate.prompts` makes from clicks, strokes, boxes and polygons.

    python -m tests.benchmarks.prompts

The person is simulated on the first frame of each clip in ../shared, for each object by itself. The
first dab is on the most inner pixel of the object; each further dab is on the most inner pixel of
the largest connected error, on or off the object as the truth says. One stroke runs along the
object's middle line, and one around it at some distance. Boxes and polygons come from the true
mask. Everything is decided by the truth and by what was found before, so a run can be repeated.

`--halves` chooses the constants of `CHOICES` on one half of the clips and reports on the other,
both ways.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.graph import route_through_array
from skimage.measure import approximate_polygon, find_contours
from skimage.morphology import skeletonize
from skimage.segmentation import random_walker

from propagate.config import Config
from propagate.eval.metrics import region_similarity
from propagate.features.registry import load_backbone
from propagate.prompts.prompt import PROMPT_SETTINGS, PromptFrame, prompt_mask, read_prompt_frame
from propagate.prompts.records import Box, Point, Polygon, Prompt, Stroke
from propagate.prompts.settings import PromptSettings
from propagate.records import VOID_ID
from tests.paths import SHARED

DABS = 5
# A plain walker: the boundary is at 0.5, nothing votes, and the outline is not moved.
PLAIN = replace(PROMPT_SETTINGS, choices=0, box_choices=0, sharpen_px=0, vote_pull=0.0)
# What --halves tries.
CHOICES = {"feature_contrast": (4.0, 8.0), "balance": (0.001, 0.005)}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One object of one frame.

    Attributes:
        clip: Name of the clip.
        frame: With its features.
        true: (H, W) bool.
        known: (H, W) bool: not void.
    """

    clip: str
    frame: PromptFrame
    true: np.ndarray
    known: np.ndarray


Method = Callable[[Case, Sequence[Prompt]], np.ndarray]


def cases(sets: Sequence[str], model: str) -> Iterator[Case]:
    """Read the first labelled frame of each clip, and compute its features."""
    backbone, config = load_backbone(model), Config()
    for folder in sets:
        root = SHARED / "data" / "dev" / folder
        for clip in sorted((root / "Annotations/480p").iterdir()):
            for file in sorted(clip.glob("*.png")):
                ids = np.array(Image.open(file))
                present = [i for i in np.unique(ids) if i not in (0, VOID_ID)]
                objects = [i for i in present if (ids == i).sum() >= 100]
                if objects:
                    break
            else:
                continue
            picture = root / "JPEGImages/480p" / clip.name / f"{file.stem}.jpg"
            image = np.array(Image.open(picture).convert("RGB"))
            frame = read_prompt_frame(image, backbone, config)
            for i in objects:
                yield Case(clip.name, frame, ids == i, ids != VOID_ID)


def walker(settings: PromptSettings = PROMPT_SETTINGS) -> Method:
    """Our own method."""
    return lambda case, prompts: prompt_mask(case.frame, prompts, settings).ids == 1


def color_walker(case: Case, prompts: Sequence[Prompt]) -> np.ndarray:
    """Run scikit-image's random walker on colours, at half size, seeded at the frame's border."""
    height, width = case.true.shape
    size = max(8, height // 2), max(8, width // 2)
    image = np.array(Image.fromarray(case.frame.image).resize((size[1], size[0]))) / 255.0
    seeds = np.zeros(size, np.int64)
    seeds[[0, -1]] = seeds[:, [0, -1]] = 2
    scale = np.array([size[1] / width, size[0] / height])
    for prompt in prompts:
        on = 1 if getattr(prompt, "on", True) else 2
        points = np.array(prompt.corners)
        if isinstance(prompt, Stroke):
            steps = np.linspace(0, len(points) - 1, 400)
            points = np.stack([np.interp(steps, range(len(points)), p) for p in points.T], 1)
        x, y = np.clip((points * scale).astype(int), 0, np.array(size[::-1]) - 1).T
        seeds[y, x] = on
    found = random_walker(image, seeds, beta=130, mode="cg_j", channel_axis=-1, tol=1e-3)
    return np.array(Image.fromarray(found == 1).resize((width, height), Image.Resampling.NEAREST))


def box_itself(case: Case, prompts: Sequence[Prompt]) -> np.ndarray:
    """The box, filled."""
    (box,) = prompts
    assert isinstance(box, Box)
    mask = np.zeros_like(case.true)
    mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = True
    return mask


def grab_cut(case: Case, prompts: Sequence[Prompt]) -> np.ndarray:
    """OpenCV's GrabCut, as a yardstick only."""
    import cv2  # type: ignore[import-not-found]

    (box,) = prompts
    assert isinstance(box, Box)
    labels = np.zeros(case.true.shape, np.uint8)
    rectangle = int(box.x0), int(box.y0), int(box.x1 - box.x0), int(box.y1 - box.y0)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    image = case.frame.image[..., ::-1].copy()
    cv2.grabCut(image, labels, rectangle, *models, 5, cv2.GC_INIT_WITH_RECT)
    return (labels == 1) | (labels == 3)


def inner_point(region: np.ndarray) -> tuple[int, int]:
    """Row and column of the most inner pixel of the largest component of a region, (H, W) bool."""
    parts, _ = ndimage.label(region)  # type: ignore[misc]
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(largest, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(row), int(column)


def dabs(case: Case, method: Method, count: int = DABS) -> list[float]:
    """Simulate dabs; return the IoU after each."""
    mask = np.zeros_like(case.true)
    prompts: list[Prompt] = []
    scores = []
    for _ in range(count):
        wrong = (mask != case.true) & case.known
        if wrong.any():
            row, column = inner_point(wrong)
            on = bool(case.true[row, column])
            prompts.append(Point(1, column + 0.5, row + 0.5, on=on))
            mask = method(case, prompts)
        scores.append(iou(case, mask))
    return scores


def strokes(case: Case) -> list[Prompt]:
    """Simulate one stroke along the object's middle, and one around it."""
    height, width = case.true.shape
    parts, _ = ndimage.label(case.true)  # type: ignore[misc]
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    line = skeletonize(np.pad(largest, 1))[1:-1, 1:-1]
    cost = np.where(line, 1.0, 1000.0)
    ends = np.argwhere(line)
    first = ends[np.argmax(np.square(ends - ends.mean(0)).sum(1))]
    last = ends[np.argmax(np.square(ends - first).sum(1))]
    path, _ = route_through_array(cost, first, last)
    middle = approximate_polygon(np.array(path, float), 1.0)
    prompts: list[Prompt] = [
        Stroke(1, tuple((x + 0.5, y + 0.5) for y, x in middle), min(height, width) / 240)
    ]
    distance = min(height, width) / 24
    outside = np.asarray(ndimage.distance_transform_edt(np.pad(~case.true, 1, mode="edge")))
    around = sorted(find_contours(outside, distance), key=len)[-1:]
    for contour in around:
        line = approximate_polygon(contour - 1, 1.0)
        inside = np.clip(line[:, ::-1] + 0.5, 0, [width, height])
        prompts.append(Stroke(1, tuple(map(tuple, inside)), min(height, width) / 240, on=False))
    return prompts


def box(case: Case) -> list[Prompt]:
    """The bounding box of the object."""
    rows, columns = np.flatnonzero(case.true.any(1)), np.flatnonzero(case.true.any(0))
    return [Box(1, columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def polygon(case: Case, corners: int = 10) -> list[Prompt]:
    """Outline the largest component with at most so many corners."""
    contour = max(find_contours(np.pad(case.true, 1).astype(float), 0.5), key=len) - 1
    tolerance, outline = 0.5, contour
    while len(outline) - 1 > corners:
        tolerance *= 1.15
        outline = approximate_polygon(contour, tolerance)
    height, width = case.true.shape
    inside = np.clip(outline[:-1, ::-1] + 0.5, 0, [width, height])
    return [Polygon(1, tuple(map(tuple, inside)))]


def iou(case: Case, mask: np.ndarray) -> float:
    """Region similarity without void pixels."""
    return float(region_similarity(mask & case.known, case.true))


@dataclass(frozen=True, slots=True)
class Row:
    """IoU of every case, (cases, steps), and the seconds of one step."""

    name: str
    scores: np.ndarray
    seconds: float

    def __str__(self) -> str:
        means = " ".join(f"{score:.2f}" for score in self.scores.mean(0))
        return f"{self.name:34} {means:26} {self.seconds:.2f} s"


def measure(name: str, given: Sequence[Case], run: Callable[[Case], list[float]]) -> Row:
    """Measure one row of the table."""
    started = time.perf_counter()
    scores = np.array([run(case) for case in given])
    return Row(name, scores, (time.perf_counter() - started) / scores.size)


def once(method: Method, prompts: Callable[[Case], list[Prompt]]) -> Callable[[Case], list[float]]:
    """Make a mask from prompts that do not depend on what was found."""
    return lambda case: [iou(case, method(case, prompts(case)))]


def table(given: Sequence[Case], with_colors: bool) -> Iterator[Row]:
    """Measure every row."""
    yield measure("dabs 1..5", given, lambda case: dabs(case, walker()))
    yield measure("dabs, boundary at 0.5", given, lambda case: dabs(case, walker(PLAIN)))
    if with_colors:
        yield measure("dabs, walker on colours", given, lambda case: dabs(case, color_walker))
    yield measure("strokes on and around", given, once(walker(), strokes))
    yield measure("strokes, boundary at 0.5", given, once(walker(PLAIN), strokes))
    if with_colors:
        yield measure("strokes, walker on colours", given, once(color_walker, strokes))
    yield measure("box", given, once(walker(), box))
    yield measure("box, boundary at 0.5", given, once(walker(PLAIN), box))
    yield measure("box itself", given, once(box_itself, box))
    try:
        import cv2  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        print("GrabCut is left out: cv2 is not installed")
    else:
        yield measure("box, GrabCut of OpenCV", given, once(grab_cut, box))
    yield measure("polygon of 10 corners", given, once(walker(), polygon))


def by_halves(given: Sequence[Case], count: int) -> None:
    """Choose constants on one half of the clips, and report the dabs of the other, both ways."""
    clips = sorted({case.clip for case in given})
    scores = {}
    for values in product(*CHOICES.values()):
        settings = replace(PROMPT_SETTINGS, **dict(zip(CHOICES, values, strict=True)))
        rows = [dabs(case, walker(settings), count) for case in given]
        scores[values] = np.array(rows)
        print(dict(zip(CHOICES, values, strict=True)), scores[values].mean(0).round(3), flush=True)
    for half in (0, 1):
        own = np.array([clips.index(case.clip) % 2 == half for case in given])
        best = max(scores, key=lambda values: scores[values][own].mean())
        here, other = (scores[best][part].mean(0).round(3) for part in (own, ~own))
        chosen = dict(zip(CHOICES, best, strict=True))
        print(f"chosen on half {half}: {chosen}; there {here}, on the other {other}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--sets", nargs="+", default=["davis", "davis_more", "multi"])
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--no-colors", action="store_true", help="leave the walker on colours out")
    options = parser.parse_args()
    if not Path(SHARED).is_dir():
        raise SystemExit(f"{SHARED}: is not there")
    started = time.perf_counter()
    given = list(cases(options.sets, options.model))
    spent = time.perf_counter() - started
    clips = len({case.clip for case in given})
    print(f"{len(given)} objects of {clips} clips; features {spent / clips:.2f} s a frame")
    if options.halves:
        by_halves(given, 3)
        return
    for row in table(given, not options.no_colors):
        print(row, flush=True)


if __name__ == "__main__":
    main()
