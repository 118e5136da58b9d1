"""PerSeg: one object per folder, shown in picture 00, to be found in the others.

    ROOT/Images/<object>/00.jpg ...         ROOT/Annotations/<object>/00.png ...

IoU and boundary IoU of each object are sums of intersections over sums of unions, over its pictures
but the reference; the score is their mean over objects. Source of the protocol: the `eval_miou.py`
of Zhang et al., "Personalize Segment Anything Model with One Shot", ICLR 2024, which scores IoU
alone. Boundary IoU is that of `permis_images.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from propagate.errors import EvaluationError
from propagate.eval.permis.images import boundary_distance_px, boundary_region
from propagate.io.decode.image_folder import SUFFIXES

REFERENCE = "00"


@dataclass(frozen=True, slots=True)
class PersegObject:
    """One object.

    Attributes:
        name: Of its folder.
        images: Its pictures by the stem of their names, "00" the reference.
        annotations: Their masks, alike.
    """

    name: str
    images: Mapping[str, Path]
    annotations: Mapping[str, Path]

    @property
    def targets(self) -> list[str]:
        """The pictures in which it is to be found."""
        return [stem for stem in self.images if stem != REFERENCE]


@dataclass(frozen=True, slots=True, eq=False)
class PersegScores:
    """Scores of PerSeg.

    Attributes:
        protocol: Its name and rules in words, and the counts.
        global_: "mIoU" and "bIoU", means over objects.
        per_object: "IoU" and "bIoU" of each.
    """

    protocol: Mapping[str, Any]
    global_: Mapping[str, float]
    per_object: Mapping[str, Mapping[str, float]]

    def to_json(self) -> str:
        """Give everything as JSON text; nothing is rounded."""
        content = {
            "protocol": self.protocol,
            "global": self.global_,
            "per_object": self.per_object,
        }
        return json.dumps(content, indent=1, allow_nan=False)


def read_perseg(root: Path) -> list[PersegObject]:
    """List the objects of a PerSeg folder.

    Raises:
        EvaluationError: There are none, one has no reference or no target, or a picture has no
            annotation.
    """
    objects: list[PersegObject] = []
    folders = root / "Images"
    for folder in sorted(folders.iterdir()) if folders.is_dir() else ():
        if not folder.is_dir():
            continue
        images = {
            file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES
        }
        if REFERENCE not in images or len(images) < 2:
            raise EvaluationError(
                f"{folder}: {len(images)} pictures; each object needs its reference, "
                f"{REFERENCE}.jpg, and at least one more"
            )
        annotations = {stem: root / "Annotations" / folder.name / f"{stem}.png" for stem in images}
        for file in annotations.values():
            if not file.exists():
                raise EvaluationError(f"{file}: missing, and its picture is there; restore it")
        objects.append(PersegObject(folder.name, images, annotations))
    if not objects:
        raise EvaluationError(
            f"{folders}: no folder of an object there; give PerSeg's own, which holds Images/ and "
            "Annotations/"
        )
    return objects


def read_perseg_mask(path: Path) -> np.ndarray:
    """Read where an object is: wherever a pixel is not black. (H, W) bool.

    Raises:
        EvaluationError: It cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).max(axis=2) > 0
    except (OSError, ValueError, SyntaxError) as error:
        raise EvaluationError(f"{path}: no readable mask ({error}): write it again") from error


def evaluate_perseg(root: Path, predictions: Path) -> PersegScores:
    """Score masks.

    Args:
        root: The PerSeg folder.
        predictions: Folder of <object>/<picture>.png; not black is the object.

    Raises:
        EvaluationError: A mask is missing, cannot be read, or has another size than its truth.
    """
    objects = read_perseg(root)
    per_object = {item.name: _score(item, predictions / item.name) for item in objects}
    pictures = sum(len(item.targets) for item in objects)
    return PersegScores(
        protocol={
            "name": "perseg",
            "rules": {
                "reference": f"picture {REFERENCE} of each object, not scored",
                "IoU": "per object, sum of intersections over sum of unions of its pictures",
                "bIoU": "the same of the pixels within 2 % of the image diagonal of the outline",
                "mean": "over objects",
            },
            "objects": len(objects),
            "pictures": pictures,
        },
        global_={
            "mIoU": float(np.mean([scores["IoU"] for scores in per_object.values()])),
            "bIoU": float(np.mean([scores["bIoU"] for scores in per_object.values()])),
        },
        per_object=per_object,
    )


def format_perseg(scores: PersegScores) -> Group:
    """Lay the scores out, in percent: each object, their mean, and the protocol in words."""
    table = Table("object", box=None, pad_edge=False)
    for column in ("IoU", "bIoU"):
        table.add_column(column, justify="right")
    for name, row in scores.per_object.items():
        table.add_row(escape(name), f"{100 * row['IoU']:.1f}", f"{100 * row['bIoU']:.1f}")
    mean = scores.global_
    table.add_row("mean", f"{100 * mean['mIoU']:.1f}", f"{100 * mean['bIoU']:.1f}", style="bold")
    protocol = scores.protocol
    rules = [f"{name}: {rule}" for name, rule in protocol["rules"].items()]
    counts = f"PerSeg, {protocol['objects']} objects, {protocol['pictures']} pictures"
    return Group(table, Text("\n".join([counts, *rules])))


def _score(item: PersegObject, predictions: Path) -> dict[str, float]:
    totals = np.zeros(4)  # intersection and union, of masks and of boundaries
    for stem in item.targets:
        file = predictions / f"{stem}.png"
        if not file.exists():
            raise EvaluationError(f"{file}: missing; segment all pictures of {item.name} first")
        found, truth = read_perseg_mask(file), read_perseg_mask(item.annotations[stem])
        if found.shape != truth.shape:
            raise EvaluationError(
                f"{file}: is {found.shape[1]}x{found.shape[0]}, its truth "
                f"{truth.shape[1]}x{truth.shape[0]}: segment the picture in its own size"
            )
        depth = boundary_distance_px(*truth.shape)
        edges = boundary_region(found, depth), boundary_region(truth, depth)
        totals += [
            np.count_nonzero(a & b if both else a | b)
            for a, b in ((found, truth), edges)
            for both in (True, False)
        ]
    # An object that is in none of its pictures, and found in none, is right.
    return {
        name: float(totals[i] / totals[i + 1]) if totals[i + 1] else 1.0
        for name, i in (("IoU", 0), ("bIoU", 2))
    }
