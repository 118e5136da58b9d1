"""The PerMIS list: one file with the scored videos, frames and instances, and their truth.

Scoring needs this file and the predictions, nothing else. `propagate.eval.permis.build` makes it,
and stores every choice in it. The file contains its own checksum and an edited list is refused, so
two scores with the same checksum are over the same truth.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from propagate.errors import EvaluationError
from propagate.io.masks.rle import decode_mask, mask_area_px
from propagate.io.write.files import write_atomically

_FORMAT = "propagate-permis"
_VERSION = 1
_BUILD_HELP = "build the list again from the annotations"


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One instance in three frames of a video, for the image and retrieval tasks.

    Attributes:
        object_id: The instance.
        targets: Positions in `images` of the two frames in which it must be found; the reference
            is frame 0.
    """

    object_id: int
    targets: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class PermisVideo:
    """A video with two or more instances of one class in its first frame.

    Attributes:
        name: Fit for a folder, and unique in the list even if upper and lower case are the same.
        images: Paths of the T frames below the root of the images, in order, with `/`. The first
            is the reference.
        height: Pixels.
        width: Pixels.
        category: Name of the class.
        object_ids: The scored instances, 1..K: those in the reference.
        other_ids: All other instances of the class, K+1 and up. They are not followed, but a
            prediction may lie on them.
        tracks: Id -> track of the annotation file.
        masks: For each frame, id -> COCO's compressed run lengths; scored and other instances.
        exhaustive: Whether every instance of the class has a track, by the annotations.
        image_part: None if too few frames are fit for the image tasks.
    """

    name: str
    images: tuple[str, ...]
    height: int
    width: int
    category: str
    object_ids: tuple[int, ...]
    other_ids: tuple[int, ...]
    tracks: Mapping[int, int]
    masks: tuple[Mapping[int, str], ...]
    exhaustive: bool
    image_part: ImagePart | None

    @property
    def frame_names(self) -> tuple[str, ...]:
        """Stems of the images: the names of the mask files that are scored."""
        return tuple(PurePosixPath(image).stem for image in self.images)

    def truth(self, index: int) -> np.ndarray:
        """Decode the scored instances of a frame.

        Args:
            index: Position of the frame, 0 for the reference.

        Returns:
            (H, W) uint8, 0 outside `object_ids`.
        """
        ids = self.instances(index)
        ids[ids > len(self.object_ids)] = 0
        return ids

    def instances(self, index: int) -> np.ndarray:
        """Decode all instances of the class in a frame, including those that are not scored.

        If two annotated masks overlap, the smaller one is in front.

        Args:
            index: Position of the frame, 0 for the reference.

        Returns:
            (H, W) uint8, 0 outside `object_ids` and `other_ids`.
        """
        ids = np.zeros((self.height, self.width), dtype=np.uint8)
        masks = self.masks[index]
        size = {i: mask_area_px(masks[i], self.height, self.width) for i in masks}
        for instance in sorted(masks, key=lambda i: (-size[i], i)):
            ids[decode_mask(masks[instance], self.height, self.width)] = instance
        return ids

    def __repr__(self) -> str:
        return (
            f"PermisVideo({self.name}, {self.width}x{self.height}, {len(self.images)} frames, "
            f"{len(self.object_ids)} of {self.category!r})"
        )


@dataclass(frozen=True, slots=True, eq=False)
class PermisList:
    """The videos, and every decision that led to them.

    Attributes:
        choices: Every rule and setting that led from the annotations to the list.
        sources: For each annotation file, "split", "file", "sha256" and the count of "sequences".
        counts: Of sequences, videos, frames, objects, and of what was left out, by the reason.
        videos: In order of their names.
    """

    choices: Mapping[str, Any]
    sources: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, Any]
    videos: tuple[PermisVideo, ...]

    @property
    def sha256(self) -> str:
        """Checksum of the content, independent of the layout of the JSON."""
        return _checksum(_to_json(self))

    def __repr__(self) -> str:
        return f"PermisList({len(self.videos)} videos, sha256 {self.sha256[:12]})"


def write_permis_list(path: str | Path, permis: PermisList) -> None:
    """Write a list, one video per line; the same list gives the same bytes.

    Args:
        path: The JSON file, in a folder that exists. An old file is replaced.
        permis: The list.

    Raises:
        OutputError: If it cannot be written there.
    """
    content = _to_json(permis)
    videos = content.pop("videos")
    head = json.dumps({"sha256": permis.sha256} | content, indent=1).removesuffix("\n}")
    lines = ",\n".join(json.dumps(video, separators=(",", ":")) for video in videos)
    write_atomically(path, f'{head},\n "videos": [\n{lines}\n]}}\n'.encode())


def read_permis_list(path: str | Path) -> PermisList:
    """Read a list and check that it is complete and unchanged.

    Args:
        path: What `write_permis_list` wrote.

    Returns:
        The list.

    Raises:
        EvaluationError: If there is no such file, it is not a list, or it was changed.
    """
    if not Path(path).is_file():
        raise EvaluationError(
            f"{path}: no such list", "make it with `propagate eval permis build`, or check the path"
        )
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: no readable list ({error})", _BUILD_HELP) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise EvaluationError(f"{path}: not a {_FORMAT} list", _BUILD_HELP)
    if content.get("version") != _VERSION:
        raise EvaluationError(
            f"{path}: version {content.get('version')} of the list, this program reads {_VERSION}",
            _BUILD_HELP,
        )
    written = content.pop("sha256", None)
    if written != _checksum(content):
        raise EvaluationError(
            f"{path}: the content does not match the checksum in the file, so it was edited or "
            "damaged",
            _BUILD_HELP,
        )
    return PermisList(
        choices=content["choices"],
        sources=tuple(content["sources"]),
        counts=content["counts"],
        videos=tuple(_video_from_json(video) for video in content["videos"]),
    )


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _to_json(permis: PermisList) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "choices": permis.choices,
        "sources": list(permis.sources),
        "counts": permis.counts,
        "videos": [_video_to_json(video) for video in permis.videos],
    }


def _video_to_json(video: PermisVideo) -> dict[str, Any]:
    part = video.image_part
    return {
        "name": video.name,
        "category": video.category,
        "exhaustive": video.exhaustive,
        "height": video.height,
        "width": video.width,
        "object_ids": list(video.object_ids),
        "other_ids": list(video.other_ids),
        "tracks": {str(i): track for i, track in video.tracks.items()},
        "image_part": None
        if part is None
        else {"object_id": part.object_id, "targets": list(part.targets)},
        "frames": [
            {"image": image, "masks": {str(i): counts for i, counts in masks.items()}}
            for image, masks in zip(video.images, video.masks, strict=True)
        ],
    }


def _video_from_json(raw: Mapping[str, Any]) -> PermisVideo:
    part = raw["image_part"]
    return PermisVideo(
        name=raw["name"],
        images=tuple(frame["image"] for frame in raw["frames"]),
        height=raw["height"],
        width=raw["width"],
        category=raw["category"],
        object_ids=tuple(raw["object_ids"]),
        other_ids=tuple(raw["other_ids"]),
        tracks={int(i): track for i, track in raw["tracks"].items()},
        masks=tuple(
            {int(i): counts for i, counts in frame["masks"].items()} for frame in raw["frames"]
        ),
        exhaustive=raw["exhaustive"],
        image_part=None if part is None else ImagePart(part["object_id"], tuple(part["targets"])),
    )
