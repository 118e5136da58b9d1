"""Predicted masks in a BURST JSON, read like a folder of masks of a PerMIS list."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from propagate.errors import EvaluationError
from propagate.eval.burst import Burst, BurstMask, BurstSequence, read_burst
from propagate.eval.labels import Labels, UnusableMaskError
from propagate.eval.permis.list import PermisList, PermisVideo
from propagate.io.write.rle import decode_mask


@dataclass(frozen=True, slots=True, eq=False)
class BurstPredictions:
    """Masks under the names of videos, frames and objects of a list. May be sent to a process.

    The tracks of the JSON are those of the annotations. Those that the list does not score are
    ignored, for a method may follow them too; one that is not in a frame has no pixel there. A
    frame that the JSON does not list has no prediction.

    Attributes:
        root: The JSON file.
        videos: Of the list, by name; those that the file holds.
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
        """Name the mask of a frame in a message: `predictions.json:<video>/<frame>`."""
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
        scored = {i: masks[track] for i, track in video.tracks.items() if track in masks}
        size = video.height, video.width
        layers = {
            i: decode_mask(mask.counts, *size)
            for i, mask in scored.items()
            if i in video.object_ids
        }
        return Labels.of_masks(layers, size)


def open_burst_predictions(path: Path, permis: PermisList) -> BurstPredictions:
    """Find the videos of a list in a BURST JSON of predictions, which is of one split.

    Raises:
        EvaluationError: If the file cannot be read, or a video has another size there.
    """
    burst = read_burst(path)
    sizes = {_folder(burst, s): (s.height, s.width) for s in burst.sequences}
    videos = {video.name: video for video in permis.videos if _folder_of(video) in sizes}
    for video in videos.values():
        height, width = sizes[_folder_of(video)]
        if (height, width) != (video.height, video.width):
            raise EvaluationError(
                f"{path}: {video.name}: {width}x{height} pixels, the list has "
                f"{video.width}x{video.height}: predict at the size of the video"
            )
    return BurstPredictions(path, videos)


def _folder(burst: Burst, sequence: BurstSequence) -> str:
    """Where the images of a sequence are, which tells it from all others."""
    return f"{burst.split}/{sequence.dataset}/{sequence.name}"


def _folder_of(video: PermisVideo) -> str:
    return str(PurePosixPath(video.images[0]).parent)


def _masks(path: Path) -> Mapping[str, Mapping[str, Mapping[int, BurstMask]]]:
    """Masks by the folder of the sequence, the frame and the track."""
    status = path.stat()
    return _parse(path, status.st_mtime_ns, status.st_size)


# A process reads a file once and looks into it for every frame; time and size tell a later one.
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
