"""The public interface: these names, and nothing heavy until one is used."""

import subprocess
import sys

import pytest

import propagate
from tests.paths import ROOT

PUBLIC = [
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
    "RunOptions",
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


def test_the_public_names_are_these():
    assert propagate.__all__ == PUBLIC
    assert dir(propagate) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_imports_and_is_documented(name):
    value = getattr(propagate, name)
    if callable(value):
        assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'propagate' has no attribute 'Propagater'"):
        propagate.Propagater  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_loads_no_heavy_library():
    script = (
        "import sys, propagate; "
        "print({'torch', 'diffusers', 'numpy', 'av', 'PIL'} & set(sys.modules))"
    )
    root = ROOT
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=root, text=True, capture_output=True, timeout=60
    )
    assert finished.stdout == "set()\n", finished.stderr


def test_reading_a_video_needs_no_torch():
    script = "import sys, propagate; propagate.open_video; print('torch' in sys.modules)"
    root = ROOT
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=root, text=True, capture_output=True, timeout=60
    )
    assert finished.stdout == "False\n", finished.stderr
