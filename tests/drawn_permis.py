"""A PerMIS list that is drawn: boxes in frames of 40x30, in three splits that share names."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from propagate.eval.permis.build import Choices, build_permis_list
from propagate.eval.permis.list import PermisList, PermisVideo
from propagate.eval.permis.retrieval import retrieval_images
from propagate.io.masks.rle import encode_mask

HEIGHT, WIDTH = 30, 40
CAT, DOG, CAR = 1, 2, 3
Box = tuple[int, int, int, int]  # top, left, height, width
Tracks = Mapping[int, tuple[int, list[Box | None]]]


def draw(box: Box) -> np.ndarray:
    top, left, height, width = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def sequence(dataset: str, name: str, tracks: Tracks, **changes: Any) -> dict[str, Any]:
    count = len(next(iter(tracks.values()))[1])
    images = [f"frame{30 * i + 1:04d}.jpg" for i in range(count)]
    return {
        "id": 1,
        "dataset": dataset,
        "seq_name": name,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 30,
        "all_image_paths": images,
        "annotated_image_paths": images,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "track_category_ids": {str(track): category for track, (category, _) in tracks.items()},
        "segmentations": [
            {
                str(track): {"rle": encode_mask(draw(box)), "is_gt": True}
                for track, (_, boxes) in tracks.items()
                if (box := boxes[i])
            }
            for i in range(count)
        ],
    } | changes


def annotation(split: str, *sequences: dict[str, Any]) -> dict[str, Any]:
    names = {CAT: "cat", DOG: "dog", CAR: "car"}
    categories = [{"id": i, "name": name} for i, name in names.items()]
    return {"split": split, "categories": categories, "sequences": list(sequences)}


A, B, C, D = (2, 2, 10, 10), (2, 24, 10, 10), (18, 2, 10, 10), (18, 24, 10, 10)
MINI = (0, 0, 1, 1)  # one pixel, less than 0.1 % of 1200


# Cat 8 enters late, cat 5 leaves, the first frame shows one cat alone, the dog is alone always.
CATS: Tracks = {
    3: (CAT, [A, A, A, A, A, A]),
    5: (CAT, [None, B, B, B, None, None]),
    8: (CAT, [None, None, None, C, C, None]),
    4: (DOG, [D, D, D, D, D, D]),
}
SPLITS = {
    "val": [
        sequence("YFCC100M", "v_1", CATS),
        sequence("Charades", "alone", {1: (CAT, [A, A]), 2: (DOG, [B, B])}),
        sequence("ArgoVerse", "end", {1: (CAR, [A, A]), 2: (CAR, [None, B])}),
    ],
    "test": [
        sequence("YFCC100M", "v_1", {1: (DOG, [A, B, A]), 2: (DOG, [B, A, B])}),
        sequence("HACS", "h_1", {1: (CAT, [A, A, A]), 2: (CAT, [B, B, B])}),
    ],
    "train": [
        sequence(
            "BDD",
            "b 1/c",
            {1: (CAR, [A, A]), 2: (CAR, [B, B]), 3: (CAR, [MINI, MINI])},
            not_exhaustive_category_ids=[CAR],
        )
    ],
}
VAL, TEST, TRAIN = "val-YFCC100M-v_1", "test-YFCC100M-v_1", "train-BDD-b-1-c"


def write_annotations(root: Path, splits: Mapping[str, list[dict[str, Any]]]) -> list[Path]:
    """Write the JSON of each split, and grey images of every frame."""
    paths = []
    root.mkdir(exist_ok=True)
    for split, sequences in splits.items():
        path = root / f"{split}.json"
        path.write_text(json.dumps(annotation(split, *sequences)))
        paths.append(path)
        for item in sequences:
            folder = root / "images" / split / item["dataset"] / item["seq_name"]
            folder.mkdir(parents=True, exist_ok=True)
            for image in item["annotated_image_paths"]:
                Image.new("L", (WIDTH, HEIGHT), 128).save(folder / image)
    return paths


def build(root: Path, splits: Mapping[str, list[dict[str, Any]]], **choices: Any) -> PermisList:
    paths = write_annotations(root, splits)
    return build_permis_list(paths, root / "images", Choices(**choices))


def video_of(permis: PermisList, name: str) -> PermisVideo:
    return next(video for video in permis.videos if video.name == name)


Predict = Callable[[PermisVideo, int], np.ndarray]


def write_predictions(root: Path, permis: PermisList, predict: Predict) -> Path:
    for video in permis.videos:
        folder = root / "pred" / video.name
        folder.mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(video.frame_names):
            ids = predict(video, index).astype(np.uint8)
            Image.fromarray(ids).save(folder / f"{name}.png")
    return root / "pred"


def true(video: PermisVideo, index: int) -> np.ndarray:
    return video.truth(index)


def swapped(video: PermisVideo, index: int) -> np.ndarray:
    return np.choose(video.truth(index), [0, 2, 1])


def similarities(permis: PermisList) -> tuple[list[str], list[str], np.ndarray]:
    """VAL finds one of its frames first and the other one last; TEST finds both last."""
    images = retrieval_images(permis)
    gallery = [image for group in images.values() for image in group]
    scores = {
        VAL: [images[VAL][0], images[VAL][1], *images[TEST], images[VAL][2]],
        TEST: [images[TEST][0], *images[VAL], images[TEST][1], images[TEST][2]],
    }
    rows = [[-float(order.index(image)) for image in gallery] for order in scores.values()]
    return list(scores), gallery, np.array(rows)


def write_table(path: Path, queries: list[str], gallery: list[str], scores: np.ndarray) -> Path:
    if path.suffix == ".json":
        content = {"queries": queries, "gallery": gallery, "scores": scores.tolist()}
        path.write_text(json.dumps(content))
        return path
    with path.open("w", newline="") as file:
        rows = ([q, *row] for q, row in zip(queries, scores.tolist(), strict=True))
        csv.writer(file).writerows([["query", *gallery], *rows])
    return path
