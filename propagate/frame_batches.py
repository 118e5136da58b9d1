"""Frames in batches for a backbone: decoded ahead by one thread, all of one size in a batch."""

from collections.abc import Generator, Iterable

from propagate.config import Config
from propagate.features import Backbone
from propagate.features.batches import choose_batch_size
from propagate.features.frames import working_size
from propagate.io.prefetch import Prefetcher
from propagate.records import Frame
from propagate.stage_clock import StageClock

# Frames decoded while the one before is matched. Their decoder bounds its own reading ahead.
PREFETCH_BYTES = 64 * 2**20


def batch_frames(
    frames: Iterable[Frame],
    backbone: Backbone,
    config: Config,
    *,
    batch_size: int | None = None,
    clock: StageClock | None = None,
) -> Generator[list[Frame], None, None]:
    """Group frames of one size for the backbone.

    Args:
        frames: In order.
        backbone: For whom.
        config: The working size of frames.
        batch_size: Frames at once; None: as many as fit into the device's memory, on a CPU 1.
        clock: Counts the time of the stage "decode".

    Raises:
        VideoError: What the source raises, after the frames before. The deadline is its own: it
            alone can tell skipping frames from being stuck.
        ValueError: The batch size is none.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: at least 1, not {batch_size}")
    clock = clock or StageClock()
    batch: list[Frame] = []
    failure: Exception | None = None
    with Prefetcher(frames, bytes_limit=PREFETCH_BYTES) as ahead:
        while True:
            try:
                with clock("decode"):
                    frame = next(ahead, None)
            except Exception as error:
                failure = error
                break
            if frame is None:
                break
            if batch and frame.image.shape != batch[0].image.shape:
                yield batch
                batch = []
            if batch_size is None:
                height, width = frame.image.shape[:2]
                size = working_size(height, width, config, backbone.multiple)
                batch_size = choose_batch_size(backbone, size)
            batch.append(frame)
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch
        if failure is not None:
            raise failure
