"""Everything that decides the masks of a run, as plain values for its report."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from propagate.config import Config
from propagate.features.origin import made_of
from propagate.io.decode.live import live_display_name
from propagate.io.decode.source import Source
from propagate.io.decode.video import is_live
from propagate.io.masks.ids import checksum
from propagate.plan import Plan
from propagate.records import Mask
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
    reading = propagator.backbone.reading
    known = settings_without_model(
        propagator.model, propagator.config, source, plan.references, options
    )
    settings: dict[str, Any] = {
        **known,
        **made_of(propagator.backbone),
        "reading": None if reading is None else asdict(reading),
        "backwards": [
            {
                "from": block.end,
                "to": block.start,
                "whole": block.whole,
                **({"objects": "new"} if block.new_only else {}),
            }
            for block in plan.blocks
        ],
    }
    if is_live(source):
        # A camera does not show the same twice, so a second run must not replace the first.
        settings["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    if refine is not None:
        settings["refiner"] = refine.settings
    return settings


def settings_without_model(
    model: str,
    config: Config,
    source: Source,
    references: Mapping[int, Mask],
    options: RunOptions,
) -> dict[str, Any]:
    """Give those settings of a run that are known before its model is loaded."""
    opened = options.source_options
    return {
        "source": live_display_name(str(source)) if is_live(source) else str(source),
        "model": model,
        "config": config.to_json(),
        "references_sha256": {
            str(index): checksum(mask.ids) for index, mask in sorted(references.items())
        },
        "reference_objects": {
            str(index): list(mask.object_ids) for index, mask in sorted(references.items())
        },
        "max_frames": options.max_frames,
        # Stated where they are left out too: a run of a part must not pass for one of the whole.
        "frame_range": None if opened.frame_range is None else opened.frame_range.to_json(),
        "on_damage": opened.on_damage,
    }


@cache
def versions() -> dict[str, str]:
    """Name the versions of this program and of the libraries that decide its masks."""
    names = (
        "propagate-video",
        "torch",
        "openvino",
        "diffusers",
        "transformers",
        "av",
        "decord2",
        "numpy",
        "numba",
    )
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
