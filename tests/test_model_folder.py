"""Models on a hub: found, downloaded once, and one clear error for each way of not getting one.

The hub is a small server on this machine that speaks as much of the protocol as a download needs.
"""

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub import constants, hf_hub_download

from propagate.errors import ModelError
from propagate.features import load_backbone
from propagate.features.model_folder import cached_model_folder
from tests.tiny_models import pixel_unet, save_pixel_pipeline

COMMIT = "0123456789" * 4
GATED, MOVED, BROKEN = "somebody/gated", "somebody/moved", "somebody/broken"


class Hub:
    """A hub with one model, `somebody/model`, and some that cannot be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        path = request.path.split("?")[0].removeprefix("/api/models/").lstrip("/")
        refusals = {GATED: (403, "GatedRepo"), MOVED: (404, "RepoNotFound"), BROKEN: (500, "")}
        for repo, (status, code) in refusals.items():
            if path.startswith(repo):
                self.send(request, b"{}", status, {"X-Error-Code": code})
                return
        path = path.removeprefix("somebody/model/")
        if path.startswith("revision/"):
            body = {"id": "somebody/model", "sha": COMMIT, "siblings": []}
            self.send(request, json.dumps(body).encode())
        elif path.startswith("tree/"):
            self.send(request, json.dumps([self.entry(file) for file in self.files()]).encode())
        else:
            _, _, file = path.split("/", 2)  # resolve/<commit or branch>/<file>
            body = (self.folder / file).read_bytes()
            etag = hashlib.sha1(body).hexdigest()
            self.send(request, body, headers={"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def entry(self, path: Path) -> dict[str, object]:
        body = path.read_bytes()
        name = path.relative_to(self.folder).as_posix()
        oid = hashlib.sha1(body).hexdigest()
        return {"type": "file", "path": name, "size": len(body), "oid": oid}

    def send(
        self,
        request: BaseHTTPRequestHandler,
        body: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        request.send_response(status)
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and the network allowed."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = save_pixel_pipeline(tmp_path / "hub", pixel_unet())
    # Other formats of the same weights, which nobody should have to wait for.
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x" * 1000)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x" * 1000)
    (folder / "all-in-one.ckpt").write_bytes(b"x" * 1000)
    hub = Hub(folder)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    thread = Thread(target=hub.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join(timeout=10)


def failure(model: str) -> str:
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load_backbone(model, device="cpu")
    # Not after a minute of trying again.
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("; without a network there are tiny, color and local folders")
    return message


def test_a_hub_model_is_downloaded_once_and_then_needs_no_network(hub: Hub, cache: Path) -> None:
    assert cached_model_folder("model", "somebody/model") is None
    assert hub.requests == []
    first = load_backbone("somebody/model", device="cpu", dtype="float32")
    asked = len(hub.requests)
    assert asked > 0
    again = load_backbone("somebody/model", device="cpu", dtype="float32")
    assert len(hub.requests) == asked
    local = load_backbone(str(hub.folder), device="cpu", dtype="float32")
    frame = torch.rand(1, 3, 16, 16)
    for backbone in (first, again):
        assert torch.equal(backbone.extract(frame), local.extract(frame))


def test_only_the_files_that_are_read_are_downloaded(hub: Hub, cache: Path) -> None:
    load_backbone("somebody/model", device="cpu")
    snapshot = next(cache.glob("*/snapshots/*"))
    assert {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.*")} == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }


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
        (MOVED, "the hub has no such model: it has moved, or is private (`hf auth login`)"),
        (BROKEN, "it could not be downloaded (Server error '500"),
        ("a/b/c", "that is neither a folder here nor a hub id (owner/name)"),
        ("./not-there", "that is neither a folder here nor a hub id (owner/name)"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_error(hub: Hub, model: str, reason: str) -> None:
    assert failure(model).startswith(f"model {model}: {reason}")


def test_an_unreachable_hub_is_one_error_at_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
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
