"""Follow object instances through a video from one labelled frame, training nothing.

    import propagate

    propagator = propagate.Propagator()
    session = propagator.session()
    result = session.step(first_frame, mask)     # (H, W, 3) uint8, (H, W) ids
    result = session.step(next_frame)
    result.mask, result.scores, result.states    # (H, W) uint8, {id: 0..1}, {id: "tracked"}

`__all__` is the public interface.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from propagate.features.quick_import import collector_paused

if TYPE_CHECKING:
    from propagate.batch.manifest import BatchVideo, ManifestError, read_manifest
    from propagate.batch.ray import RayEngine
    from propagate.batch.schedule import BatchSummary, run_batch
    from propagate.batch.status import VideoStatus
    from propagate.batch.tasks import BatchSettings
    from propagate.config import Config
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
    from propagate.eval.mask_trees import MaskTree, open_mask_tree
    from propagate.eval.metrics import boundary_accuracy, region_similarity
    from propagate.eval.permis.build import build_permis_list
    from propagate.eval.permis.images import PermisImageScores, evaluate_permis_images
    from propagate.eval.permis.list import PermisList, read_permis_list, write_permis_list
    from propagate.eval.permis.retrieval import RetrievalScores, evaluate_permis_retrieval
    from propagate.eval.permis.video import PermisScores, evaluate_permis
    from propagate.eval.protocols import PROTOCOLS
    from propagate.eval.report.official_csv import write_official_csv
    from propagate.eval.scores import Scores
    from propagate.features.backbone import Backbone
    from propagate.features.presets import PRESETS
    from propagate.features.recipes import RECIPES
    from propagate.features.registry import load_backbone
    from propagate.images.feature_views import FeatureVideos, write_feature_videos
    from propagate.images.find import Finder, VideoSearch
    from propagate.images.segment import Segmentation, Segmenter
    from propagate.io.decode.frame_range import FrameRange
    from propagate.io.decode.options import SourceOptions
    from propagate.io.decode.video import FrameSource, open_video
    from propagate.io.masks.files import read_mask, read_masks
    from propagate.io.masks.png import write_mask
    from propagate.io.masks.reading import MaskReading
    from propagate.io.masks.references import read_references
    from propagate.io.write.overlay import OverlayWriter, draw_overlay
    from propagate.matchers import (
        MATCHERS,
        BackgroundVoteSettings,
        CellSettings,
        ComponentSettings,
        FlowSettings,
        MaskSettings,
        Matcher,
        MemorySettings,
        MotionSettings,
        ReappearanceSettings,
        SearchSettings,
        SubcellSettings,
        VoteSettings,
    )
    from propagate.matching.appearance import appearance_map, instance_prototypes
    from propagate.pipeline import Propagator
    from propagate.prompts.prompt import PromptFrame
    from propagate.prompts.records import Box, Point, Polygon, Stroke
    from propagate.prompts.settings import PromptSettings
    from propagate.records import Frame, Mask, Progress, Result, State, VideoInfo
    from propagate.refine.refiner import Refiner, load_refiner
    from propagate.report.page import write_report
    from propagate.run_options import RunOptions
    from propagate.run_summary import RunSummary
    from propagate.session import Session

# The home of each public name. They are imported on first use: `propagate --help` and a reader of
# frames need no torch, which takes seconds to load.
_HOMES = {
    "propagate.batch.manifest": (
        "BatchVideo",
        "ManifestError",
        "read_manifest",
    ),
    "propagate.batch.ray": ("RayEngine",),
    "propagate.batch.schedule": (
        "BatchSummary",
        "run_batch",
    ),
    "propagate.batch.status": ("VideoStatus",),
    "propagate.batch.tasks": ("BatchSettings",),
    "propagate.config": ("Config",),
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
    "propagate.eval.metrics": (
        "boundary_accuracy",
        "region_similarity",
    ),
    "propagate.eval.mask_trees": (
        "MaskTree",
        "open_mask_tree",
    ),
    "propagate.eval.permis.build": ("build_permis_list",),
    "propagate.eval.permis.images": (
        "PermisImageScores",
        "evaluate_permis_images",
    ),
    "propagate.eval.permis.list": (
        "PermisList",
        "read_permis_list",
        "write_permis_list",
    ),
    "propagate.eval.permis.retrieval": (
        "RetrievalScores",
        "evaluate_permis_retrieval",
    ),
    "propagate.eval.permis.video": (
        "PermisScores",
        "evaluate_permis",
    ),
    "propagate.eval.protocols": ("PROTOCOLS",),
    "propagate.eval.report.official_csv": ("write_official_csv",),
    "propagate.eval.scores": ("Scores",),
    "propagate.features.backbone": ("Backbone",),
    "propagate.features.presets": ("PRESETS",),
    "propagate.features.recipes": ("RECIPES",),
    "propagate.features.registry": ("load_backbone",),
    "propagate.images.feature_views": (
        "FeatureVideos",
        "write_feature_videos",
    ),
    "propagate.images.find": (
        "Finder",
        "VideoSearch",
    ),
    "propagate.images.segment": (
        "Segmentation",
        "Segmenter",
    ),
    "propagate.io.decode.frame_range": ("FrameRange",),
    "propagate.io.decode.options": ("SourceOptions",),
    "propagate.io.decode.video": (
        "FrameSource",
        "open_video",
    ),
    "propagate.io.masks.files": (
        "read_mask",
        "read_masks",
    ),
    "propagate.io.masks.png": ("write_mask",),
    "propagate.io.masks.reading": ("MaskReading",),
    "propagate.io.masks.references": ("read_references",),
    "propagate.io.write.overlay": (
        "OverlayWriter",
        "draw_overlay",
    ),
    "propagate.matchers": (
        "BackgroundVoteSettings",
        "CellSettings",
        "ComponentSettings",
        "FlowSettings",
        "MATCHERS",
        "MaskSettings",
        "Matcher",
        "MemorySettings",
        "MotionSettings",
        "ReappearanceSettings",
        "SearchSettings",
        "SubcellSettings",
        "VoteSettings",
    ),
    "propagate.matching.appearance": (
        "appearance_map",
        "instance_prototypes",
    ),
    "propagate.pipeline": ("Propagator",),
    "propagate.prompts.prompt": ("PromptFrame",),
    "propagate.prompts.records": (
        "Box",
        "Point",
        "Polygon",
        "Stroke",
    ),
    "propagate.prompts.settings": ("PromptSettings",),
    "propagate.records": (
        "Frame",
        "Mask",
        "Progress",
        "Result",
        "State",
        "VideoInfo",
    ),
    "propagate.refine.refiner": (
        "Refiner",
        "load_refiner",
    ),
    "propagate.report.page": ("write_report",),
    "propagate.run_summary": ("RunSummary",),
    "propagate.run_options": ("RunOptions",),
    "propagate.session": ("Session",),
}

__all__ = [
    "MATCHERS",
    "PRESETS",
    "PROTOCOLS",
    "RECIPES",
    "Backbone",
    "BackgroundVoteSettings",
    "BatchSettings",
    "BatchSummary",
    "BatchVideo",
    "Box",
    "CellSettings",
    "ClusterError",
    "ComponentSettings",
    "Config",
    "DeviceError",
    "EvaluationError",
    "FeatureVideos",
    "Finder",
    "FlowSettings",
    "Frame",
    "FrameRange",
    "FrameSource",
    "ManifestError",
    "Mask",
    "MaskError",
    "MaskReading",
    "MaskSettings",
    "MaskTree",
    "Matcher",
    "MemorySettings",
    "ModelError",
    "MotionSettings",
    "OutputError",
    "OverlayWriter",
    "PermisImageScores",
    "PermisList",
    "PermisScores",
    "Point",
    "Polygon",
    "Progress",
    "PromptFrame",
    "PromptSettings",
    "PropagateError",
    "Propagator",
    "RayEngine",
    "ReappearanceSettings",
    "Refiner",
    "Result",
    "RetrievalScores",
    "RunOptions",
    "RunSummary",
    "Scores",
    "SearchSettings",
    "Segmentation",
    "Segmenter",
    "Session",
    "SourceOptions",
    "State",
    "Stroke",
    "SubcellSettings",
    "VideoError",
    "VideoInfo",
    "VideoSearch",
    "VideoStatus",
    "VoteSettings",
    "appearance_map",
    "boundary_accuracy",
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
    "read_masks",
    "read_permis_list",
    "read_references",
    "region_similarity",
    "run_batch",
    "write_feature_videos",
    "write_mask",
    "write_official_csv",
    "write_permis_list",
    "write_report",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            with collector_paused():
                value = getattr(import_module(module), name)
            # From now on it is found without this function.
            globals()[name] = value
            return value
    raise AttributeError(f"module 'propagate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
