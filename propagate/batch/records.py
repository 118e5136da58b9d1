"""What a batch and its workers say to each other: tasks one way, events the other."""

from dataclasses import dataclass

from propagate.batch.manifest import BatchVideo
from propagate.config import SHORT_SIDE_PX, TEMPLATE
from propagate.io.decode.options import SourceOptions

# What crashes or hangs a decoder costs one video.
ISOLATED = SourceOptions(isolate=True)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How every video of a batch is run, unless it says otherwise itself.

    Attributes:
        model, device, dtype: See `Propagator`. With several GPUs, "auto" and "cuda" give each
            worker one in turn.
        recipe, template, short_side_px: See `Config`.
        matcher: A key of `MATCHERS`.
        refine: What `load_refiner` takes.
        source_options: How videos are opened: decoded in a process of their own.
        formats, overlay, batch_size, max_frames, both_ways, save_every_s: See `Propagator.run`.
    """

    model: str = "tiny"
    device: str = "auto"
    dtype: str = "auto"
    recipe: str | None = None
    template: str = TEMPLATE
    short_side_px: int = SHORT_SIDE_PX
    matcher: str = "default"
    refine: str | None = None
    source_options: SourceOptions = ISOLATED
    formats: tuple[str, ...] = ("png",)
    overlay: bool = False
    batch_size: int | None = None
    max_frames: int | None = None
    both_ways: bool = True
    save_every_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """One video for a worker.

    Attributes:
        number: Of the video in the batch, from 0.
        video: What to run.
        overwrite: Whether to begin anew whatever is there.
    """

    number: int
    video: BatchVideo
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has its model, and begins a video."""

    worker: int
    number: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """A worker is alive, and so far; `total` is what the container claims, if it does."""

    worker: int
    number: int
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A video is done; or was, before this batch, with the same settings.

    Attributes:
        seconds: What its frames took, of all sittings together.
        resumed_at: The frames at which it went on after an interruption.
    """

    worker: int
    number: int
    frames: int
    objects: int
    seconds: float
    resumed_at: tuple[int, ...]
    was_finished: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A video cannot be done, as far as this worker can tell.

    Attributes:
        reason: One line.
        trace: Where in the program, for what is no `PropagateError`.
    """

    worker: int
    number: int
    reason: str
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with whatever it was doing."""

    worker: int
    reason: str


Event = Started | Advanced | Finished | Failed | Lost
