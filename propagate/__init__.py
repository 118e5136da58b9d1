"""Follow object instances through a video from one labelled frame, training nothing.

    import propagate

    propagator = propagate.Propagator()
    session = propagator.session()
    result = session.step(first_frame, mask)     # (H, W, 3) uint8, (H, W) ids
    result = session.step(next_frame)
    result.mask, result.scores, result.states    # (H, W) uint8, {id: 0..1}, {id: "tracked"}

What stands in `__all__` is the public interface.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propagate.config import MATCHERS, Config, Matcher
    from propagate.errors import (
        DeviceError,
        EvaluationError,
        MaskError,
        ModelError,
        OutputError,
        PropagateError,
        VideoError,
    )
    from propagate.eval.davis import evaluate_davis
    from propagate.features import PRESETS
    from propagate.io.masks import read_mask, read_references, write_mask
    from propagate.io.overlay import OverlayWriter, draw_overlay
    from propagate.io.video import open_video
    from propagate.matching import appearance_map, instance_prototypes
    from propagate.pipeline import Propagator, RunSummary
    from propagate.records import Frame, Mask, Result, VideoInfo
    from propagate.session import Session

# Where each public name lives. They are imported on first use: `propagate --help` and a reader of
# frames need no torch, which takes seconds to load.
_HOMES = {
    "propagate.config": ("MATCHERS", "Config", "Matcher"),
    "propagate.errors": (
        "DeviceError",
        "EvaluationError",
        "MaskError",
        "ModelError",
        "OutputError",
        "PropagateError",
        "VideoError",
    ),
    "propagate.eval.davis": ("evaluate_davis",),
    "propagate.features": ("PRESETS",),
    "propagate.io.masks": ("read_mask", "read_references", "write_mask"),
    "propagate.io.overlay": ("OverlayWriter", "draw_overlay"),
    "propagate.io.video": ("open_video",),
    "propagate.matching": ("appearance_map", "instance_prototypes"),
    "propagate.pipeline": ("Propagator", "RunSummary"),
    "propagate.records": ("Frame", "Mask", "Result", "VideoInfo"),
    "propagate.session": ("Session",),
}

__all__ = [
    "MATCHERS",
    "PRESETS",
    "Config",
    "DeviceError",
    "EvaluationError",
    "Frame",
    "Mask",
    "MaskError",
    "Matcher",
    "ModelError",
    "OutputError",
    "OverlayWriter",
    "PropagateError",
    "Propagator",
    "Result",
    "RunSummary",
    "Session",
    "VideoError",
    "VideoInfo",
    "appearance_map",
    "draw_overlay",
    "evaluate_davis",
    "instance_prototypes",
    "open_video",
    "read_mask",
    "read_references",
    "write_mask",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'propagate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
