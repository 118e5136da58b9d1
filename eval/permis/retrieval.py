"""PerMIR, retrieval: find the images of a gallery that show the instance of the query.

The reference of each video with an image part is a query. The gallery is the three images of all
these videos, without the query itself. The two other images of its video are relevant.

The input is a table of similarities, higher for more similar, as CSV or JSON. A query has the name
of its video, an image of the gallery the names of video and frame, `<video>/<frame>`:

    query,val-YFCC100M-v_1/frame0001,val-YFCC100M-v_1/frame0031,...      (CSV: one row per query)
    val-YFCC100M-v_1,0.93,0.71,...

    {"queries": [...], "gallery": [...], "scores": [[0.93, 0.71, ...], ...]}        (JSON)

Rows and columns may be in any order. The value for the query's own image is not used, but must be a
number.

- Average precision: for each relevant image, the share of relevant images among all that score at
  least as high; then the mean of these shares. So images of equal scores are not ordered, as in
  scikit-learn. mAP is the mean over queries.
- Recall@k: the share of queries with a relevant image among the first k. If images have equal
  scores, the irrelevant ones come first.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import EvaluationError
from propagate.eval.permis.list import PermisList

RECALL_RANKS = (1, 5, 10, 50)
_LISTED = 3
_HELP = "give a CSV or JSON table of every query by every image of the gallery"


@dataclass(frozen=True, slots=True, eq=False)
class SimilarityTable:
    """The similarities that a method gives to each query and each image.

    Attributes:
        queries: Q names of videos.
        gallery: G names of images, `<video>/<frame>`.
        scores: (Q, G) float64, higher for more similar.
    """

    queries: tuple[str, ...]
    gallery: tuple[str, ...]
    scores: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalScores:
    """Scores of PerMIR.

    Attributes:
        protocol: "name" and "title", the rules in words, the counts, the checksum of the list.
        global_: "mAP", and "Recall@1", "Recall@5", "Recall@10" and "Recall@50".
        per_query: By video, "AP", and "rank" of the best relevant image, from 1.
    """

    protocol: Mapping[str, Any]
    global_: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]

    def to_json(self) -> str:
        """Write everything as JSON text; nothing is rounded."""
        content = {"protocol": self.protocol, "global": self.global_, "per_query": self.per_query}
        return json.dumps(content, indent=1, allow_nan=False)

    def __repr__(self) -> str:
        return (
            f"RetrievalScores(mAP={100 * self.global_['mAP']:.1f} %, queries={len(self.per_query)})"
        )


def retrieval_images(permis: PermisList) -> dict[str, tuple[str, ...]]:
    """Name the images of the task.

    Args:
        permis: The list.

    Returns:
        By query (the name of its video), its three images in the gallery; the first is its own.
    """
    return {
        video.name: tuple(
            f"{video.name}/{video.frame_names[index]}" for index in (0, *video.image_part.targets)
        )
        for video in permis.videos
        if video.image_part
    }


def evaluate_permis_retrieval(permis: PermisList, table: str | Path) -> RetrievalScores:
    """Score a table of similarities.

    Args:
        permis: The list.
        table: The CSV or JSON file.

    Returns:
        The scores.

    Raises:
        EvaluationError: If the list has no images, the table cannot be read, or its queries and
            images are not those of the list.
    """
    images = retrieval_images(permis)
    if not images:
        raise EvaluationError(
            "no video of this list has images for retrieval", "build it from more annotations"
        )
    similarity = read_similarity_table(table)
    gallery = [image for group in images.values() for image in group]
    _check_names(table, "queries", similarity.queries, list(images))
    _check_names(table, "images of the gallery", similarity.gallery, gallery)
    per_query = {}
    for query, row in zip(similarity.queries, similarity.scores, strict=True):
        own, *relevant = images[query]
        kept = np.array([image != own for image in similarity.gallery])
        is_relevant = np.array([image in relevant for image in similarity.gallery])
        per_query[query] = {
            "AP": average_precision(row[kept], is_relevant[kept]),
            "rank": first_rank(row[kept], is_relevant[kept]),
        }
    per_query = {query: per_query[query] for query in images}
    best = np.array([scores["rank"] for scores in per_query.values()])
    return RetrievalScores(
        protocol={
            "name": "permir",
            "title": "PerMIR retrieval",
            "rules": {
                "images": permis.choices["rules"]["retrieval"],
                "mAP": "mean over queries of the average precision; images of equal scores are one "
                "step, as in scikit-learn",
                "recall": "share of queries with a relevant image among the first k; of equal "
                "scores the irrelevant ones count as first",
            },
            "list_sha256": permis.sha256,
            "queries": len(per_query),
            "gallery": len(gallery),
        },
        global_={"mAP": float(np.mean([scores["AP"] for scores in per_query.values()]))}
        | {f"Recall@{k}": float(np.mean(best <= k)) for k in RECALL_RANKS},
        per_query=per_query,
    )


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Compute the average precision of one query.

    Args:
        scores: (G,) float, higher for more similar.
        relevant: (G,) bool, at least one.

    Returns:
        0..1.

    Raises:
        ValueError: If no image is relevant.
    """
    if not relevant.any():
        raise ValueError("relevant needs at least one image")
    precisions = [np.mean(relevant[scores >= score]) for score in scores[relevant]]
    return float(np.mean(precisions))


def first_rank(scores: np.ndarray, relevant: np.ndarray) -> int:
    """Rank the best relevant image of one query, after irrelevant ones of equal score.

    Args:
        scores: (G,) float, higher for more similar.
        relevant: (G,) bool, at least one.

    Returns:
        The rank, from 1.
    """
    return 1 + int(np.count_nonzero(scores[~relevant] >= scores[relevant].max()))


def read_similarity_table(path: str | Path) -> SimilarityTable:
    """Read a table of similarities.

    Args:
        path: A JSON file if its suffix is `.json`, else a CSV file.

    Returns:
        The table.

    Raises:
        EvaluationError: If there is no such file, it is not such a table, a name occurs twice, or a
            score is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise EvaluationError(f"{path}: no such table", _HELP)
    try:
        text = path.read_text(encoding="utf-8")
        table = _parse_json(text) if path.suffix.lower() == ".json" else _parse_csv(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path}: no readable table ({error})", _HELP) from error
    shape = (len(table.queries), len(table.gallery))
    if table.scores.shape != shape:
        raise EvaluationError(f"{path}: scores {table.scores.shape} for a table {shape}", _HELP)
    for names in (table.queries, table.gallery):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise EvaluationError(f"{path}: {twice[0]!r} occurs twice", _HELP)
    wrong = np.argwhere(~np.isfinite(table.scores))
    if wrong.size:
        row, column = wrong[0]
        raise EvaluationError(
            f"{path}: query {table.queries[row]!r}, image {table.gallery[column]!r}: "
            f"the score is {table.scores[row, column]}",
            "give a finite number",
        )
    return table


def _parse_json(text: str) -> SimilarityTable:
    content = json.loads(text)
    scores = np.array(content["scores"], dtype=np.float64)
    return SimilarityTable(tuple(content["queries"]), tuple(content["gallery"]), scores)


def _parse_csv(text: str) -> SimilarityTable:
    head, *rows = [row for row in csv.reader(io.StringIO(text)) if row]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"row {row[0]!r} has {len(row)} cells, the first one {len(head)}")
    scores = np.array([row[1:] for row in rows], dtype=np.float64)
    return SimilarityTable(tuple(row[0] for row in rows), tuple(head[1:]), scores)


def _check_names(
    path: str | Path, what: str, found: Sequence[str], expected: Sequence[str]
) -> None:
    for names, others, verb in ((expected, found, "missing"), (found, expected, "not in the list")):
        wrong = [name for name in names if name not in set(others)]
        if wrong:
            more = f" and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
            raise EvaluationError(
                f"{path}: {what} {verb}: {', '.join(wrong[:_LISTED])}{more}", _HELP
            )
