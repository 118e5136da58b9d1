"""Batches of frames of one size for a backbone, decoded ahead by one thread.

A second thread computes the features of coming frames. On a CPU this keeps all cores busy while one
of the threads does work that runs on a single core.
"""

from collections.abc import Generator, Iterable

import torch

from propagate.config import Config
from propagate.features.backbone import Backbone
from propagate.features.batch_size import choose_batch_size
from propagate.features.extract import extract_features, working_size
from propagate.io.decode.prefetch import Prefetcher
from propagate.records import Frame
from propagate.stage_clock import StageClock

# Limit of frames decoded ahead. The decoder limits its own reading ahead separately.
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
        backbone: Decides which sizes fit and how many frames fit at once.
        config: Decides the working size.
        batch_size: Frames per batch; None: as many as fit into the device's memory, on a CPU 1.
        clock: Counts the time of the stage "decode".

    Raises:
        VideoError: Raised by the source; the frames before it are yielded first. The source
            sets deadlines, because only it can tell skipping frames from being stuck.
        ValueError: The batch size is below 1.
    """
    with Prefetcher(frames, bytes_limit=PREFETCH_BYTES) as decoded:
        yield from _grouped(decoded, backbone, config, batch_size, clock or StageClock())


def with_features(
    frames: Iterable[Frame],
    backbone: Backbone,
    config: Config,
    *,
    batch_size: int | None = None,
    clock: StageClock | None = None,
) -> Generator[tuple[Frame, torch.Tensor], None, None]:
    """Yield each frame with its features (C, h, w), while those of the next are computed.

    Args:
        frames, backbone, config, batch_size: See `batch_frames`.
        clock: Counts the time of the stages "decode" and "features". They run beside the caller, so
            their times overlap with the times of the caller's stages.

    Raises:
        VideoError, ValueError: See `batch_frames`.
        DeviceError: A frame does not fit into the device's memory; those before are yielded first.
    """
    own = StageClock()
    decoded = Prefetcher(frames, bytes_limit=PREFETCH_BYTES)
    extracted = _extracted(decoded, backbone, config, batch_size, own)
    # With a limit of one byte, exactly one item is computed ahead, whatever its size.
    ahead = Prefetcher(extracted, bytes_limit=1, size_of=lambda item: item[1].nbytes)
    # The decoder stops first, because the other thread may be waiting for a frame.
    with ahead, decoded:
        for frame, features in ahead:
            if clock is not None:
                clock.add(own)
            yield frame, features


def _extracted(
    decoded: Prefetcher[Frame],
    backbone: Backbone,
    config: Config,
    batch_size: int | None,
    clock: StageClock,
) -> Generator[tuple[Frame, torch.Tensor], None, None]:
    for batch in _grouped(decoded, backbone, config, batch_size, clock):
        with clock("features"):
            features = extract_features(backbone, config, batch)
        yield from zip(batch, features, strict=True)


def _grouped(
    decoded: Prefetcher[Frame],
    backbone: Backbone,
    config: Config,
    batch_size: int | None,
    clock: StageClock,
) -> Generator[list[Frame], None, None]:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    batch: list[Frame] = []
    failure: Exception | None = None
    while True:
        try:
            with clock("decode"):
                frame = next(decoded, None)
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
