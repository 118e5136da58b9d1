"""The commands `propagate batch` and `propagate status`."""

import os
import sys
import time
from contextlib import nullcontext, redirect_stdout
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from propagate.cli.event_log import event_log
from propagate.cli.options import (
    BatchModelChoice,
    DecoderName,
    Decoding,
    LogJson,
    MaxPixels,
    OnDamage,
    OnDamageName,
    OutputChoice,
    ReferenceChoice,
    spread,
)
from propagate.cli.terminal import CONTINUE, error_text, if_interrupted, say, show
from propagate.errors import OutputError, counted, hide_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagate.batch.schedule import MakeEngine
    from propagate.batch.status import VideoStatus

# Seconds between two lines about progress.
LINE_EVERY_S = 10.0
# A longer table shows only failed and running videos.
MOST_ROWS = 60


class EngineName(StrEnum):
    """Where workers run."""

    local = "local"
    ray = "ray"


@spread
def batch(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST",
            help="A .csv, .tsv or .jsonl file with the columns video, mask, references, names, "
            "folder, max_frames, matcher, overlay, start, end, stride, fps, on_damage; or a folder "
            "with videos/ and masks/.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o", "--out", help="Folder for the results, or a URL such as s3://bucket/folder."
        ),
    ],
    *,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--jobs",
            min=1,
            help="Worker processes, each with the model. [1; with ray, one for each GPU or, if "
            "there is none, each machine]",
        ),
    ] = None,
    retry: Annotated[
        int, typer.Option(min=0, help="How often a video that failed is tried again.")
    ] = 1,
    stall: Annotated[
        float,
        typer.Option(
            metavar="MINUTES",
            help="Kill a worker that shows no sign of life for this long. Slow frames are no "
            "reason: each forward of the U-Net is a sign of life.",
        ),
    ] = 10.0,
    workers: Annotated[
        EngineName,
        typer.Option("--engine", help="Where workers run: this machine, or a Ray cluster."),
    ] = EngineName.local,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Head of the Ray cluster, or auto for that of this machine. [RAY_ADDRESS; else "
            "one is started here]",
        ),
    ] = None,
    log_json: LogJson = None,
    save_every: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Between two saved states of a video."),
    ] = 30.0,
    model: BatchModelChoice,
    output: OutputChoice,
    decoder: Decoding = DecoderName.auto,
    isolate: Annotated[
        bool,
        typer.Option(
            help="Decode in a separate process, so that a crash or a hang costs one video only."
        ),
    ] = True,
    max_pixels: MaxPixels = None,
    on_damage: OnDamage = OnDamageName.stop,
    mask_reading: ReferenceChoice,
) -> None:
    """Follow objects through many videos, each into OUT/<name>/.

    Give the same command again to continue after an interruption: finished videos are skipped, the
    others continue from their last saved state. OUT/summary.jsonl is written at the end. The exit
    status is 1 if a video failed.

    Example: propagate batch clips.csv -o out --jobs 4
    """
    if stall <= 0:
        raise typer.BadParameter("more than 0", param_hint="--stall")
    if address is not None and workers is not EngineName.ray:
        raise typer.BadParameter("with --engine ray only", param_hint="--address")

    if out.startswith("memory://"):
        raise OutputError(
            f"{out}: lasts only as long as one process, and every worker is another",
            "give a folder, or an address such as s3://bucket/folder",
        )

    from propagate.batch.manifest import read_manifest
    from propagate.batch.schedule import run_batch
    from propagate.batch.tasks import BatchSettings
    from propagate.io.decode.options import SourceOptions
    from propagate.io.decode.pixel_limit import MAX_PIXELS

    source_options = SourceOptions(
        decoder=decoder.value,
        isolate=isolate,
        max_pixels=max_pixels or MAX_PIXELS,
        on_damage=on_damage.value,
    )
    settings = BatchSettings(
        model=model.model,
        device=model.device,
        dtype=model.dtype.value,
        engine=model.engine.value,
        recipe=model.recipe,
        template=model.template,
        short_side_px=model.short_side,
        matcher=model.matcher.value,
        refine=output.refine,
        masks=mask_reading.reading(source_options.max_pixels),
        run=output.run_options(source_options, save_every_s=save_every),
    )
    videos = read_manifest(manifest)
    lines = _Lines(len(videos))
    # Ray prints messages about lost machines; stdout is for results.
    aside = redirect_stdout(sys.stderr) if workers is EngineName.ray else nullcontext()
    with event_log(log_json) as log, aside, if_interrupted(CONTINUE):

        def on_event(event: dict[str, Any]) -> None:
            log(event)
            lines.show(event)

        summary = run_batch(
            videos,
            out,
            settings,
            jobs=jobs,
            retry=retry,
            stall_s=60 * stall,
            overwrite=output.overwrite,
            engine=_engine_of(workers, address),
            on_event=on_event,
        )
    _show_table(summary.videos)
    counts = {state: 0 for state in ("done", "skipped", "failed")}
    for video in summary.videos:
        counts[video.state] += 1
    print(
        f"{hide_secrets(out)}: {', '.join(f'{count} {state}' for state, count in counts.items())}; "
        f"{summary.seconds:.1f} s; summary.jsonl"
    )
    if summary.failed:
        say(f"error: {len(summary.failed)} of {counted(len(videos), 'video')} failed, see above")
        raise typer.Exit(1)


def status(
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="The output folder or URL of the batch.")
    ],
) -> None:
    """Show how far a batch is, from its folder alone.

    If a batch writes to a URL, ask on the machine that runs it.

    Example: propagate status out
    """
    from propagate.batch.remote import scratch_of
    from propagate.batch.status import read_status

    found = read_status(scratch_of(out))
    videos = found.videos
    running = found.owner is not None
    _show_table(videos, running=running)
    states = ("done", "skipped", "running", "waiting", "failed")
    counts = ", ".join(f"{found.count(s)} {s}" for s in states if found.count(s))
    facts = [counts]
    if running:
        speed = sum(video.fps or 0.0 for video in videos if video.state == "running")
        facts.append(f"{speed:.1f} frames/s")
    over = not found.count("running") and not found.count("waiting")
    by = f"run by {found.owner}" if running else "over" if over else "interrupted, run it again"
    print(f"{hide_secrets(out)}: {'; '.join([*facts, f'as of {_ago(found.age_s)}', by])}")


def _ago(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _engine_of(name: EngineName, address: str | None) -> "MakeEngine":
    if name is EngineName.local:
        from propagate.batch.local import LocalEngine

        return LocalEngine
    from propagate.batch.ray import RayEngine

    return partial(RayEngine, address=address or os.environ.get("RAY_ADDRESS") or None)


class _Lines:
    """Lines on stderr: the end of each video, and now and then the progress of the others."""

    def __init__(self, count: int) -> None:
        self._count, self._ended, self._failed = count, 0, 0
        self._running: dict[str, str] = {}
        self._last = time.monotonic()

    def show(self, event: dict[str, Any]) -> None:
        """Show an event of a batch."""
        video = event["video"]
        match event["event"]:
            case "advanced":
                total = f"/{event['total']}" if event["total"] else ""
                fps = f" at {event['fps']:.1f}/s" if event["fps"] else ""
                self._running[video] = f"{video} {event['done']}{total}{fps}"
            case "finished":
                self._end(video)
                continued = (
                    f", continued at {event['resumed_at'][-1]}" if event["resumed_at"] else ""
                )
                others = f" with {', '.join(event['made_with'])}" if event["made_with"] else ""
                how = f"was done before{others}" if event["was_finished"] else f"done{continued}"
                say(f"{self._so_far()}: {video}: {how}, {counted(event['frames'], 'frame')}")
                for note in event["notes"]:
                    say(note)
            case "failed" | "lost" if event["again"]:
                self._running.pop(video, None)
                say(f"{video}: {_reason_of(event)}; it will be tried again")
            case "failed" | "lost":
                self._failed += 1
                self._end(video)
                say(f"{self._so_far()}: {video}: failed: {_reason_of(event)}")
        if self._running and time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            say(f"{self._so_far()}: {'; '.join(self._running.values())}")

    def _end(self, video: str) -> None:
        self._running.pop(video, None)
        self._ended += 1

    def _so_far(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._ended} of {counted(self._count, 'video')}{failed}"


def _reason_of(event: dict[str, Any]) -> str:
    return error_text(event["reason"], event.get("hint", ""))


def _show_table(videos: "Sequence[VideoStatus]", running: bool = False) -> None:
    from rich.table import Table

    to_see = ("failed", "running")
    shown = [video for video in videos if len(videos) <= MOST_ROWS or video.state in to_see]
    if not shown:
        return
    table = Table("video", "state", "frames", "frames/s", "attempts", "reason", box=None)
    for video in shown:
        state = "interrupted" if video.state == "running" and not running else video.state
        frames = f"{video.done}/{video.total}" if video.total else str(video.done or "")
        fps = video.fps
        if video.frames and video.seconds:
            fps = video.frames / video.seconds
        table.add_row(
            video.folder,
            state,
            frames,
            f"{fps:.1f}" if fps else "",
            str(video.attempts or ""),
            ""
            if video.state in ("done", "skipped")
            else error_text(video.reason or "", video.hint),
        )
    show(table)
