"""Predicted masks for the videos of a PerMIS list, from a folder of masks or a BURST JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from propagate.errors import EvaluationError
from propagate.eval.burst import Burst, BurstMask, BurstSequence, read_burst
from propagate.eval.labels import Labels, UnusableMaskError, check_size, size_text
from propagate.eval.mask_trees import open_mask_tree
from propagate.eval.missing import Missing, Predictions, Say, find_extra, find_missing, say_nothing
from propagate.eval.permis.list import PermisList, PermisVideo
from propagate.io.masks.rle import decode_mask


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Frames of a video that will be scored.

    Attributes:
        video: Of the list.
        frames: Their positions in the video, in order.
    """

    video: PermisVideo
    frames: tuple[int, ...]


def open_predictions(path: str | Path, permis: PermisList) -> Predictions:
    """Open a folder of masks in any layout, or a BURST JSON.

    Raises:
        EvaluationError: If there is no such folder or file, or it holds no masks.
    """
    path = Path(path)
    return _open_burst(path, permis) if path.is_file() else open_mask_tree(path)


def find_predictions(
    predictions: Predictions,
    wanted: Iterable[Wanted],
    *,
    allow_missing: bool,
    say: Say = say_nothing,
) -> tuple[list[Wanted], Missing]:
    """Find the wanted frames that have a prediction; no mask is read yet.

    Args:
        predictions: With the names of videos and frames of the list.
        wanted: What will be scored.
        allow_missing: Leave out frames without a prediction.
        say: Told which predictions are not in the list, and which names are near missing ones.

    Returns:
        The frames with a prediction; and what is missing.

    Raises:
        EvaluationError: As `find_missing`.
    """
    wanted = list(wanted)
    frames = {item.video.name: [item.video.frame_names[t] for t in item.frames] for item in wanted}
    missing = find_missing(predictions, frames, allow_missing=allow_missing, say=say)
    known = {item.video.name: item.video.frame_names for item in wanted}
    for sentence in find_extra(predictions, known, "the list"):
        say(sentence)
    found: list[Wanted] = []
    for item in wanted:
        if item.video.name in missing["sequences"]:
            continue
        gaps, names = missing["frames"].get(item.video.name, ()), item.video.frame_names
        found.append(Wanted(item.video, tuple(t for t in item.frames if names[t] not in gaps)))
    return found, missing


def read_prediction(predictions: Predictions, video: PermisVideo, index: int) -> Labels:
    """Read the predicted masks of a frame.

    Args:
        predictions: With the names of videos and frames of the list.
        video: Of the list.
        index: Position of the frame.

    Returns:
        The masks, at the size of the video, with no other ids than those of its scored objects.

    Raises:
        UnusableMaskError: If the mask is missing, broken, of another size, or has another id.
    """
    frame = video.frame_names[index]
    labels = predictions.read(video.name, frame)
    path = predictions.where(video.name, frame)
    check_size(path, labels.shape, (video.height, video.width), "video")
    others = sorted(set(labels.object_ids).difference(video.object_ids))
    if others or labels.void is not None:
        found = f"id {others[0] if others else 255}, where the list has 1..{len(video.object_ids)}"
        raise UnusableMaskError(path, found, "use the ids of the list, and 0 for everything else")
    return labels


# --- BURST's JSON --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class BurstPredictions:
    """The masks of a BURST JSON, by the names of videos, frames and objects of a list.

    The tracks of the JSON are those of the annotations. Tracks that the list does not score are
    ignored, because a method may follow them too. A track that is not in a frame has no pixel
    there. A frame that the JSON does not list has no prediction. May be sent to another process.

    Attributes:
        root: The JSON file.
        videos: The videos of the list that the file holds, by name.
    """

    root: Path
    videos: Mapping[str, PermisVideo]

    @property
    def sequences(self) -> tuple[str, ...]:
        """The videos of the list that the file holds."""
        return tuple(self.videos)

    def frames(self, sequence: str) -> tuple[str, ...]:
        """Name the frames of a video that the file holds."""
        return tuple(_masks(self.root)[_folder_of(self.videos[sequence])])

    def where(self, sequence: str, frame: str) -> Path:
        """Name the mask of a frame for a message: `predictions.json:<video>/<frame>`."""
        return Path(f"{self.root}:{sequence}/{frame}")

    def read(self, sequence: str, frame: str) -> Labels:
        """Decode the objects of one frame.

        Raises:
            UnusableMaskError: If there is no such frame.
        """
        video = self.videos[sequence]
        masks = _masks(self.root)[_folder_of(video)].get(frame)
        if masks is None:
            raise UnusableMaskError(self.where(sequence, frame), "missing", "predict every frame")
        size = video.height, video.width
        layers = {
            i: decode_mask(masks[video.tracks[i]].counts, *size)
            for i in video.object_ids
            if video.tracks[i] in masks
        }
        return Labels.of_masks(layers, size)


def _open_burst(path: Path, permis: PermisList) -> BurstPredictions:
    """Find the videos of a list in a BURST JSON, which holds one split."""
    burst = read_burst(path)
    sizes = {_folder(burst, s): (s.height, s.width) for s in burst.sequences}
    videos = {video.name: video for video in permis.videos if _folder_of(video) in sizes}
    for video in videos.values():
        size = sizes[_folder_of(video)]
        if size != (video.height, video.width):
            raise EvaluationError(
                f"{path}: {video.name}: {size_text(size)} pixels, the list has "
                f"{video.width}x{video.height}",
                "predict at the size of the video",
            )
    return BurstPredictions(path, videos)


def _folder(burst: Burst, sequence: BurstSequence) -> str:
    """Name the folder of a sequence's images, which no other sequence has."""
    return f"{burst.split}/{sequence.dataset}/{sequence.name}"


def _folder_of(video: PermisVideo) -> str:
    return str(PurePosixPath(video.images[0]).parent)


def _masks(path: Path) -> Mapping[str, Mapping[str, Mapping[int, BurstMask]]]:
    """Read the masks by the folder of the sequence, the frame and the track."""
    status = path.stat()
    return _parse(path, status.st_mtime_ns, status.st_size)


# A process reads a file once for all frames; time and size distinguish it from a later one.
@lru_cache(maxsize=1)
def _parse(
    path: Path, modified_ns: int, size: int
) -> Mapping[str, Mapping[str, Mapping[int, BurstMask]]]:
    burst = read_burst(path)
    return {
        _folder(burst, s): {
            PurePosixPath(image).stem: masks
            for image, masks in zip(s.annotated_images, s.masks, strict=True)
        }
        for s in burst.sequences
    }
