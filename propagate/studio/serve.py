"""Serve a studio on this machine until somebody ends it."""

import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from propagate.errors import PropagateError, Spelling
from propagate.studio.app import make_app
from propagate.studio.security import Keys
from propagate.studio.settings import StudioSettings
from propagate.studio.studio import Studio

HOST = "127.0.0.1"


class StudioServer(uvicorn.Server):
    """A server whose streams of events end when it does."""

    def __init__(self, studio: Studio, keys: Keys, spelling: Spelling) -> None:
        """Take what is served."""
        self._studio = studio
        config = uvicorn.Config(
            make_app(studio, keys, spelling=spelling),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the connections."""
        self._studio.end_streams()
        await super().shutdown(sockets)


def listen(port: int) -> socket.socket:
    """Open a port of this machine only.

    Args:
        port: Which; 0: any that is free.

    Raises:
        PropagateError: It is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(128)  # who comes before the server is there waits for it
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise PropagateError(
            f"port {port}: cannot be used ({reason})", "choose another one ({port})"
        ) from error
    return listening


def serve(
    settings: StudioSettings,
    videos: Sequence[Path],
    *,
    port: int,
    browser: bool,
    spelling: Spelling,
    say: Callable[[str], None],
) -> None:
    """Open the videos, and serve until SIGINT or SIGTERM.

    Args:
        settings: How the studio is started.
        videos: Opened at once; they lie below a root.
        port: Which to listen on; 0: any that is free.
        browser: Whether to open the page in a browser.
        spelling: How settings in hints are spelled.
        say: Tells the person a line.

    Raises:
        VideoError: A video cannot be opened.
        PropagateError: The port is taken, or a video is outside of the roots.
    """
    keys = Keys()
    studio = Studio(settings, spelling)
    try:
        with listen(port) as listening:
            for video in videos:
                studio.open(video)
            studio.warm_up()
            address = f"http://{HOST}:{listening.getsockname()[1]}/#token={keys.token}"
            say(f"the studio is open at {address} (Ctrl-C ends it)")
            server = StudioServer(studio, keys, spelling)
            if browser:
                threading.Thread(target=_show, args=(server, address), daemon=True).start()
            server.run([listening])
    finally:
        studio.close()


def _show(server: StudioServer, address: str) -> None:
    """Open the page once it is there."""
    while not server.started:
        time.sleep(0.05)
    webbrowser.open(address)
