"""Everything that decides the masks of a run, as plain values for its report."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from propagate.features.origin import made_of
from propagate.io.decode.live import live_display_name
from propagate.io.decode.source import Source
from propagate.io.decode.video import is_live
from propagate.plan import Plan
from propagate.run_options import RunOptions

if TYPE_CHECKING:
    from propagate.pipeline import Propagator
    from propagate.refine.refiner import Refiner


def run_settings(
    propagator: "Propagator",
    source: Source,
    plan: Plan,
    options: RunOptions,
    refine: "Refiner | None",
) -> dict[str, Any]:
    """Give the settings of a run. Two runs with the same settings write the same masks.

    They name the files of weights by their content: a model that was trained again is another one.
    Versions of libraries stand beside them, see `other_versions`.
    """
    live, frame_range = is_live(source), options.source_options.frame_range
    reading = propagator.backbone.reading
    settings: dict[str, Any] = {
        "source": live_display_name(str(source)) if live else str(source),
        "model": propagator.model,
        **made_of(propagator.backbone),
        "reading": None if reading is None else asdict(reading),
        "config": propagator.config.to_json(),
        "references_sha256": {
            str(index): hashlib.sha256(mask.ids.tobytes()).hexdigest()
            for index, mask in sorted(plan.references.items())
        },
        "backwards": [
            {"from": block.end, "to": block.start, "whole": block.whole} for block in plan.blocks
        ],
        "max_frames": options.max_frames,
    }
    if live:
        # A camera does not show the same twice, so a second run must not replace the first.
        settings["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    if frame_range is not None:
        settings["frame_range"] = frame_range.to_json()
    if options.source_options.on_damage != "stop":
        settings["on_damage"] = options.source_options.on_damage
    if refine is not None:
        settings["refiner"] = refine.settings
    return settings


@cache
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


def other_versions(report: Mapping[str, Any]) -> list[str]:
    """Say with which other versions a finished result was made: "torch 2.6.0 (now 2.7.1)".

    They do not make it another result: it is what it was, and computing it again takes hours. But
    masks may differ in single pixels, so a person should know.
    """
    before = report.get("versions") or {}
    return [
        f"{name} {before[name]} (now {now})"
        for name, now in versions().items()
        if before.get(name, now) != now
    ]
