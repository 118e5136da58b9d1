"""What the server answers when it cannot do what was asked: a status, one line, what to do."""

from typing import Any

from starlette.responses import JSONResponse

from propagate.errors import PropagateError, Spelling, spelled

# After these a body may not have been read: the connection ends, and with it what is still sent.
UNREAD = (401, 403, 405, 413)


class Refused(PropagateError):
    """A request is refused.

    Attributes:
        status: The HTTP status of the answer.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        """Take the status, and message and hint as `PropagateError` does."""
        super().__init__(message, hint)
        self.status = status


def not_found(what: str) -> Refused:
    """Say that there is no such thing."""
    return Refused(404, f"{what}: there is no such thing here", "load the page again")


def error_body(error: PropagateError, spelling: Spelling) -> dict[str, Any]:
    """Return message and hint, each on one line, for the page."""
    message = " ".join(error.message.split())
    hint = " ".join(spelled(error.hint, spelling).split())
    return {"error": message, "hint": hint or None}


def error_response(error: PropagateError, spelling: Spelling) -> JSONResponse:
    """Make the answer of an error: its own status, or 400."""
    status = error.status if isinstance(error, Refused) else 400
    headers = {"Cache-Control": "no-store"}
    if status in UNREAD:
        headers["Connection"] = "close"
    return JSONResponse(error_body(error, spelling), status, headers=headers)
