"""Measure what each stage of the matcher is worth: J, F and identity switches without it.

    python -m tests.benchmarks.ablation ROOT... -o OUT [--variants default dino] [--jobs 2]

Run from the top of the checkout. Each ROOT holds `JPEGImages` and `Annotations` in DAVIS layout.
The features of every clip are computed once and kept in `OUT/features` in half precision (2 MB per
frame). Every variant then follows the clips from these features, and `propagate.eval` scores its
masks. `ms` is the CPU time that matching one frame takes on one thread. `on other` and `switches`
come from `propagate.eval.identity`, summed over all roots.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from propagate import MATCHERS, Config, Matcher, Propagator, Session
from propagate.benchmark.datasets import DavisData
from propagate.eval.identity import evaluate_identity
from propagate.eval.mask_trees import open_mask_tree
from propagate.io.masks.png import write_mask
from propagate.matchers import CellSettings

DEFAULT = MATCHERS["default"]


def changed(stage: str, **settings: object) -> Matcher:
    """The default matcher with other settings of one stage."""
    return replace(DEFAULT, **{stage: replace(getattr(DEFAULT, stage), **settings)})


VARIANTS = {
    "default": DEFAULT,
    "without colours": DEFAULT.without_colors(),
    "without colours, not standardized": replace(
        DEFAULT.without_colors(), cells=CellSettings(standardize=False)
    ),
    "last 3 frames instead of older ones": changed("memory", older_every=(), recent_frames=3),
    "reference and last frame": changed("memory", older_every=()),
    "without shifted references": changed("search", moved_reference=False),
    "without the background vote": replace(DEFAULT, background_vote=None),
    "without flow": replace(DEFAULT, flow=None),
    "without motion": replace(DEFAULT, motion=None),
    "specks stay": changed("components", speck_cells=0),
    "unsupported components stay": changed("components", own_share=0.0, far_own_share=0.0),
    "without the subcell grid": replace(DEFAULT, subcell=None),
    "without reappearance": replace(DEFAULT, reappearance=None),
    "without stretching": changed("mask", stretch_above=None),
    "without a label floor": changed("vote", label_floor=0.0),
    **{name: matcher for name, matcher in MATCHERS.items() if name != "default"},
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of one root: where its images, its truth and the cached features are."""

    root: Path
    name: str
    features: Path


@cache
def data_of(root: Path) -> DavisData:
    return DavisData(root, split=None)


@cache
def propagator_of(model: str) -> Propagator:
    torch.set_num_threads(1)
    return Propagator(model, device="cpu")


def cache_features(clip: Clip, model: str) -> None:
    """Save the features of the clip's frames from its reference on: (T, C, h, w) float16."""
    if clip.features.exists():
        return
    session, images = propagator_of(model).session(), data_of(clip.root).images(clip.name)
    (first,) = data_of(clip.root).references(clip.name)
    frames = [np.array(Image.open(path).convert("RGB")) for path in images[first:]]
    features = np.stack([session.extract([frame])[0].half().numpy() for frame in frames])
    half_done = clip.features.with_suffix(".part.npy")
    np.save(half_done, features)
    half_done.rename(clip.features)


def follow(clip: Clip, model: str, variant: str, out: Path) -> tuple[float, int]:
    """Write the masks of a clip to `out`; return CPU seconds of matching, and frames."""
    data, matcher = data_of(clip.root), VARIANTS[variant]
    ((first, mask),) = data.references(clip.name).items()
    session = Session(propagator_of(model).backbone, Config(matcher=matcher))
    # The last channels are colours; a matcher that does not count them does not take them.
    colors = 0 if matcher.cells.color_weight else 12
    (out / clip.name).mkdir(parents=True, exist_ok=True)
    seconds, all_features = 0.0, np.load(clip.features, mmap_mode="r")
    for index, (path, saved) in enumerate(
        zip(data.images(clip.name)[first:], all_features, strict=True)
    ):
        features = torch.from_numpy(saved[: len(saved) - colors].astype(np.float32))
        started = time.process_time()
        result = session.advance(mask.ids.shape, features, mask if index == 0 else None)
        seconds += time.process_time() - started
        write_mask(out / clip.name / f"{path.stem}.png", result.mask)
    return seconds, len(all_features)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()

    cached = args.out / "features" / Path(args.model).name
    cached.mkdir(parents=True, exist_ok=True)
    clips = [
        Clip(root, name, cached / f"{root.name}-{name}.npy")
        for root in args.roots
        for name in data_of(root).sequences
    ]
    table = Table(
        "", *(f"{root.name} J&F (J, F)" for root in args.roots), "on other", "switches", "ms"
    )
    with ProcessPoolExecutor(args.jobs) as pool:
        list(pool.map(cache_features, clips, [args.model] * len(clips)))
        for variant in args.variants:
            folder = args.out / variant.replace(" ", "-").replace(",", "")
            outs = [folder / clip.root.name for clip in clips]
            arguments = zip(*[(clip, args.model, variant) for clip in clips], strict=True)
            costs = list(pool.map(follow, *arguments, outs))
            cells, on_other, switches = [], 0, 0
            for root in args.roots:
                data = data_of(root)
                scored = data.score(folder / root.name).scores.global_
                j, f = scored["J-Mean"], scored["F-Mean"]
                cells.append(f"{50 * (j + f):.1f} ({100 * j:.1f}, {100 * f:.1f})")
                truth = open_mask_tree(root / "Annotations" / "480p")
                identity = evaluate_identity(truth, open_mask_tree(folder / root.name)).total
                on_other += identity.on_other
                switches += identity.switches
            milliseconds = 1000 * sum(s for s, _ in costs) / sum(n for _, n in costs)
            table.add_row(variant, *cells, str(on_other), str(switches), f"{milliseconds:.0f}")
            Console(width=120).print(table)


if __name__ == "__main__":
    main()
