"""The program in one sentence: decode -> features -> match -> remember -> write."""

import hashlib
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from propagate.config import Config
from propagate.errors import MaskError, VideoError
from propagate.features import load_backbone
from propagate.features.frames import channel_count, working_size
from propagate.frame_batches import batch_frames
from propagate.io.live import label
from propagate.io.masks import check_size, mask_from_array
from propagate.io.run_folder import RunFolder
from propagate.io.video import Decoder, FrameSource, open_video
from propagate.records import Frame, Mask, Result
from propagate.refine import Refiner
from propagate.session import Session
from propagate.stage_clock import StageClock
from propagate.two_way import (
    SPOOL_BYTES,
    Block,
    follow_both_ways,
    frame_bytes,
    plan_blocks,
)

Source = str | PathLike[str] | int
References = Mapping[int, Mask | np.ndarray]
Progress = Callable[[int, int | None], None]


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
        compile: bool = False,
        config: Config | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A key of `PRESETS`, a folder in diffusers layout, or a hub id.
            device: "auto", "cpu", "cuda", "cuda:1".
            dtype: Precision of the U-Net: "auto", "float32", "bfloat16", "float16".
            compile: Compile the U-Net's blocks: minutes at first, less for every frame.
            config: What is read and how it is matched; None: the measured default.

        Raises:
            ModelError: The model cannot be loaded, or takes no class names where some are given.
            DeviceError: The device is not there.
            ValueError: There is no such recipe.
        """
        self.model = model
        self.dtype = dtype
        self.config = config or Config()
        self.backbone = load_backbone(
            model,
            device=device,
            dtype=dtype,
            recipe=self.config.recipe,
            class_names=self.config.named_classes,
            template=self.config.template,
            compile=compile,
        )

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
        both_ways: bool = True,
        spool_bytes: int = SPOOL_BYTES,
    ) -> Iterator[Result]:
        """Follow the objects of the references through a video, frame by frame.

        Args:
            source: A video file, a folder of images, a camera index or stream address, or frames.
            references: Frame index -> mask.
            batch_size: Frames whose features are computed at once; None: 1 on a CPU, on a GPU as
                many as its memory has room for, up to 32. It does not change a mask on a CPU; on a
                GPU features agree to rounding.
            decoder: "auto", "decord" or "pyav".
            max_frames: Stop after so many.
            probabilities: Whether each result carries the soft label of every object.
            both_ways: Whether frames before a reference are reached backwards from it too, in a
                file or folder. If not, and from live sources and plain frames, objects are followed
                forwards only, and frames before the first reference come out empty.
            spool_bytes: Most temporary disk space for that. Where more is needed, frames are gone
                back over as far as it reaches, and a warning says how far.

        Yields:
            One `Result` per frame, in order, as soon as its batch is done; those that are gone back
            over when the reference after them has been read.

        Raises:
            VideoError: The source cannot be opened, or breaks off; frames before that come first.
            MaskError: A reference has another size, or lies past the end.
            OutputError: There is no room for temporary files.
        """
        session = self.session(probabilities=probabilities)
        masks = _as_masks(references)
        blocks = self._blocks(source, masks, spool_bytes) if both_ways else []
        opened = (
            open_video(source, decoder=decoder)
            if isinstance(source, (str, PathLike, int))
            else nullcontext(source)
        )
        with opened as frames:
            if blocks:
                yield from self._follow_both_ways(
                    session, frames, masks, blocks, batch_size, max_frames, StageClock()
                )
                return
            for _, result in self.follow(
                session, frames, masks, batch_size=batch_size, max_frames=max_frames
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
        refine: Refiner | None = None,
        batch_size: int | None = None,
        decoder: Decoder = "auto",
        max_frames: int | None = None,
        both_ways: bool = True,
        spool_bytes: int = SPOOL_BYTES,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> RunSummary:
        """Follow objects through a video and write `out/<name of the video>/`.

        Args:
            source, references, batch_size, decoder, max_frames: See `propagate`.
            both_ways, spool_bytes: See `propagate`.
            out: Folder for the folders of videos.
            formats: Of "png" and "rle".
            overlay: Whether to write `overlay.mp4`.
            refine: Refines the mask of each frame that has no reference; refined masks go beside
                the others, into `refined/`.
            overwrite: Whether to replace a finished run.
            progress: Called after each frame with the frames done and about how many there are.

        Raises:
            VideoError, MaskError, OutputError: See there; frames so far are kept, and
                `incomplete.json` stands where `result.json` would.
        """
        started = time.monotonic()
        clock = StageClock()
        session = self.session()
        masks = _as_masks(references)
        blocks = self._blocks(source, masks, spool_bytes) if both_ways else []
        with open_video(source, decoder=decoder) as frames:
            info = frames.info
            total = _at_most(info.frame_count, max_frames)
            exact = info.frame_count if info.decoder == "images" else None
            _check_within(masks, _at_most(exact, max_frames))
            for mask in masks.values():
                check_size(mask, info.height, info.width)
            settings = self._settings(source, masks, blocks, max_frames)
            if refine is not None:
                settings["refiner"] = refine.settings
            with RunFolder(
                Path(out) / info.name,
                settings,
                formats=formats,
                overlay=overlay,
                refined=refine is not None,
                fps=info.fps,
                overwrite=overwrite,
            ) as folder:
                if blocks:
                    results = _beside_frames(
                        self._follow_both_ways(
                            session, frames, masks, blocks, batch_size, max_frames, clock
                        ),
                        open_video(source, decoder=decoder),
                        clock,
                    )
                else:
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
                    for frame, result, refined in _refined(results, refine, masks, clock):
                        with clock("write"):
                            folder.write(frame, result, refined)
                        done += 1
                        if progress is not None:
                            progress(done, total)
                seconds = time.monotonic() - started
                folder.report(
                    decoder=frames.info.decoder,
                    object_ids=list(session.object_ids),
                    device=str(self.backbone.device),
                    versions=versions(),
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
        clock: StageClock | None = None,
    ) -> Generator[tuple[Frame, Result], None, None]:
        """Do what `propagate` does in a session of the caller's; yield each frame with its result.

        Args:
            session: A new one, or one that a saved state was loaded into.
            frames: In order; one thread reads ahead.
            references, batch_size, max_frames: See `propagate`.
            clock: Adds up the seconds of each stage.
        """
        clock = clock or StageClock()
        masks = _as_masks(references)
        count = 0
        with closing(self._read(session, frames, batch_size, max_frames, clock)) as read:
            for frame, features in read:
                with clock("match"):
                    size = frame.image.shape[:2]
                    result = session.advance(size, features, masks.get(count), frame.time_s)
                count += 1
                yield frame, result
        _check_within(masks, count)

    def _follow_both_ways(
        self,
        session: Session,
        frames: Iterable[Frame],
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        batch_size: int | None,
        max_frames: int | None,
        clock: StageClock,
    ) -> Generator[Result, None, None]:
        """Do what `follow` does, and go back over the blocks; no frame is kept for its result."""
        count = 0
        with (
            closing(self._read(session, frames, batch_size, max_frames, clock)) as read,
            closing(follow_both_ways(session, read, masks, blocks, clock)) as results,
        ):
            for result in results:
                count += 1
                yield result
        _check_within(masks, count)

    def _read(
        self,
        session: Session,
        frames: Iterable[Frame],
        batch_size: int | None,
        max_frames: int | None,
        clock: StageClock,
    ) -> Generator[tuple[Frame, torch.Tensor], None, None]:
        """Give each frame with its features (C, h, w), computed in batches, read ahead."""
        batches = batch_frames(
            islice(frames, max_frames),
            self.backbone,
            self.config,
            batch_size=batch_size,
            clock=clock,
        )
        with closing(batches):
            for batch in batches:
                with clock("features"):
                    features = session.extract(batch)
                yield from zip(batch, features, strict=True)

    def _blocks(self, source: object, masks: Mapping[int, Mask], spool_bytes: int) -> list[Block]:
        """Choose the frames to go back over: none in what is live, or comes as frames."""
        if not isinstance(source, (str, PathLike)) or not Path(source).exists():
            return []
        if spool_bytes < 1:
            raise ValueError(f"spool_bytes: more than 0, not {spool_bytes}")
        height, width = next(iter(masks.values())).ids.shape
        rows, columns = working_size(height, width, self.config, self.backbone.multiple)
        grid = rows // self.backbone.stride, columns // self.backbone.stride
        named = {index: mask.object_ids for index, mask in masks.items()}
        objects = len(set().union(*named.values()))
        per_frame = frame_bytes(channel_count(self.backbone, self.config), grid, objects)
        return plan_blocks(named, max(1, spool_bytes // per_frame))

    def _settings(
        self,
        source: Source,
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        max_frames: int | None,
    ) -> dict[str, Any]:
        """Everything that decides the masks of a run, as plain values."""
        live = isinstance(source, int) or not Path(source).exists()
        reading = self.backbone.reading
        settings: dict[str, Any] = {
            "source": label(str(source)) if live else str(source),
            "model": self.model,
            "dtype": self.dtype,
            "reading": None if reading is None else asdict(reading),
            "config": self.config.to_json(),
            "references_sha256": {
                str(index): hashlib.sha256(mask.ids.tobytes()).hexdigest()
                for index, mask in sorted(masks.items())
            },
            "backwards": [
                {"from": block.end, "to": block.start, "whole": block.whole} for block in blocks
            ],
            "max_frames": max_frames,
        }
        if live:
            # A camera does not show the same twice: a second run must not replace the first.
            settings["started"] = datetime.now(UTC).isoformat(timespec="seconds")
        return settings


def _refined(
    results: Iterable[tuple[Frame, Result]],
    refiner: Refiner | None,
    drawn: Container[int],
    clock: StageClock,
) -> Iterator[tuple[Frame, Result, np.ndarray | None]]:
    """Add the refined mask of each frame; what a person drew is as it should be."""
    for frame, result in results:
        refined = None
        if refiner is not None:
            with clock("refine"):
                known = result.index in drawn
                refined = result.mask if known else refiner.refine(frame.image, result.mask)
        yield frame, result, refined


def _beside_frames(
    results: Generator[Result, None, None], frames: FrameSource, clock: StageClock
) -> Generator[tuple[Frame, Result], None, None]:
    """Give each result with its frame, read for a second time."""
    with frames, closing(results):
        for result in results:
            with clock("decode"):
                frame = next(frames, None)
            if frame is None:
                raise VideoError(
                    f"frame {result.index} was there when the source was read first, and is gone; "
                    "leave the source as it is while it is followed"
                )
            yield frame, result


def _as_masks(references: References) -> dict[int, Mask]:
    """Check references before the first frame is decoded."""
    if not references:
        raise MaskError("no reference: give the mask of at least one frame")
    return {index: _as_mask(index, mask) for index, mask in references.items()}


def _as_mask(index: int, mask: Mask | np.ndarray) -> Mask:
    if index < 0:
        raise MaskError(f"reference on frame {index}: frames are counted from 0")
    if isinstance(mask, Mask):
        return mask
    return mask_from_array(mask, source=f"mask of frame {index}")


def _check_within(references: Mapping[int, object], count: int | None) -> None:
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


def versions() -> dict[str, str]:
    """Name the versions of this program and of the libraries that decide its masks."""
    names = ("propagate-video", "torch", "diffusers", "transformers", "av", "decord2", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
