"""The program in one sentence: decode -> features -> match -> remember -> write."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from propagate.config import Config
from propagate.errors import MaskError, VideoError
from propagate.features.batch_size import MOST_FRAMES
from propagate.features.extract import channel_count, working_size
from propagate.features.read_ahead import batch_frames, with_features
from propagate.features.registry import load_backbone
from propagate.io.decode.frame_range import FrameRange, places_of
from propagate.io.decode.live import label
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.video import FrameSource, is_live, open_source
from propagate.io.write.masks import check_size, mask_from_array
from propagate.io.write.run_folder import RunFolder, find_finished
from propagate.records import Frame, Mask, Progress, Result
from propagate.refine.refiner import Refiner
from propagate.saved_state import Saves, dump_session, load_session
from propagate.session import Session
from propagate.stage_clock import STAGES, StageClock
from propagate.two_way import (
    SPOOL_BYTES,
    Block,
    follow_both_ways,
    frame_bytes,
    plan_blocks,
)

Source = str | PathLike[str] | int
References = Mapping[int, Mask | np.ndarray]

# Seconds between two saved states: what a kill costs at most. Each is a few megabytes to write.
SAVE_EVERY_S = 30.0
# Saving may take this share of the time; where one save takes longer, they come less often.
SAVE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run left behind.

    Attributes:
        folder: Where it is.
        frames: How many were written.
        object_ids: What was followed.
        seconds: Wall clock, loading the model not counted; of a run that was interrupted, what its
            frames took.
        stage_s: Of those, per stage: "decode" (waiting for frames), "features", "match", "write".
            The first two go on while the frame before is matched and written: together the stages
            are longer.
        written: The files, for a person to read.
        resumed_at: The frames at which it went on after an interruption.
        was_finished: Whether it was there already, and nothing had to be done.
    """

    folder: Path
    frames: int
    object_ids: tuple[int, ...]
    seconds: float
    stage_s: dict[str, float]
    written: tuple[str, ...]
    resumed_at: tuple[int, ...] = ()
    was_finished: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a source is followed.

    Attributes:
        opening: Opens it, as often as it has to be read.
        masks: The references, by the place of their frame among those that are read.
        blocks: The frames that are gone back over.
    """

    opening: Callable[[], FrameSource]
    masks: Mapping[int, Mask]
    blocks: Sequence[Block]


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
        source_options: SourceOptions | None = None,
        batch_size: int | None = None,
        max_frames: int | None = None,
        probabilities: bool = False,
        both_ways: bool = True,
        spool_bytes: int = SPOOL_BYTES,
    ) -> Iterator[Result]:
        """Follow the objects of the references through a video, frame by frame.

        Args:
            source: A video file, a folder of images, a camera index or stream address, or frames.
            references: Frame index -> mask. Indices are those of the source, whatever the range.
            source_options: How the source is opened, and which of its frames are read: others get
                no mask, and none can hold a reference. A folder that is still being written is
                followed forwards only. None: as it is.
            batch_size: Frames whose features are computed at once; None: 1 on a CPU, on a GPU as
                many as its memory has room for, up to 32. It does not change a mask on a CPU; on a
                GPU features agree to rounding.
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
            MaskError: A reference has another size, lies past the end or outside the range.
            OutputError: There is no room for temporary files.
            ValueError: Source options for frames that were given as such.
        """
        session = self.session(probabilities=probabilities)
        masks = _as_masks(references)
        indices: deque[int] | None = None
        blocks: Sequence[Block] = ()
        if isinstance(source, (str, PathLike, int)):
            options = source_options or SourceOptions()
            plan = self._plan(source, masks, options, max_frames, both_ways, spool_bytes)
            opening, masks, blocks = plan.opening, plan.masks, plan.blocks
            if options.frame_range is not None:
                indices = deque()
        elif source_options is not None:
            raise ValueError("source_options: of a source that is opened here, not of frames")
        else:
            opening = partial(nullcontext, source)
        with opening() as opened:
            frames = opened if indices is None else _noting(opened, indices)
            if blocks:
                results = self._follow_both_ways(
                    session, frames, masks, blocks, batch_size, max_frames, StageClock()
                )
            else:
                results = _without_frames(
                    self.follow(
                        session, frames, masks, batch_size=batch_size, max_frames=max_frames
                    )
                )
            with closing(results):
                for result in results:
                    index = result.index if indices is None else indices.popleft()
                    yield replace(result, index=index)

    def run(
        self,
        source: Source,
        references: References,
        out: str | PathLike[str],
        *,
        source_options: SourceOptions | None = None,
        formats: tuple[str, ...] = ("png",),
        overlay: bool = False,
        refine: Refiner | None = None,
        batch_size: int | None = None,
        max_frames: int | None = None,
        both_ways: bool = True,
        spool_bytes: int = SPOOL_BYTES,
        overwrite: bool = False,
        name: str | None = None,
        keep_finished: bool = False,
        save_every_s: float = SAVE_EVERY_S,
        progress: Progress | None = None,
        clock: StageClock | None = None,
    ) -> RunSummary:
        """Follow objects through a video and write `out/<name of the video>/`.

        A run that was interrupted, killed or not, goes on from its last saved state, and its files
        end byte for byte as those of one that was not, but for "timing" in the report. Frames up to
        there are decoded again, and only that. Live sources cannot be gone on with.

        Args:
            source, references, source_options, batch_size, max_frames: See `propagate`. Of a range,
                masks have the names that they have in a run over all frames.
            both_ways, spool_bytes: See `propagate`. State is saved outside the frames that are gone
                back over.
            out: Folder for the folders of videos.
            formats: Of "png" and "rle".
            overlay: Whether to write `overlay.mp4`.
            refine: Refines the mask of each frame that has no reference; refined masks go beside
                the others, into `refined/`.
            overwrite: Whether to replace a finished run, and begin an unfinished one anew.
            name: Of the video's folder, in place of its own name.
            keep_finished: Whether to leave a finished run of the same settings as it is, in place
                of an error.
            save_every_s: Seconds between two saved states; 0 saves after every frame. Above 0 they
                take 2 % of the time at most.
            progress: Called after each frame with the frames done and about how many there are; of
                a run that goes on, for the frames done before as well.
            clock: Adds up the seconds of each stage.

        Raises:
            VideoError, MaskError, OutputError: See there; frames so far are kept, and
                `incomplete.json` stands where `result.json` would.
        """
        if save_every_s < 0:
            raise ValueError(f"save_every_s: 0 or more, not {save_every_s}")
        started = time.monotonic()
        clock = clock or StageClock()
        session = self.session()
        options = source_options or SourceOptions()
        frame_range = options.frame_range
        given = _as_masks(references)
        plan = self._plan(source, given, options, max_frames, both_ways, spool_bytes)
        masks, blocks = plan.masks, plan.blocks
        with plan.opening() as frames:
            info = frames.info
            total = _at_most(info.frame_count, max_frames)
            is_exact = info.decoder == "images" and frame_range is None
            exact = info.frame_count if is_exact else None
            _check_within(masks, _at_most(exact, max_frames))
            for mask in masks.values():
                check_size(mask, info.height, info.width)
            settings = self._settings(source, given, blocks, max_frames)
            if frame_range is not None:
                settings["frame_range"] = frame_range.to_json()
            if refine is not None:
                settings["refiner"] = refine.settings
            path = Path(out) / (name or info.name)
            if keep_finished and not overwrite:
                report = find_finished(path, settings, formats, overlay)
                if report is not None:
                    return _summary_of(path, report)
            # Frames that are gone back over are read a second time, beside their results.
            twice = plan.opening() if blocks else nullcontext(frames)
            with (
                twice as beside,
                RunFolder(
                    path,
                    settings,
                    formats=formats,
                    overlay=overlay,
                    refined=refine is not None,
                    fps=info.fps,
                    overwrite=overwrite,
                    made_by=None if "started" in settings else self._made_by(),
                ) as folder,
            ):
                done = folder.done
                if folder.session is not None:
                    load_session(session, folder.session, self.backbone.device, path)
                    clock.seconds.update(folder.stage_s)
                    started -= folder.seconds
                for number, frame in enumerate(self._again(beside, done, clock), 1):
                    folder.rewrite(frame)
                    if progress is not None:
                        progress(number, total)
                if beside is not frames:
                    deque(self._again(frames, done, clock), maxlen=0)
                results = self._results(
                    session, frames, beside, masks, blocks, done, batch_size, max_frames, clock
                )
                saves = Saves(save_every_s, SAVE_SHARE)
                # Closed at once when writing fails: its thread reads from the source.
                with closing(results):
                    for frame, result, refined in _refined(results, refine, masks, clock):
                        with clock("write"):
                            folder.write(frame, result, refined)
                        done += 1
                        if saves.is_due() and self._may_save(folder, done, blocks, batch_size):
                            with saves, clock("write"):
                                spent = time.monotonic() - started
                                folder.save(dump_session(session), frame, spent, clock.seconds)
                        if progress is not None:
                            progress(done, total)
                seconds = time.monotonic() - started
                timing = {"seconds": round(seconds, 3), **clock.rounded()}
                if folder.resumed_at:
                    folder.report(timing={**timing, "resumed_at": folder.resumed_at})
                else:
                    folder.report(timing=timing)
                if frames.info.gaps:
                    folder.report(gaps=[asdict(gap) for gap in frames.info.gaps])
                folder.report(
                    decoder=frames.info.decoder,
                    object_ids=list(session.object_ids),
                    device=str(self.backbone.device),
                    versions=versions(),
                )
        return RunSummary(
            folder.path,
            done,
            session.object_ids,
            seconds,
            dict(clock.seconds),
            tuple(folder.written),
            folder.resumed_at,
        )

    def follow(
        self,
        session: Session,
        frames: Iterable[Frame],
        references: References,
        *,
        first: int = 0,
        batch_size: int | None = None,
        max_frames: int | None = None,
        clock: StageClock | None = None,
    ) -> Generator[tuple[Frame, Result], None, None]:
        """Do what `propagate` does in a session of the caller's; yield each frame with its result.

        Args:
            session: A new one, or one that a saved state was loaded into.
            frames: In order; they are read, and their features computed, ahead.
            first: How many frames of the video the session has seen; references and `max_frames`
                count from its first frame.
            references, batch_size, max_frames: See `propagate`.
            clock: Adds up the seconds of each stage.
        """
        clock = clock or StageClock()
        masks = _as_masks(references)
        count = first
        left = None if max_frames is None else max_frames - first
        with closing(self._read(frames, batch_size, left, clock)) as read:
            for frame, features in read:
                with clock("match"):
                    size = frame.image.shape[:2]
                    result = session.advance(size, features, masks.get(count), frame.time_s)
                count += 1
                yield frame, result
        _check_within(masks, count)

    def _results(
        self,
        session: Session,
        frames: Iterable[Frame],
        beside: FrameSource,
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        first: int,
        batch_size: int | None,
        max_frames: int | None,
        clock: StageClock,
    ) -> Generator[tuple[Frame, Result], None, None]:
        """Give each frame with its result from the `first` on, going back over the blocks if any.

        `beside` gives the frames once more then: none is kept for its result.
        """
        if blocks:
            results = self._follow_both_ways(
                session, frames, masks, blocks, batch_size, max_frames, clock, first
            )
            return _beside_frames(results, beside, clock)
        return self.follow(
            session,
            frames,
            masks,
            first=first,
            batch_size=batch_size,
            max_frames=max_frames,
            clock=clock,
        )

    def _follow_both_ways(
        self,
        session: Session,
        frames: Iterable[Frame],
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        batch_size: int | None,
        max_frames: int | None,
        clock: StageClock,
        first: int = 0,
    ) -> Generator[Result, None, None]:
        """Do what `follow` does, and go back over the blocks; no frame is kept for its result.

        `first` lies in no block. The rest is followed as a video of its own, with the references
        before it on frames below 0.
        """
        masks_of_rest = {index - first: mask for index, mask in masks.items()}
        blocks_of_rest = [
            replace(block, start=block.start - first, end=block.end - first)
            for block in blocks
            if block.start >= first
        ]
        count = first
        left = None if max_frames is None else max_frames - first
        with (
            closing(self._read(frames, batch_size, left, clock)) as read,
            closing(
                follow_both_ways(session, read, masks_of_rest, blocks_of_rest, clock)
            ) as results,
        ):
            for result in results:
                yield replace(result, index=count)
                count += 1
        _check_within(masks, count)

    def _read(
        self,
        frames: Iterable[Frame],
        batch_size: int | None,
        max_frames: int | None,
        clock: StageClock,
    ) -> Generator[tuple[Frame, torch.Tensor], None, None]:
        """Give each frame with its features (C, h, w), computed in batches, read ahead."""
        return with_features(
            islice(frames, max_frames),
            self.backbone,
            self.config,
            batch_size=batch_size,
            clock=clock,
        )

    def _again(
        self, frames: Iterable[Frame], count: int, clock: StageClock
    ) -> Generator[Frame, None, None]:
        """Read the frames that an interrupted run has done, with the deadline of all reading."""
        before = islice(frames, count)
        read = batch_frames(before, self.backbone, self.config, batch_size=1, clock=clock)
        read_count = 0
        with closing(read):
            for (frame,) in read:
                read_count += 1
                yield frame
        if read_count < count:
            raise VideoError(
                f"frame {read_count} was there before this run was interrupted, and is gone; "
                "pass --overwrite to begin anew"
            )

    def _may_save(
        self, folder: RunFolder, done: int, blocks: Sequence[Block], batch_size: int | None
    ) -> bool:
        """Whether a run that goes on from here, after so many frames, gives the same masks."""
        if not folder.can_save or any(block.start < done <= block.end for block in blocks):
            return False  # a session has seen all of a block before its first result
        # On a GPU, features of a frame in a batch of another size agree to rounding only.
        return self.backbone.device.type == "cpu" or done % (batch_size or MOST_FRAMES) == 0

    def _made_by(self) -> dict[str, str]:
        """What must be the same for a run to go on."""
        return {**versions(), "device": str(self.backbone.device)}

    def _plan(
        self,
        source: Source,
        references: Mapping[int, Mask],
        options: SourceOptions,
        max_frames: int | None,
        both_ways: bool,
        spool_bytes: int,
    ) -> "_Plan":
        """Settle what has to be known before the first frame is followed."""
        opening = partial(open_source, source, options)
        masks = dict(references)
        if options.frame_range is not None:
            live = is_live(source)
            masks = _in_range(masks, options.frame_range, opening, live, max_frames)
        backwards = both_ways and options.follow_timeout_s is None and not is_live(source)
        blocks = self._blocks(masks, spool_bytes) if backwards else []
        return _Plan(opening, masks, blocks)

    def _blocks(self, masks: Mapping[int, Mask], spool_bytes: int) -> list[Block]:
        """Choose the frames to go back over."""
        if spool_bytes < 1:
            raise ValueError(f"spool_bytes: more than 0, not {spool_bytes}")
        height, width = next(iter(masks.values())).ids.shape
        rows, columns = working_size(height, width, self.config, self.backbone.multiple)
        grid = rows // self.backbone.stride, columns // self.backbone.stride
        named = {index: mask.object_ids for index, mask in masks.items()}
        objects = len(set().union(*named.values()))
        channels = channel_count(self.backbone, self.config)
        per_cell = self.config.matcher.labels_per_cell
        per_frame = frame_bytes(channels, grid, objects, per_cell)
        return plan_blocks(named, max(1, spool_bytes // per_frame))

    def _settings(
        self,
        source: Source,
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        max_frames: int | None,
    ) -> dict[str, Any]:
        """Everything that decides the masks of a run, as plain values."""
        live = is_live(source)
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


def _summary_of(path: Path, report: Mapping[str, Any]) -> RunSummary:
    """What is said of a run that was finished before."""
    timing = report["timing"]
    return RunSummary(
        path,
        report["frames"],
        tuple(report["object_ids"]),
        timing["seconds"],
        {stage: timing[f"{stage}_s"] for stage in STAGES},
        (),
        tuple(timing.get("resumed_at", ())),
        was_finished=True,
    )


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


def _without_frames(
    followed: Generator[tuple[Frame, Result], None, None],
) -> Generator[Result, None, None]:
    with closing(followed):
        for _, result in followed:
            yield result


def _in_range(
    masks: Mapping[int, Mask],
    frame_range: FrameRange,
    opening: Callable[[], FrameSource],
    live: bool,
    max_frames: int | None,
) -> dict[int, Mask]:
    """Number references by their place among the frames of a range, as a session counts them.

    The source is read up to the last of them, and once more later; one that is live cannot be.
    """
    if not live:
        with opening() as frames:
            places = places_of(masks, islice(frames, max_frames))
        return {places[index]: mask for index, mask in masks.items()}
    if masks.keys() != {0} or frame_range.start or frame_range.start_s:
        raise MaskError(
            "a live source is read only once: with a range, give the mask of its first frame, and "
            "begin with that"
        )
    return dict(masks)


def _noting(frames: Iterable[Frame], indices: deque[int]) -> Iterator[Frame]:
    """Pass frames on, and keep their indices for the results."""
    for frame in frames:
        indices.append(frame.index)
        yield frame


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
