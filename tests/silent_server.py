"""A server whose stream stops in the middle, as one does whose sender is cut off."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server_that_stops(data: bytes) -> Iterator[str]:
    """Serve the first half of `data` over HTTP, then fall silent with the connection open."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            over.wait(60)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/live.ts"
        finally:
            over.set()
            server.shutdown()
            thread.join()
