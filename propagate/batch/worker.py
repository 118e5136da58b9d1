"""A worker of a batch: a model that stays loaded, and one video after the other."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propagate.batch.events import Event, EventHandler, reporting_failures, run_reporting
from propagate.batch.manifest import BatchVideo
from propagate.batch.remote import is_url, run_and_upload
from propagate.batch.tasks import BatchSettings, Task

if TYPE_CHECKING:
    from propagate.io.masks.reading import MaskReading
    from propagate.pipeline import Propagator
    from propagate.records import Mask, Progress
    from propagate.refine.refiner import Refiner
    from propagate.run_options import RunOptions
    from propagate.run_summary import RunSummary


class Stopped(BaseException):
    """The batch ends: the worker finishes its files and ends too."""


class Runner:
    """Runs tasks in this process and reports events. An engine brings it the tasks."""

    def __init__(
        self,
        settings: BatchSettings,
        out: Path | str,
        worker: int,
        threads: int | None,
        check: Callable[[], None] | None = None,
        workers: int = 1,
    ) -> None:
        """Take what all tasks share. The model is loaded with the first task.

        Args:
            settings: Of the batch.
            out: Its folder, or a URL.
            worker: The number of this worker.
            threads: How many to compute with; None: as many as PyTorch takes.
            check: See `run_reporting`.
            workers: How many there are on this machine; those on one GPU divide its memory.
        """
        self._settings, self._out = settings, out
        self._worker, self._threads, self._check = worker, threads, check
        self._workers = workers
        self._key: tuple[Any, ...] | None = None
        self._propagator: Propagator | None = None
        self._refiner: Refiner | None = None

    def run(self, task: Task, on_event: EventHandler) -> None:
        """Run a video. A failure is an event, not an exception."""
        worker, number, video = self._worker, task.number, task.video
        options = _options_of(video, self._settings.run)
        with suppress(Exception), reporting_failures(worker, number, on_event):
            run = partial(
                self._loaded(video).run,
                str(video.video),
                _references(video, self._settings.masks),
                options=options,
                refine=self._refiner,
                name=video.folder,
                keep_finished=True,
            )
            into = partial(self._run_into, run, task)
            run_reporting(into, worker, number, on_event, self._check)

    def _run_into(
        self, run: Callable[..., "RunSummary"], task: Task, *, progress: "Progress"
    ) -> "RunSummary":
        """Run into the folder of the batch; for a URL, run into a local folder and upload."""
        run = partial(run, progress=progress)
        if not is_url(self._out):
            return run(out=self._out, overwrite=task.overwrite)
        key = (self._settings, task.video)
        folder = task.video.folder
        return run_and_upload(run, self._out, folder, key, task.overwrite)

    def _loaded(self, video: BatchVideo) -> "Propagator":
        """Load the model for a video, or keep that of the last video if it fits."""
        from propagate.config import Config

        settings = self._settings
        matcher = video.options.get("matcher", settings.matcher)
        key = (matcher, tuple(sorted(video.names.items())))
        if self._propagator is not None and key == self._key:
            return self._propagator
        config = Config.named(
            matcher,
            short_side_px=settings.short_side_px,
            recipe=settings.recipe,
            class_names=dict(video.names),
            template=settings.template,
        )

        import torch

        from propagate.features.batch_size import most_pixels, remember_batch, share_memory
        from propagate.features.device import choose_device
        from propagate.pipeline import Propagator
        from propagate.refine.refiner import load_refiner

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        device, sharing = device_of(
            settings.device, self._worker, self._workers, torch.cuda.device_count()
        )
        share_memory(choose_device(device), sharing)
        # Two models at once might not fit into the memory.
        before, self._propagator = self._propagator, None
        remembered = None if before is None else most_pixels(before.backbone)
        del before
        propagator = Propagator(
            settings.model,
            device=device,
            dtype=settings.dtype,
            engine=settings.engine,
            config=config,
        )
        if remembered is not None:
            remember_batch(propagator.backbone, remembered, (1, 1))
        if settings.refine is not None and self._refiner is None:
            self._refiner = load_refiner(settings.refine, device=device, dtype=settings.dtype)
        self._propagator, self._key = propagator, key
        return propagator


def device_of(name: str, worker: int, workers: int, gpus: int) -> tuple[str, int]:
    """Choose the device of a worker, and count the workers that share it.

    Args:
        name: The device that was asked for. "auto" and "cuda" give each worker a GPU in turn.
        worker: Its number.
        workers: How many there are.
        gpus: How many GPUs there are.
    """
    if name in ("auto", "cuda") and gpus > 1:
        return f"cuda:{worker % gpus}", len(range(worker % gpus, workers, gpus))
    return name, workers


def _options_of(video: BatchVideo, options: "RunOptions") -> "RunOptions":
    """Replace what the row of a video says."""
    row = dict(video.options)
    row.pop("matcher", None)
    source_options = replace(options.source_options, frame_range=row.pop("frame_range", None))
    if "on_damage" in row:
        source_options = replace(source_options, on_damage=row.pop("on_damage"))
    return replace(options, source_options=source_options, **row)


def _references(video: BatchVideo, reading: "MaskReading") -> "dict[int, Mask]":
    from propagate.io.masks.references import add_references, read_references

    given = {}
    if video.mask is not None:
        given = read_references(video.mask, source=video.video, reading=reading)
    entries = [f"{frame}={path}" for frame, path in video.references.items()]
    return add_references([given], entries, source=video.video, reading=reading)[0]


def work(
    connection: Connection,
    settings: BatchSettings,
    out: Path | str,
    worker: int,
    threads: int | None,
    workers: int = 1,
) -> None:
    """Be a worker process: tasks come and events go through a pipe."""
    # Ctrl-C reaches all processes of a terminal. The batch decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop.ask)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if threads is not None:
        # PyTorch reads this when it is imported, which has not happened yet.
        os.environ["OMP_NUM_THREADS"] = str(threads)
    runner = Runner(settings, out, worker, threads, stop.check, workers)
    turn = threading.Lock()

    def send(event: Event) -> None:
        # Signs of life come from several threads, and a pipe takes one message at a time.
        with turn:
            connection.send(event)

    try:
        while (task := stop.wait_for(connection)) is not None:
            runner.run(task, send)
    except (Stopped, EOFError, OSError):
        pass


class _Stop:
    """Lets SIGTERM end a worker between two stages of a frame, or while it waits for a task.

    An exception raised in the signal handler could come between any two steps, even between taking
    a lock and the `with` that releases it.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._waits = False

    def ask(self, number: int, _frame: object) -> None:
        """Handle the signal."""
        self._reason = f"stopped by {signal.Signals(number).name}"
        if self._waits:
            self.check()

    def check(self) -> None:
        """Raise `Stopped` if the signal has come."""
        if self._reason is not None:
            raise Stopped(self._reason)

    def wait_for(self, connection: Connection) -> Task | None:
        """Receive a task; the signal ends the waiting."""
        self._waits = True
        self.check()
        task = connection.recv()
        self._waits = False
        return task


def _end_with_parent() -> None:
    """End at once when the batch was killed: the next batch needs the folders."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
