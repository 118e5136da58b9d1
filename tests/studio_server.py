"""A real studio on a real socket, and a client that is no browser."""

import base64
import http.client
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import as_keyword
from propagate.studio.security import Keys
from propagate.studio.serve import HOST, StudioServer, listen
from propagate.studio.settings import StudioSettings
from propagate.studio.studio import Studio

PATIENCE_S = 60


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Asks one studio, with the cookie."""

    port: int
    studio: Studio
    keys: Keys
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str | None] | None = None
    ) -> Answer:
        """Send one request; a header that is None is left out."""
        sent: dict[str, str | None] = {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if method == "POST":
            sent["Content-Type"] = "application/json"
        if self.cookie:
            sent["Cookie"] = self.cookie
        sent |= headers or {}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE_S)
        try:
            connection.putrequest(method, path, skip_host="Host" in sent)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.ask("POST", path, {} if body is None else body)

    def events(self, project: str, last_id: str | None = None) -> "Stream":
        return Stream(self, project, last_id)

    def wait(self, project: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for a project until something is true of it."""
        end = time.monotonic() + PATIENCE_S
        while not until(found := self.get(f"/api/projects/{project}").json):
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found


class Stream:
    """A stream of events that is read on."""

    def __init__(self, client: Client, project: str, last_id: str | None) -> None:
        self._connection = http.client.HTTPConnection(HOST, client.port, timeout=PATIENCE_S)
        headers = {"Cookie": client.cookie}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        self._connection.request("GET", f"/api/events?project={project}", headers=headers)
        self.response = self._connection.getresponse()

    def next(self) -> tuple[str, str, Any]:
        """Return the id, name and data of the next event."""
        event: dict[str, str] = {}
        while line := self.response.readline():
            text = line.decode().rstrip("\n")
            if not text and event:
                return event["id"], event["event"], json.loads(event["data"])
            if text and not text.startswith(":"):
                name, _, value = text.partition(": ")
                event[name] = value
        raise EOFError

    def until(self, wanted: Callable[[str, Any], bool]) -> list[tuple[str, str, Any]]:
        """Return the events up to one."""
        events = [self.next()]
        while not wanted(*events[-1][1:]):
            events.append(self.next())
        return events

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@contextmanager
def running(root: Path, out: Path, *videos: Path, **changes: Any) -> Iterator[Client]:
    """Serve a studio with the model `color`."""
    settings = replace(StudioSettings(roots=(root,), out=out, model="color"), **changes)
    keys = Keys()
    studio = Studio(settings, as_keyword)
    try:
        with listen(0) as listening:
            for video in videos:
                studio.open(video)
            server = StudioServer(studio, keys, as_keyword)
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            client = Client(listening.getsockname()[1], studio, keys)
            try:
                login = client.post("/api/login", {"token": keys.token})
                assert login.status == 204
                client.cookie = login.headers["Set-Cookie"].partition(";")[0]
                yield client
            finally:
                server.should_exit = True
                thread.join(PATIENCE_S)
    finally:
        studio.close()


def packed(ids: np.ndarray) -> str:
    """Pack ids as the page does."""
    return base64.b64encode(zlib.compress(ids.tobytes())).decode()
