"""Models on a hub: found, downloaded once, and one clear error for each way of not getting one."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download

from propagate.errors import ModelError
from propagate.features.hub import MOVED
from propagate.features.model_folder import cached_model_folder
from propagate.features.registry import load_backbone
from tests.tiny_hub import BROKEN, GATED, UNKNOWN, Hub, downloaded_files, serving
from tests.tiny_models import (
    pixel_unet,
    save_pixel_pipeline,
    stable_diffusion,
    stable_diffusion_xl,
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = save_pixel_pipeline(tmp_path / "hub", pixel_unet())
    # Other formats of the same weights, which nobody should have to wait for.
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x" * 1000)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x" * 1000)
    (folder / "all-in-one.ckpt").write_bytes(b"x" * 1000)
    with serving({"somebody/model": folder}, cache, monkeypatch) as hub:
        yield hub


def failure(model: str) -> str:
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load_backbone(model, device="cpu")
    # Not after a minute of trying again.
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("; without a network, use tiny, color or a local folder")
    return message


def test_a_hub_model_is_downloaded_once_and_then_needs_no_network(hub: Hub, cache: Path) -> None:
    assert cached_model_folder("model", "somebody/model") is None
    assert hub.requests == []
    first = load_backbone("somebody/model", device="cpu", dtype="float32")
    asked = len(hub.requests)
    assert asked > 0
    again = load_backbone("somebody/model", device="cpu", dtype="float32")
    assert len(hub.requests) == asked
    local = load_backbone(str(hub.models["somebody/model"]), device="cpu", dtype="float32")
    frame = torch.rand(1, 3, 16, 16)
    for backbone in (first, again):
        assert torch.equal(backbone.extract(frame), local.extract(frame))


def test_only_the_files_that_are_read_are_downloaded(hub: Hub, cache: Path) -> None:
    load_backbone("somebody/model", device="cpu")
    assert downloaded_files(cache) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }


@pytest.mark.slow
def test_of_a_stable_diffusion_model_every_part_that_is_loaded_is_downloaded(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"somebody/sd": stable_diffusion, "somebody/xl": stable_diffusion_xl}
    models = {name: tmp_path / name for name in kinds}
    for name, make in kinds.items():
        make(tmp_path / f"{name}-words").save_pretrained(models[name])
        wanted = {
            path.relative_to(models[name]).as_posix()
            for path in models[name].rglob("*")
            if path.is_file()
        }
        # Parts of the real ones that have nothing to do with features.
        for other in ("safety_checker/model", "vae_1_0/diffusion_pytorch_model", "sd_1.0"):
            path = models[name] / f"{other}.safetensors"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * 1000)
        with serving(models, cache / name, monkeypatch):
            load_backbone(name, device="cpu")
        assert downloaded_files(cache / name) == wanted


def test_an_interrupted_download_goes_on(hub: Hub, cache: Path) -> None:
    load_backbone("somebody/model", device="cpu")
    next(cache.glob("*/snapshots/*/unet/*.safetensors")).unlink()
    assert cached_model_folder("model", "somebody/model") is None
    load_backbone("somebody/model", device="cpu")
    assert cached_model_folder("model", "somebody/model") is not None


def test_files_that_another_program_cached_are_not_taken_for_the_model(
    hub: Hub, cache: Path
) -> None:
    hf_hub_download("somebody/model", "model_index.json")
    assert cached_model_folder("model", "somebody/model") is None
    load_backbone("somebody/model", device="cpu")
    assert cached_model_folder("model", "somebody/model") is not None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (GATED, "its owner asks for consent: give it on the model's page, then `hf auth login`"),
        (UNKNOWN, "the hub has no such model: it has moved, or is private (`hf auth login`)"),
        (BROKEN, "it could not be downloaded (Server error '500"),
        ("a/b/c", "that is neither a folder here nor a hub id (owner/name)"),
        ("./not-there", "that is neither a folder here nor a hub id (owner/name)"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_error(hub: Hub, model: str, reason: str) -> None:
    assert failure(model).startswith(f"model {model}: {reason}")


@pytest.mark.parametrize("model", MOVED)
def test_a_model_that_moved_is_an_error_that_says_where_to_before_any_network(
    hub: Hub, model: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_backbone(model, device="cpu")
    assert str(caught.value) == (
        f"model {model}: it is gone from the hub; pass {MOVED[model]} instead"
    )
    assert hub.requests == []
    assert MOVED[model] not in MOVED


def test_a_model_that_moved_is_used_where_it_is_in_the_cache(hub: Hub, cache: Path) -> None:
    model = next(iter(MOVED))
    hub.models[model] = hub.models["somebody/model"]
    hf_hub_download(model, "model_index.json")
    with pytest.raises(ModelError, match="it is gone from the hub"):
        load_backbone(model, device="cpu")
    for file in ("scheduler/scheduler_config.json", "unet/config.json"):
        hf_hub_download(model, file)
    hf_hub_download(model, "unet/diffusion_pytorch_model.safetensors")
    assert load_backbone(model, device="cpu").name == model


def test_an_unreachable_hub_is_one_error_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    assert failure("somebody/model").startswith("model somebody/model: it could not be downloaded")
    assert capfd.readouterr().err == ""


def test_a_hub_model_is_an_error_at_once_where_the_network_is_forbidden(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline mode is enabled" in failure("somebody/model")
    assert failure("sd15").startswith("model sd15 (stable-diffusion-v1-5/")
    assert hub.requests == []
