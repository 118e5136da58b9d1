"""Where the instances of one labelled picture appear in videos.

A map that says which cells are likelier the instance's than its background's cannot rank videos: in
a scene unlike both, one of them is always likelier. So a frame is scored by how much of the
instance it holds: each cell of the instance looks for the cell of the frame that is most like it.

    h w   grid of a picture      C   channels      n   cells of the instance
"""

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from propagate.config import Config
from propagate.errors import VideoError
from propagate.features.backbone import Backbone
from propagate.features.read_ahead import batch_frames
from propagate.features.registry import as_backbone
from propagate.images.instance import (
    INSTANCE_SETTINGS,
    PictureFeatures,
    class_token,
    instance_map,
    label_reference,
    learn_instance,
    read_pictures,
)
from propagate.images.target import Target, learn_target
from propagate.io.decode.image_folder import FOLDER_FPS
from propagate.io.decode.live import live_display_name
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import Source
from propagate.io.decode.video import open_source
from propagate.io.write.overlay import draw_overlay
from propagate.io.write.panels import fitted_size
from propagate.records import Frame, Mask, Progress, VideoInfo

# Seconds between the frames that are examined.
EVERY_S = Fraction(1, 2)
# Largest height and width of the picture that is kept of an appearance, in pixels.
PICTURE_LIMIT = (240, 320)


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame that was examined.

    Attributes:
        index: Its number in the video, from 0.
        time_s: When it is shown, in seconds.
        score: How much of the instance it holds, see `Target.score`.
    """

    index: int
    time_s: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Where one instance appears in one video.

    Attributes:
        samples: All frames that were looked at, in order.
        intervals: (start, end) in seconds in which the instance appears, see `intervals_above`.
        picture: (H, W, 3) uint8, RGB: the best frame, shrunk, the instance's cells drawn on it.
    """

    samples: tuple[Sample, ...]
    intervals: tuple[tuple[float, float], ...]
    picture: np.ndarray

    @property
    def best(self) -> Sample:
        """The first frame with the highest score, by which the video is ranked."""
        return max(self.samples, key=lambda sample: sample.score)


@dataclass(frozen=True, slots=True, eq=False)
class VideoSearch:
    """The result for one video.

    Attributes:
        video: Its path or address.
        objects: Per object id.
        error: Why it broke off, where it did; the frames before that were looked at.
    """

    video: str
    objects: Mapping[int, Appearance]
    error: VideoError | None = None


class Finder:
    """Searches videos for the instances of one labelled picture."""

    def __init__(
        self,
        model: str | Backbone,
        image: np.ndarray,
        mask: Mask | np.ndarray | None,
        *,
        class_name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        compile: bool = False,
        config: Config | None = None,
    ) -> None:
        """Learn the instances.

        Args:
            model: A model name, see `Propagator`, or a loaded backbone, for example
                `Propagator.backbone`. If a class is named, the backbone must have been loaded with
                it.
            image: (H, W, 3) uint8, RGB.
            mask: (H, W) ids, as `Session.step` takes them. None: one object, id 1, which is found
                by its class name.
            class_name: What the objects are, for models that take text.
            device, dtype, engine, compile: See `Propagator`; not used for a loaded backbone.
            config: The size at which pictures are read, and whether colours count.

        Raises:
            MaskError: The mask cannot be used, or has another size.
            ModelError: A class is named, but the model takes no text.
            ValueError: There is neither a mask nor a class name.
        """
        if mask is None and class_name is None:
            raise ValueError("mask: needed where no class is named")
        self._config = config = config or Config()
        self._backbone = backbone = as_backbone(
            model,
            device=device,
            dtype=dtype,
            engine=engine,
            compile=compile,
            config=config if class_name is None else replace(config, class_names={1: class_name}),
        )
        self._class_name = class_name
        self._semantic = class_name is not None
        reference = self._read([image])[0]
        token = None if class_name is None else class_token(backbone, class_name)
        size = image.shape[0], image.shape[1]
        labels, object_ids = label_reference(reference, size, mask, token, class_name)
        # A void cell is neither instance nor background.
        self._targets = {
            object_id: learn_target(learn_instance(reference, own, token, labels.sum(-1) - own))
            for object_id, own in zip(object_ids, labels[..., 1:].unbind(-1), strict=True)
        }

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects to search for."""
        return tuple(self._targets)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything besides model, picture and mask that decides scores, as plain values."""
        return {
            "class_name": self._class_name,
            "config": self._config.to_json(),
            "instance": asdict(INSTANCE_SETTINGS),
        }

    def search(
        self,
        source: Source,
        *,
        every_s: Fraction | float = EVERY_S,
        source_options: SourceOptions | None = None,
        progress: Progress | None = None,
    ) -> VideoSearch:
        """Search a video, which is read once from start to end.

        Args:
            source: A video file or a folder of images.
            every_s: Seconds between the frames that are looked at; the first one always is.
            source_options: How it is opened, and which of its frames are read; None: as it is.
            progress: Called after each frame with the frames done and about how many there are.

        Raises:
            VideoError: It cannot be opened, or breaks off before its first frame.
            ValueError: `every_s` is not positive.
        """
        # As a float, 0.2 is a little later than the fifth frame at 25 frames per second.
        every = Fraction(every_s).limit_denominator(1_000_000)
        if every <= 0:
            raise ValueError(f"every_s: above 0, not {every_s}")
        seen = {i: _Seen(i, target) for i, target in self._targets.items()}
        done, failure = 0, None
        with open_source(source, source_options or SourceOptions()) as frames:
            total = _sample_count(frames.info, every)
            with closing(self._pictures(sampled(frames, every))) as pictures:
                try:
                    for frame, picture in pictures:
                        for one in seen.values():
                            one.add(frame, picture)
                        done += 1
                        if progress is not None:
                            progress(done, total)
                except VideoError as error:
                    if not done:
                        raise
                    failure = error
        objects = {i: one.appearance() for i, one in seen.items()}
        return VideoSearch(live_display_name(str(source)), objects, failure)

    def _pictures(
        self, frames: Iterable[Frame]
    ) -> Generator[tuple[Frame, PictureFeatures], None, None]:
        """Give each frame with its features, computed in batches, decoded ahead."""
        with closing(batch_frames(frames, self._backbone, self._config)) as batches:
            for batch in batches:
                yield from zip(batch, self._read([frame.image for frame in batch]), strict=True)

    def _read(self, images: Sequence[np.ndarray]) -> list[PictureFeatures]:
        return read_pictures(self._backbone, self._config, images, self._semantic)


def sampled(frames: Iterable[Frame], every: Fraction) -> Generator[Frame, None, None]:
    """Give the first frame, then the first frame of every next `every` seconds."""
    due: Fraction | None = None
    for frame in frames:
        if due is None:
            due = frame.time
        if frame.time >= due:
            yield frame
            # Counted from the first frame, so that a late frame does not delay the next ones.
            due += every * (math.floor((frame.time - due) / every) + 1)


def intervals_above(samples: Sequence[Sample], threshold: float) -> list[tuple[float, float]]:
    """Find the intervals in which scores are at the threshold or above.

    A sample stands for the time that is nearer to it than to another sample: an interval begins and
    ends half-way between a sample in it and one that is not, or with the first or last sample.

    Args:
        samples: In order of time.
        threshold: Lowest score that counts.

    Returns:
        (start, end) in seconds of each interval, in order.
    """
    intervals: list[tuple[float, float]] = []
    last = len(samples) - 1
    for shown, run in groupby(range(len(samples)), lambda i: samples[i].score >= threshold):
        if not shown:
            continue
        inside = list(run)
        before, after = max(0, inside[0] - 1), min(last, inside[-1] + 1)
        start = (samples[before].time_s + samples[inside[0]].time_s) / 2
        end = (samples[inside[-1]].time_s + samples[after].time_s) / 2
        intervals.append((start, end))
    return intervals


def ranked(searches: Sequence[VideoSearch], object_id: int) -> list[VideoSearch]:
    """Order videos by the score of an object, highest first; equal ones keep their order."""
    return sorted(searches, key=lambda search: -search.objects[object_id].best.score)


def draw_found(image: np.ndarray, found: torch.Tensor, object_id: int) -> np.ndarray:
    """Shrink a frame, and draw the cells that are more likely the instance than not.

    Args:
        image: (H, W, 3) uint8, RGB.
        found: (h, w) map in 0..1.
        object_id: Its id. The colour is the one that stands out most.

    Returns:
        (H', W', 3) uint8, RGB.
    """
    size = fitted_size(image.shape[0], image.shape[1], PICTURE_LIMIT)
    small = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.LANCZOS))
    large = F.interpolate(found[None, None].float(), size, mode="bilinear")[0, 0]
    ids = (large >= INSTANCE_SETTINGS.boundary).byte() * object_id
    return draw_overlay(small, ids.cpu().numpy(), alpha=0.3)


class _Seen:
    """Collects the scores of one object in one video, and keeps one picture."""

    def __init__(self, object_id: int, target: Target) -> None:
        self._object_id = object_id
        self._target = target
        self._samples: list[Sample] = []
        self._best = -math.inf
        self._picture = np.zeros((1, 1, 3), np.uint8)

    def add(self, frame: Frame, picture: PictureFeatures) -> None:
        score = self._target.score(picture)
        self._samples.append(Sample(frame.index, frame.time_s, score))
        if score > self._best:
            self._best = score
            found = instance_map(picture, self._target.instance)
            self._picture = draw_found(frame.image, found, self._object_id)

    def appearance(self) -> Appearance:
        intervals = intervals_above(self._samples, INSTANCE_SETTINGS.appears_from)
        return Appearance(tuple(self._samples), tuple(intervals), self._picture)


def _sample_count(info: VideoInfo, every: Fraction) -> int | None:
    """About how many frames `sampled` gives, if the container says."""
    # A folder has no times: 25 frames per second are assumed.
    fps = info.fps or (FOLDER_FPS if info.decoder == "images" else None)
    if not info.frame_count or not fps:
        return None
    return min(info.frame_count, math.floor((info.frame_count - 1) / (every * fps)) + 1)
