"""Same bits: copies of one model give the same features, wherever its file puts the weights."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from propagate.config import Config
from propagate.features.extract import extract_features
from propagate.features.registry import load_backbone
from tests.tiny_models import stable_diffusion

FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
SMALL = Config(short_side_px=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    stable_diffusion(path).save_pretrained(path)
    return path


@pytest.fixture
def busy() -> Iterator[None]:
    """Keep two cores busy."""
    work = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(work) as first, subprocess.Popen(work) as second:
        yield
        first.kill()
        second.kill()


def features(model: Path) -> torch.Tensor:
    return extract_features(load_backbone(str(model), device="cpu"), SMALL, [FRAME])


@pytest.mark.slow
@pytest.mark.parametrize("shift", [4, 8, 12, 20])
def test_a_model_whose_weights_lie_elsewhere_in_its_files(folder, shift):
    """The weights of safetensors begin where its header ends; names of tensors make it longer."""
    before = features(folder)
    for part in ("unet", "vae", "text_encoder"):
        (path,) = (folder / part).glob("*.safetensors")
        weights = {"a": torch.zeros(shift // 4)} | load_file(path)
        save_file(weights, path, metadata={"format": "pt"})
    assert torch.equal(features(folder), before)


def test_all_weights_are_aligned(folder):
    backbone = load_backbone(str(folder), device="cpu")
    weights = list(backbone._unet.parameters())  # type: ignore[attr-defined]
    assert weights
    assert not [weight for weight in weights if weight.data_ptr() % 64]


@pytest.mark.slow
def test_features_are_the_same_200_times_on_busy_cores(folder, busy):
    backbone = load_backbone(str(folder), device="cpu")
    first = extract_features(backbone, SMALL, [FRAME])
    kept = []
    for repeat in range(200):
        kept.append(bytearray(1 + 4093 * repeat % 100_000))  # so that memory lies elsewhere
        assert torch.equal(extract_features(backbone, SMALL, [FRAME]), first)


@pytest.mark.slow
def test_ten_loads_give_the_same_features_on_busy_cores(folder, busy):
    first = features(folder)
    assert all(torch.equal(features(folder), first) for _ in range(10))
