"""PerSeg: each object is shown in picture 00 and must be found in its other pictures.

    ROOT/Images/<object>/00.jpg ...         ROOT/Annotations/<object>/00.png ...

IoU and boundary IoU of an object are sums of intersections over sums of unions, over its pictures
except the reference. The score is the mean over objects.

Source of the protocol: `eval_miou.py` of Zhang et al., "Personalize Segment Anything Model with One
Shot", ICLR 2024, which scores IoU only.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.boundary_iou import Overlap, overlap
from propagate.eval.labels import check_size
from propagate.io.decode.image_folder import SUFFIXES

REFERENCE = "00"


@dataclass(frozen=True, slots=True)
class PersegObject:
    """One object.

    Attributes:
        name: Of its folder.
        images: Its pictures by the stems of their names; "00" is the reference.
        annotations: Their masks, by the same stems.
    """

    name: str
    images: Mapping[str, Path]
    annotations: Mapping[str, Path]

    @property
    def targets(self) -> list[str]:
        """The pictures in which the object must be found."""
        return [stem for stem in self.images if stem != REFERENCE]


@dataclass(frozen=True, slots=True, eq=False)
class PersegScores:
    """Scores of PerSeg.

    Attributes:
        protocol: Its name, its rules in words, and the counts.
        global_: "mIoU" and "bIoU", means over objects.
        per_object: "IoU" and "bIoU" of each object.
    """

    protocol: Mapping[str, Any]
    global_: Mapping[str, float]
    per_object: Mapping[str, Mapping[str, float]]

    def to_json(self) -> str:
        """Write everything as JSON text; nothing is rounded."""
        content = {
            "protocol": self.protocol,
            "global": self.global_,
            "per_object": self.per_object,
        }
        return json.dumps(content, indent=1, allow_nan=False)


def read_perseg(root: Path) -> list[PersegObject]:
    """List the objects of a PerSeg folder.

    Raises:
        EvaluationError: If there is no object, an object has no reference or no target, or a
            picture has no annotation.
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
                f"{folder}: {len(images)} pictures, and each object needs its reference, "
                f"{REFERENCE}.jpg, and at least one more",
                "add the missing pictures, or remove this folder",
            )
        annotations = {stem: root / "Annotations" / folder.name / f"{stem}.png" for stem in images}
        for file in annotations.values():
            if not file.exists():
                raise EvaluationError(
                    f"{file}: no such annotation, though its picture exists", "restore it"
                )
        objects.append(PersegObject(folder.name, images, annotations))
    if not objects:
        raise EvaluationError(
            f"{folders}: no folder of an object here",
            "give the PerSeg folder, which holds Images/ and Annotations/",
        )
    return objects


def read_perseg_mask(path: Path) -> np.ndarray:
    """Read a mask of one object, which covers every pixel that is not black. (H, W) bool.

    Raises:
        EvaluationError: If the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).max(axis=2) > 0
    except (OSError, ValueError, SyntaxError) as error:
        raise EvaluationError(f"{path}: not a readable mask ({error})", "write it again") from error


def evaluate_perseg(root: Path, predictions: Path) -> PersegScores:
    """Score predicted masks.

    Args:
        root: The PerSeg folder.
        predictions: Folder of `<object>/<picture>.png`; the object is every pixel that is not
            black.

    Raises:
        EvaluationError: If a mask is missing, cannot be read, or has another size than its truth.
    """
    objects = read_perseg(root)
    per_object = {item.name: _score(item, predictions / item.name) for item in objects}
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
            "pictures": sum(len(item.targets) for item in objects),
        },
        global_={
            "mIoU": float(np.mean([scores["IoU"] for scores in per_object.values()])),
            "bIoU": float(np.mean([scores["bIoU"] for scores in per_object.values()])),
        },
        per_object=per_object,
    )


def _score(item: PersegObject, predictions: Path) -> dict[str, float]:
    total = Overlap()
    for stem in item.targets:
        file = predictions / f"{stem}.png"
        if not file.exists():
            raise EvaluationError(
                f"{file}: no such mask", f"segment all pictures of {item.name} first"
            )
        pred, truth = read_perseg_mask(file), read_perseg_mask(item.annotations[stem])
        check_size(file, pred.shape, truth.shape)
        total += overlap(pred, truth)
    return {"IoU": total.iou, "bIoU": total.boundary_iou}
