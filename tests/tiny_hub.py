"""A hub of models: a server on this machine that speaks as much of the protocol as is needed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

COMMIT = "0123456789" * 4
GATED, UNKNOWN, BROKEN = "somebody/gated", "somebody/unknown", "somebody/broken"


class Hub:
    """A hub with some models, and three that cannot be had.

    Attributes:
        models: The folder of each, by owner/name.
        requests: What was asked for so far.
    """

    def __init__(self, models: dict[str, Path]) -> None:
        self.models = models
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
        refusals = {GATED: (403, "GatedRepo"), UNKNOWN: (404, "RepoNotFound"), BROKEN: (500, "")}
        for repo, (status, code) in refusals.items():
            if path.startswith(repo):
                self.send(request, b"{}", status, {"X-Error-Code": code})
                return
        owner, name, rest = path.split("/", 2)
        folder = self.models[f"{owner}/{name}"]
        if rest.startswith("revision/"):
            body = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": []}
            self.send(request, json.dumps(body).encode())
        elif rest.startswith("tree/"):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            entries = [self.entry(folder, file) for file in files]
            self.send(request, json.dumps(entries).encode())
        else:
            _, _, file = rest.split("/", 2)  # resolve/<commit or branch>/<file>
            body = (folder / file).read_bytes()
            etag = hashlib.sha1(body).hexdigest()
            self.send(request, body, headers={"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def entry(self, folder: Path, path: Path) -> dict[str, object]:
        body = path.read_bytes()
        name = path.relative_to(folder).as_posix()
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


@contextmanager
def serving(models: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that is the only one there is, and an empty cache for what comes from it."""
    hub = Hub(models)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    thread = Thread(target=hub.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join(timeout=10)


def downloaded_files(cache: Path) -> set[str]:
    """What lies in the cache, by names within the models' folders."""
    return {
        path.relative_to(snapshot).as_posix()
        for snapshot in cache.glob("*/snapshots/*")
        for path in snapshot.rglob("*.*")
    }
