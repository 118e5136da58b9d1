"""The gate in front of all answers: who may ask, how, and how much may be sent.

Any page in the browser, and any program of this machine, can reach a port of 127.0.0.1. So every
request needs the cookie of this start, which only the token of this start buys; the name of the
host is checked against DNS rebinding; and whatever changes something must come from this page.
"""

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from propagate.errors import Spelling
from propagate.studio.answers import Refused, error_response

# An SSH tunnel keeps the name, but its port may be another one.
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.ASCII)
LOGIN = "/api/login"
UPLOAD = "/api/upload"
# A token is shorter than this by far.
LOGIN_BYTES = 4096

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Keys:
    """The secrets of one start.

    Attributes:
        token: Stands in the address that is printed; it buys the cookie.
        cookie: The name of the cookie. Cookies do not tell ports apart, so that two studios need
            two names.
    """

    def __init__(self) -> None:
        """Draw new ones."""
        self.token = secrets.token_urlsafe(32)
        self.cookie = f"propagate_{secrets.token_hex(4)}"
        self._value = secrets.token_urlsafe(32)

    def cookie_for(self, token: object) -> str:
        """Exchange the token for the cookie's value.

        Raises:
            Refused: It is another token.
        """
        given = token.encode() if isinstance(token, str) else b""
        if not secrets.compare_digest(given, self.token.encode()):
            raise Refused(401, "this is not the address of this start", _OPEN_AGAIN)
        return self._value

    def opens(self, cookies: list[str]) -> bool:
        """Say whether one of the Cookie headers holds the cookie."""
        # Other programs on this machine leave cookies too, in forms that a parser may refuse.
        for pair in ";".join(cookies).split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.cookie and secrets.compare_digest(value.encode(), self._value.encode()):
                return True
        return False


_OPEN_AGAIN = "open the address that the studio printed when it was started"


class Gate:
    """ASGI middleware that lets only this page in."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        *,
        body_bytes: int,
        upload_bytes: int,
        spelling: Spelling,
    ) -> None:
        """Stand before an app.

        Args:
            app: The app.
            keys: Of this start.
            body_bytes: Largest body.
            upload_bytes: Largest body of an upload.
            spelling: Spells settings in hints.
        """
        self._app, self._keys, self._spelling = app, keys, spelling
        self._body_bytes, self._upload_bytes = body_bytes, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower().encode() for name in HEADERS}
                kept = [item for item in message.get("headers", []) if item[0] not in names]
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        limit = self._limit(scope["path"])
        try:
            self._check(scope, limit)
        except Refused as refused:
            await error_response(refused, self._spelling)(scope, receive, send_guarded)
            return
        await self._app(scope, counted(receive, limit), send_guarded)

    def _limit(self, path: str) -> int:
        special = {LOGIN: LOGIN_BYTES, UPLOAD: self._upload_bytes}
        return special.get(path, self._body_bytes)

    def _check(self, scope: Scope, limit: int) -> None:
        """Refuse what does not come from this page.

        Raises:
            Refused: It does not.
        """
        path, method = scope["path"], scope["method"]
        hosts = headers(scope, b"host")
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            raise Refused(403, "the studio answers to 127.0.0.1 and localhost only", _OPEN_AGAIN)
        origins = headers(scope, b"origin")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            raise Refused(403, "this request comes from another page")
        if method not in ("GET", "HEAD", "POST"):
            raise Refused(405, f"{method} is not used here")
        if method == "POST":
            self._check_kind(scope)
        is_open = path in ("/", LOGIN) or path.startswith("/page/")
        if not is_open and not self._keys.opens(headers(scope, b"cookie")):
            raise Refused(401, "this browser has not opened the address of this start", _OPEN_AGAIN)
        for length in headers(scope, b"content-length"):
            if not length.isdecimal() or int(length) > limit:
                raise too_long(limit)

    def _check_kind(self, scope: Scope) -> None:
        """Refuse a POST that a form of another page could send."""
        kinds = headers(scope, b"content-type")
        kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
        if scope["path"] == UPLOAD:
            marked = headers(scope, b"x-propagate") == ["1"]
            if kind != "application/octet-stream" or not marked:
                raise Refused(403, "an upload must be application/octet-stream from this page")
        elif kind != "application/json":
            raise Refused(403, "the content type must be application/json")


def headers(scope: Scope, name: bytes) -> list[str]:
    """Return all values of a header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def counted(receive: Receive, limit: int) -> Receive:
    """Count the bytes of a body while it is read, whatever its header says.

    Raises:
        Refused: While reading: it is longer than the limit.
    """
    seen = 0

    async def receive_counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_long(limit)
        return message

    return receive_counted


def too_long(limit: int) -> Refused:
    """Say that a body is too long."""
    return Refused(413, f"more than {limit} bytes in one request")
