"""The program at a glance: decode -> features -> match -> remember -> write.

    decode      `io.decode`    frames in order, read ahead by one thread
    features    `features`     the U-Net's features, in batches, computed ahead by a second thread
    match       `matching`     the labels of a frame, from the remembered frames
    remember    `memory`       the reference frames, and a bounded number of others
    write       `run`          masks as they come, the report last

`Session` matches and remembers, one frame at a time; a video is a loop over its frames. `propagate`
yields the masks, and `run` also writes them.
"""

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch

from propagate.config import Config
from propagate.features.backbone import Backbone
from propagate.features.extract import Image, numbered_frames
from propagate.features.read_ahead import with_features
from propagate.features.registry import as_backbone
from propagate.io.decode.frame_range import first_in_range, note_indices
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import Source
from propagate.plan import References, as_masks, check_within, plan_source
from propagate.prompts.prompter import TakesPrompts
from propagate.records import Frame, Mask, OnResult, Progress, Result
from propagate.run_options import FEATURE_CACHE_BYTES, Backwards, RunOptions
from propagate.session import Session
from propagate.stage_clock import StageClock
from propagate.two_way import Block, OnPass, follow_both_ways

if TYPE_CHECKING:
    from propagate.refine.refiner import Refiner
    from propagate.run_summary import RunSummary


class Propagator(TakesPrompts):
    """A loaded model and settings. Follows objects through any number of videos."""

    def __init__(
        self,
        model: str | Backbone = "tiny",
        *,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        compile: bool = False,
        config: Config | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A key of `PRESETS`, a folder in diffusers layout, a hub id, or a backbone that is
                loaded already, which keeps its own device, precision and recipe.
            device: "auto", "cpu", "cuda", "cuda:1".
            dtype: Precision of the U-Net: "auto", "float32", "bfloat16", "float16".
            engine: What runs the U-Net: "auto", "torch", "openvino". See `choose_engine`.
            compile: Compile the U-Net's blocks: slower first frames, faster later ones.
            config: Which features are read, and how they are matched. None: the default.

        Raises:
            ModelError, DeviceError, ValueError, TypeError: See `as_backbone`.
        """
        super().__init__()
        self.dtype, self.config = dtype, config or Config()
        self.backbone = as_backbone(
            model,
            device=device,
            dtype=dtype,
            engine=engine,
            compile=compile,
            config=self.config,
        )
        self.model = model if isinstance(model, str) else self.backbone.name

    def session(self, *, probabilities: bool = False) -> Session:
        """Start a video: feed it frames with `step`. See `propagate` for `probabilities`."""
        return Session(self.backbone, self.config, probabilities)

    def propagate(
        self,
        source: Source | Iterable[Image],
        references: References,
        *,
        source_options: SourceOptions | None = None,
        batch_size: int | None = None,
        max_frames: int | None = None,
        probabilities: bool = False,
        backwards: Backwards = "all",
        feature_cache_bytes: int = FEATURE_CACHE_BYTES,
    ) -> Generator[Result, None, None]:
        """Follow the objects of the references through a video, frame by frame.

        Args:
            source: A video file, a folder of images, a camera index or stream address, or frames:
                a `Frame` each, or any other picture that `Session.step` takes.
            references: Frame index -> mask. Indices are those of the source, whatever the range.
            source_options: How the source is opened, and which of its frames are read.
            probabilities: Whether each result carries the soft label of every object.
            batch_size, max_frames, backwards, feature_cache_bytes: See `RunOptions`. Live sources,
                growing folders and plain frames are followed forwards only.

        Yields:
            One `Result` per frame, in order, as soon as its batch is done. Frames before a later
            reference are also followed backwards; their results come once that reference is read.

        Raises:
            VideoError: The source cannot be opened; or, after all earlier frames, breaks off.
            MaskError: A reference has another size, lies past the end or outside the range.
            OutputError: There is no room for temporary files.
            ValueError: Source options were given with plain frames.
        """
        options = RunOptions(
            source_options=source_options or SourceOptions(),
            batch_size=batch_size,
            max_frames=max_frames,
            backwards=backwards,
            feature_cache_bytes=feature_cache_bytes,
        )
        masks: Mapping[int, Mask] = as_masks(references)
        blocks: Sequence[Block] = ()
        opened: AbstractContextManager[Iterable[Frame]]
        if isinstance(source, (str, PathLike, int)):
            plan = plan_source(source, references, options, self.backbone, self.config)
            opened, masks, blocks = plan.open(), plan.masks, plan.blocks
        elif source_options is not None:
            raise ValueError("source_options apply to a path, a camera or a stream, not to frames")
        else:
            opened = nullcontext(numbered_frames(source))
        return self._results(opened, masks, blocks, options, probabilities)

    def _results(
        self,
        opened: AbstractContextManager[Iterable[Frame]],
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        options: RunOptions,
        probabilities: bool,
    ) -> Generator[Result, None, None]:
        session = self.session(probabilities=probabilities)
        read: deque[tuple[int, bool]] = deque()  # frames whose results come later
        leaves_out = options.source_options.may_leave_out
        with opened as frames:
            if leaves_out:
                frames = note_indices(frames, read)
            frames = first_in_range(frames, options.max_frames)
            results = self.follow_blocks(session, frames, masks, blocks, 0, options.batch_size)
            with closing(results):
                for result in results:
                    index, in_range = read.popleft() if leaves_out else (result.index, True)
                    if in_range:
                        yield replace(result, index=index)

    def run(
        self,
        source: Source,
        references: References,
        out: str | PathLike[str],
        options: RunOptions | None = None,
        *,
        refine: "Refiner | None" = None,
        name: str | None = None,
        keep_finished: bool = False,
        progress: Progress | None = None,
        clock: StageClock | None = None,
        on_result: OnResult | None = None,
        **changes: Any,
    ) -> "RunSummary":
        """Follow objects through a video and write `out/<name of the video>/`.

        See `run_into_folder`. Fields of `RunOptions` may be given as keywords: `overlay=True`.
        """
        from propagate.run import run_into_folder

        options = replace(options or RunOptions(), **changes)
        return run_into_folder(
            *(self, source, references, out, options, refine, name, keep_finished, progress),
            clock=clock,
            on_result=on_result,
        )

    def follow(
        self,
        session: Session,
        frames: Iterable[Frame],
        references: References,
        *,
        first: int = 0,
        batch_size: int | None = None,
        clock: StageClock | None = None,
    ) -> Generator[tuple[Frame, Result], None, None]:
        """Follow objects forwards in a given session; yield each frame with its result.

        Args:
            session: A new one, or one that a saved state was loaded into.
            frames: In order. They are read, and their features computed, ahead.
            references: Frame index -> mask; may be empty, if this is a part of a video.
            first: How many frames of the video the session has seen. References count from the
                video's first frame.
            batch_size: See `RunOptions`. `clock` measures each stage.
        """
        clock, count = clock or StageClock(), first
        masks = as_masks(references, of_part=True)
        with closing(self._read(frames, batch_size, clock)) as read:
            for frame, features in read:
                with clock("match"):
                    size = frame.image.shape[:2]
                    result = session.advance(size, features, masks.get(count), frame.time_s)
                count += 1
                yield frame, result
        check_within(masks, count)

    def follow_blocks(
        self,
        session: Session,
        frames: Iterable[Frame],
        masks: Mapping[int, Mask],
        blocks: Sequence[Block],
        first: int,
        batch_size: int | None,
        clock: StageClock | None = None,
        on_pass: OnPass = lambda frames, passed: None,
    ) -> Generator[Result, None, None]:
        """Follow objects like `follow`, and backwards in the blocks; yield results only.

        Frames are not kept until their results come. `first` must not lie inside a block. The
        frames from `first` on are numbered from 0, so earlier references have negative indices.
        `on_pass` is told of the work on a block, whose results come at its end.
        """
        clock = clock or StageClock()
        masks_of_rest = {index - first: mask for index, mask in masks.items()}
        blocks_of_rest = [block.moved(-first) for block in blocks if block.start >= first]
        count = first
        with closing(self._read(frames, batch_size, clock)) as read:
            results = follow_both_ways(session, read, masks_of_rest, blocks_of_rest, clock, on_pass)
            with closing(results):
                for result in results:
                    yield replace(result, index=count)
                    count += 1
        check_within(masks, count)

    def _read(
        self,
        frames: Iterable[Frame],
        batch_size: int | None,
        clock: StageClock,
    ) -> Generator[tuple[Frame, torch.Tensor], None, None]:
        """Yield each frame with its features (C, h, w), which are computed ahead in batches."""
        return with_features(frames, self.backbone, self.config, batch_size=batch_size, clock=clock)
