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

from propagate.collector import collector_paused

if TYPE_CHECKING:
    from propagate.batch import run_batch
    from propagate.batch_ray import RayEngine
    from propagate.batch_records import BatchSettings
    from propagate.config import MATCHERS, Config, Matcher
    from propagate.errors import (
        ClusterError,
        DeviceError,
        EvaluationError,
        MaskError,
        ModelError,
        OutputError,
        PropagateError,
        VideoError,
    )
    from propagate.eval.davis import evaluate_davis
    from propagate.eval.identity import evaluate_identity
    from propagate.eval.mask_trees import open_mask_tree
    from propagate.eval.official_csv import write_official_csv
    from propagate.eval.permis import evaluate_permis
    from propagate.eval.permis_build import build_permis_list
    from propagate.eval.permis_images import evaluate_permis_images
    from propagate.eval.permis_list import read_permis_list, write_permis_list
    from propagate.eval.permis_retrieval import evaluate_permis_retrieval
    from propagate.eval.protocols import PROTOCOLS
    from propagate.eval.scores import Scores
    from propagate.features import load_backbone
    from propagate.features.presets import PRESETS
    from propagate.features.recipes import RECIPES
    from propagate.features_video import write_feature_videos
    from propagate.find import Finder
    from propagate.io.frame_range import FrameRange
    from propagate.io.masks import read_mask, read_references, write_mask
    from propagate.io.overlay import OverlayWriter, draw_overlay
    from propagate.io.source_options import SourceOptions
    from propagate.io.video import open_video
    from propagate.manifest import BatchVideo, ManifestError, read_manifest
    from propagate.matching import appearance_map, instance_prototypes
    from propagate.pipeline import Propagator, RunSummary
    from propagate.records import Frame, Mask, Result, VideoInfo
    from propagate.refine import Refiner, load_refiner
    from propagate.segment import Segmentation, Segmenter
    from propagate.session import Session

# Where each public name lives. They are imported on first use: `propagate --help` and a reader of
# frames need no torch, which takes seconds to load.
_HOMES = {
    "propagate.batch": ("run_batch",),
    "propagate.batch_ray": ("RayEngine",),
    "propagate.batch_records": ("BatchSettings",),
    "propagate.config": ("MATCHERS", "Config", "Matcher"),
    "propagate.errors": (
        "ClusterError",
        "DeviceError",
        "EvaluationError",
        "MaskError",
        "ModelError",
        "OutputError",
        "PropagateError",
        "VideoError",
    ),
    "propagate.eval.davis": ("evaluate_davis",),
    "propagate.eval.identity": ("evaluate_identity",),
    "propagate.eval.mask_trees": ("open_mask_tree",),
    "propagate.eval.official_csv": ("write_official_csv",),
    "propagate.eval.permis": ("evaluate_permis",),
    "propagate.eval.permis_build": ("build_permis_list",),
    "propagate.eval.permis_images": ("evaluate_permis_images",),
    "propagate.eval.permis_list": ("read_permis_list", "write_permis_list"),
    "propagate.eval.permis_retrieval": ("evaluate_permis_retrieval",),
    "propagate.eval.protocols": ("PROTOCOLS",),
    "propagate.eval.scores": ("Scores",),
    "propagate.features": ("load_backbone",),
    "propagate.features.presets": ("PRESETS",),
    "propagate.features.recipes": ("RECIPES",),
    "propagate.features_video": ("write_feature_videos",),
    "propagate.find": ("Finder",),
    "propagate.io.frame_range": ("FrameRange",),
    "propagate.io.masks": ("read_mask", "read_references", "write_mask"),
    "propagate.io.overlay": ("OverlayWriter", "draw_overlay"),
    "propagate.io.source_options": ("SourceOptions",),
    "propagate.io.video": ("open_video",),
    "propagate.manifest": ("BatchVideo", "ManifestError", "read_manifest"),
    "propagate.matching": ("appearance_map", "instance_prototypes"),
    "propagate.pipeline": ("Propagator", "RunSummary"),
    "propagate.records": ("Frame", "Mask", "Result", "VideoInfo"),
    "propagate.refine": ("Refiner", "load_refiner"),
    "propagate.segment": ("Segmentation", "Segmenter"),
    "propagate.session": ("Session",),
}

__all__ = [
    "MATCHERS",
    "PRESETS",
    "PROTOCOLS",
    "RECIPES",
    "BatchSettings",
    "BatchVideo",
    "ClusterError",
    "Config",
    "DeviceError",
    "EvaluationError",
    "Finder",
    "Frame",
    "FrameRange",
    "ManifestError",
    "Mask",
    "MaskError",
    "Matcher",
    "ModelError",
    "OutputError",
    "OverlayWriter",
    "PropagateError",
    "Propagator",
    "RayEngine",
    "Refiner",
    "Result",
    "RunSummary",
    "Scores",
    "Segmentation",
    "Segmenter",
    "Session",
    "SourceOptions",
    "VideoError",
    "VideoInfo",
    "appearance_map",
    "build_permis_list",
    "draw_overlay",
    "evaluate_davis",
    "evaluate_identity",
    "evaluate_permis",
    "evaluate_permis_images",
    "evaluate_permis_retrieval",
    "instance_prototypes",
    "load_backbone",
    "load_refiner",
    "open_mask_tree",
    "open_video",
    "read_manifest",
    "read_mask",
    "read_permis_list",
    "read_references",
    "run_batch",
    "write_feature_videos",
    "write_mask",
    "write_official_csv",
    "write_permis_list",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            with collector_paused():
                value = getattr(import_module(module), name)
            # Found here from now on.
            globals()[name] = value
            return value
    raise AttributeError(f"module 'propagate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
