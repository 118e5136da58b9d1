"""What a batch does: its settings, and one task for each video."""

from dataclasses import dataclass, field

from propagate.batch.manifest import BatchVideo
from propagate.config import SHORT_SIDE_PX, TEMPLATE
from propagate.io.decode.options import SourceOptions
from propagate.io.masks.reading import MaskReading
from propagate.matchers import MatcherName
from propagate.run_options import RunOptions


def _isolated() -> RunOptions:
    # A video that crashes or hangs its decoder costs that video only.
    return RunOptions(source_options=SourceOptions(isolate=True))


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How every video of a batch is run, unless its row says otherwise.

    Attributes:
        model, device, dtype, engine: See `Propagator`. With several GPUs, the devices "auto" and
            "cuda" give each worker one in turn.
        recipe, template, short_side_px: See `Config`.
        matcher: A key of `MATCHERS`.
        refine: What `load_refiner` takes.
        masks: How reference masks are read.
        run: How videos are read and what is written. By default each video is decoded in a process
            of its own.
    """

    model: str = "tiny"
    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"
    recipe: str | None = None
    template: str = TEMPLATE
    short_side_px: int = SHORT_SIDE_PX
    matcher: MatcherName = "default"
    refine: str | None = None
    masks: MaskReading = field(default_factory=MaskReading)
    run: RunOptions = field(default_factory=_isolated)


@dataclass(frozen=True, slots=True)
class Task:
    """One video for a worker.

    Attributes:
        number: Of the video in the batch, from 0.
        video: What to run.
        overwrite: Whether to start again, whatever is there.
    """

    number: int
    video: BatchVideo
    overwrite: bool
