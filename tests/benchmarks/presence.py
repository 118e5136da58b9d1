"""Measure whether `segment` knows that a picture does not show the object.

    python -m tests.benchmarks.presence --model tiny

Each first frame of the DAVIS clips in ../shared is the reference, and the middle frames of all
clips are searched, so one pair in 25 shows the object. The rule's only number, `appears_from`, is
also chosen anew on one half of the clips and tried on the other, both ways.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from propagate.eval.metrics import region_similarity
from propagate.features.registry import load_backbone
from propagate.images.instance import INSTANCE_SETTINGS
from propagate.images.segment import Segmenter
from tests.paths import SHARED


@dataclass(frozen=True)
class Pair:
    """One reference searched in one picture: `j` of its mask if it is shown there."""

    reference: str
    picture: str
    score: float
    pixels: float
    j: float


def clips() -> list[Path]:
    roots = (SHARED / "data" / "dev" / name for name in ("davis", "davis_more"))
    return [clip for root in roots for clip in sorted((root / "Annotations/480p").iterdir())]


def read(clip: Path, part: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 3) and mask (H, W) at a part of a clip."""
    files = sorted(clip.glob("*.png"))
    file = files[round((len(files) - 1) * part)]
    image = clip.parents[2] / "JPEGImages/480p" / clip.name / f"{file.stem}.jpg"
    return np.array(Image.open(image).convert("RGB")), (np.array(Image.open(file)) > 0).astype("u1")


def measure(model: str, others: int | None) -> list[Pair]:
    backbone = load_backbone(model)
    pairs = []
    for number, clip in enumerate(clips()):
        segmenter = Segmenter(backbone, *read(clip, 0.0), present_from=0.0)
        searched = [clip, *(other for other in clips() if other != clip)]
        if others is not None:  # a few, evenly spread, other ones for each reference
            rest = searched[1:]
            searched = [
                clip,
                *(rest[(number + i * len(rest) // others) % len(rest)] for i in range(others)),
            ]
        for other in searched:
            image, truth = read(other, 0.5)
            found = segmenter.segment(image)
            j = region_similarity(found.mask == 1, truth == 1) if other == clip else 0.0
            pairs.append(Pair(clip.name, other.name, found.scores[1], (found.mask == 1).mean(), j))
        print(f"{clip.name}: J {pairs[-len(searched)].j:.3f}", flush=True)
    return pairs


def show(pairs: list[Pair], threshold: float, title: str) -> None:
    own = [pair for pair in pairs if pair.reference == pair.picture]
    others = [pair for pair in pairs if pair.reference != pair.picture]
    found = sum(pair.score >= threshold for pair in own)
    false = sum(pair.score >= threshold and pair.pixels > 0 for pair in others)
    j = np.mean([pair.j * (pair.score >= threshold) for pair in own])
    print(
        f"{title}: found {found} of {len(own)}, false alarms {false} of {len(others)} "
        f"({100 * false / len(others):.1f} %), J where it is shown {100 * j:.1f}"
    )


def chosen_on(pairs: list[Pair]) -> float:
    """The threshold with the best mean of found and rightly absent."""

    def balance(threshold: float) -> float:
        own = [p.score >= threshold for p in pairs if p.reference == p.picture]
        others = [p.score < threshold for p in pairs if p.reference != p.picture]
        return float(np.mean(own) + np.mean(others))

    return max(np.arange(0.35, 0.55, 0.005), key=balance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--others", type=int, help="other clips searched per reference; else all")
    arguments = parser.parse_args()
    pairs = measure(arguments.model, arguments.others)
    show(pairs, 0.0, "without the rule")
    show(
        pairs, INSTANCE_SETTINGS.appears_from, f"score of {INSTANCE_SETTINGS.appears_from} or more"
    )
    names = [clip.name for clip in clips()]
    for half, rest in ((names[::2], names[1::2]), (names[1::2], names[::2])):
        threshold = chosen_on([pair for pair in pairs if pair.reference in half])
        there = [pair for pair in pairs if pair.reference in rest]
        show(there, threshold, f"{threshold:.3f}, chosen on the other half")


if __name__ == "__main__":
    main()
