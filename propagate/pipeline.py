"""The program in one sentence: decode -> features -> match -> remember -> write."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from propagate.config import Config
from propagate.errors import MaskError, VideoError
from propagate.features import load_backbone
from propagate.io.live import label
from propagate.io.masks import check_size, mask_from_array
from propagate.io.prefetch import Prefetcher
from propagate.io.run_folder import RunFolder
from propagate.io.video import Decoder, open_video
from propagate.records import Frame, Mask, Result
from propagate.session import Session

Source = str | PathLike[str] | int
References = Mapping[int, Mask | np.ndarray]
Progress = Callable[[int, int | None], None]

# Frames decoded while the one before is matched. Their decoder bounds its own reading ahead.
PREFETCH_BYTES = 64 * 2**20
# No source needs longer for one frame, nor for saying that there is none.
FRAME_DEADLINE_S = 120.0
STAGES = ("decode", "features", "match", "write")
# A GPU is filled by a batch; on a CPU frames are computed one by one anyway.
GPU_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run left behind.

    Attributes:
        folder: Where it is.
        frames: How many were written.
        object_ids: What was followed.
        seconds: Wall clock, loading the model not counted.
        stage_s: Of those, per stage: "decode" (waiting for frames), "features", "match", "write".
        written: The files, for a person to read.
    """

    folder: Path
    frames: int
    object_ids: tuple[int, ...]
    seconds: float
    stage_s: dict[str, float]
    written: tuple[str, ...]


class Propagator:
    """A loaded model and settings; follows objects through any number of videos."""

    def __init__(
        self,
        model: str = "tiny",
        *,
        device: str = "auto",
        dtype: str = "auto",
        config: Config | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A preset ("tiny", "color", "sd15", "sd21"), a folder in diffusers layout, or a
                hub id.
            device: "auto", "cpu", "cuda", "cuda:1".
            dtype: Precision of the U-Net: "auto", "float32", "bfloat16", "float16".
            config: How features are matched; None: the measured default.

        Raises:
            ModelError: The model cannot be loaded.
            DeviceError: The device is not there.
        """
        self.model = model
        self.dtype = dtype
        self.config = config or Config()
        self.backbone = load_backbone(model, device=device, dtype=dtype)

    def session(self, *, probabilities: bool = False) -> Session:
        """Begin a video: feed it frames with `step`.

        Args:
            probabilities: Whether each result carries the soft label of every object.
        """
        return Session(self.backbone, self.config, probabilities)

    def propagate(
        self,
        source: Source | Iterable[Frame],
        references: References,
        *,
        batch_size: int | None = None,
        decoder: Decoder = "auto",
        max_frames: int | None = None,
        probabilities: bool = False,
    ) -> Iterator[Result]:
        """Follow the objects of the references through a video, frame by frame.

        Args:
            source: A video file, a folder of images, a camera index or stream address, or frames.
            references: Frame index -> mask. Frames before the first come out empty.
            batch_size: Frames whose features are computed at once; None: 8 on a GPU, 1 on a CPU.
                It does not change a mask on a CPU; on a GPU features agree to rounding.
            decoder: "auto", "decord" or "pyav".
            max_frames: Stop after so many.
            probabilities: Whether each result carries the soft label of every object.

        Yields:
            One `Result` per frame, in order, as soon as its batch is done.

        Raises:
            VideoError: The source cannot be opened, or breaks off; frames before that come first.
            MaskError: A reference has another size, or lies past the end.
        """
        session = self.session(probabilities=probabilities)
        opened = (
            open_video(source, decoder=decoder)
            if isinstance(source, (str, PathLike, int))
            else nullcontext(source)
        )
        with opened as frames:
            for _, result in self.follow(
                session, frames, references, batch_size=batch_size, max_frames=max_frames
            ):
                yield result

    def run(
        self,
        source: Source,
        references: References,
        out: str | PathLike[str],
        *,
        formats: tuple[str, ...] = ("png",),
        overlay: bool = False,
        batch_size: int | None = None,
        decoder: Decoder = "auto",
        max_frames: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> RunSummary:
        """Follow objects through a video and write `out/<name of the video>/`.

        Args:
            source, references, batch_size, decoder, max_frames: See `propagate`.
            out: Folder for the folders of videos.
            formats: Of "png" and "rle".
            overlay: Whether to write `overlay.mp4`.
            overwrite: Whether to replace a finished run.
            progress: Called after each frame with the frames done and about how many there are.

        Raises:
            VideoError, MaskError, OutputError: See there; frames so far are kept, and
                `incomplete.json` stands where `result.json` would.
        """
        started = time.monotonic()
        clock = StageClock()
        session = self.session()
        with open_video(source, decoder=decoder) as frames:
            info = frames.info
            total = _at_most(info.frame_count, max_frames)
            exact = info.frame_count if info.decoder == "images" else None
            _check_within(references, _at_most(exact, max_frames))
            masks = {index: _as_mask(index, mask) for index, mask in references.items()}
            for mask in masks.values():
                check_size(mask, info.height, info.width)
            settings = self._settings(source, masks, max_frames)
            with RunFolder(
                Path(out) / info.name,
                settings,
                formats=formats,
                overlay=overlay,
                fps=info.fps,
                overwrite=overwrite,
            ) as folder:
                results = self.follow(
                    session,
                    frames,
                    masks,
                    batch_size=batch_size,
                    max_frames=max_frames,
                    clock=clock,
                )
                done = 0
                # Closed at once when writing fails: its thread reads from the source.
                with closing(results):
                    for frame, result in results:
                        with clock("write"):
                            folder.write(frame, result)
                        done += 1
                        if progress is not None:
                            progress(done, total)
                seconds = time.monotonic() - started
                folder.report(
                    decoder=frames.info.decoder,
                    object_ids=list(session.object_ids),
                    device=str(self.backbone.device),
                    versions=_versions(),
                    timing={"seconds": round(seconds, 3), **clock.rounded()},
                )
        stages = dict(clock.seconds)
        return RunSummary(
            folder.path, done, session.object_ids, seconds, stages, tuple(folder.written)
        )

    def follow(
        self,
        session: Session,
        frames: Iterable[Frame],
        references: References,
        *,
        batch_size: int | None = None,
        max_frames: int | None = None,
        clock: "StageClock | None" = None,
    ) -> Generator[tuple[Frame, Result], None, None]:
        """Do what `propagate` does in a session of the caller's; yield each frame with its result.

        Args:
            session: A new one, or one that a saved state was loaded into.
            frames: In order; one thread reads ahead.
            references, batch_size, max_frames: See `propagate`.
            clock: Adds up the seconds of each stage.
        """
        clock = clock or StageClock()
        if batch_size is None:
            batch_size = 1 if self.backbone.device.type == "cpu" else GPU_BATCH_SIZE
        if batch_size < 1:
            raise ValueError(f"batch_size: at least 1, not {batch_size}")
        # Masks are checked before the first frame is decoded.
        masks = {index: _as_mask(index, mask) for index, mask in references.items()}
        if not masks:
            raise MaskError("no reference: give the mask of at least one frame")
        count = 0
        with Prefetcher(
            islice(frames, max_frames), bytes_limit=PREFETCH_BYTES, deadline_s=FRAME_DEADLINE_S
        ) as ahead:
            for batch in _batches(ahead, batch_size, clock):
                with clock("features"):
                    features = session.extract(batch)
                for frame, cells in zip(batch, features, strict=True):
                    with clock("match"):
                        size = frame.image.shape[:2]
                        result = session.advance(size, cells, masks.get(count), frame.time_s)
                    count += 1
                    yield frame, result
        _check_within(masks, count)

    def _settings(
        self, source: Source, masks: Mapping[int, Mask], max_frames: int | None
    ) -> dict[str, Any]:
        """Everything that decides the masks of a run, as plain values."""
        live = isinstance(source, int) or not Path(source).exists()
        settings: dict[str, Any] = {
            "source": label(str(source)) if live else str(source),
            "model": self.model,
            "dtype": self.dtype,
            "config": self.config.to_json(),
            "references_sha256": {
                str(index): hashlib.sha256(mask.ids.tobytes()).hexdigest()
                for index, mask in sorted(masks.items())
            },
            "max_frames": max_frames,
        }
        if live:
            # A camera does not show the same twice: a second run must not replace the first.
            settings["started"] = datetime.now(UTC).isoformat(timespec="seconds")
        return settings


class StageClock:
    """Adds up the seconds spent in each stage of a run."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a `with` block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - started

    def rounded(self) -> dict[str, float]:
        """Seconds per stage, to the millisecond."""
        return {f"{stage}_s": round(seconds, 3) for stage, seconds in self.seconds.items()}


def _batches(frames: Iterator[Frame], size: int, clock: StageClock) -> Iterator[list[Frame]]:
    """Group frames of one size. Where reading fails, the frames before come out first."""
    batch: list[Frame] = []
    failure: Exception | None = None
    while True:
        try:
            with clock("decode"):
                frame = next(frames, None)
        except TimeoutError as error:
            failure = VideoError(f"the source gave no frame: {error}; check it, and try again")
            failure.__cause__ = error
            break
        except Exception as error:
            failure = error
            break
        if frame is None:
            break
        if batch and frame.image.shape != batch[0].image.shape:
            yield batch
            batch = []
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
    if failure is not None:
        raise failure


def _as_mask(index: int, mask: Mask | np.ndarray) -> Mask:
    if index < 0:
        raise MaskError(f"reference on frame {index}: frames are counted from 0")
    if isinstance(mask, Mask):
        return mask
    return mask_from_array(mask, source=f"mask of frame {index}")


def _check_within(references: References, count: int | None) -> None:
    """Refuse references on frames that are not there; `count` None: not known."""
    beyond = [index for index in references if count is not None and index >= count]
    if beyond:
        raise MaskError(
            f"the reference on frame {min(beyond)} is past the end: there are {count} frames, "
            f"0 to {count - 1}; name the frame that the mask was drawn on"
            if count
            else "there are no frames to follow anything through"
        )


def _at_most(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)


def _versions() -> dict[str, str]:
    names = ("propagate-video", "torch", "diffusers", "av", "decord2", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
