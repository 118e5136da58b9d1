"""When the state of a run is saved, and a session as bytes."""

import io
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Self

import torch

from propagate.errors import OutputError
from propagate.session import Session

# Saving may take this share of the time; if one save takes longer, saves come less often.
SAVE_SHARE = 0.02


class Saves:
    """Decides when a state is saved, so that saving takes a bounded share of the time.

    Use it in a `with` block around each save.
    """

    def __init__(self, every_s: float, share: float = SAVE_SHARE) -> None:
        """Start counting.

        Args:
            every_s: Seconds between two saves; 0: a save is always due.
            share: Of the time, that saves take at most.
        """
        self._every_s, self._share = every_s, share
        self._wait_s = every_s
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self._wait_s

    def __enter__(self) -> Self:
        """Start to measure a save."""
        self._last = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait longer, the longer the save took."""
        now = time.monotonic()
        if self._every_s:
            self._wait_s = max(self._every_s, (now - self._last) / self._share)
        self._last = now


def dump_session(session: Session) -> bytes:
    """Turn the state of a session into bytes."""
    buffer = io.BytesIO()
    torch.save(session.state_dict(), buffer)
    return buffer.getvalue()


def load_session(session: Session, data: bytes, device: torch.device, path: Path) -> None:
    """Let a new session continue where one of the same model and configuration was dumped.

    Only tensors and plain values are read, so the bytes cannot run code.

    Args:
        session: A new one.
        data: What `dump_session` gave.
        device: Where it continues.
        path: Where the bytes came from, for messages.

    Raises:
        OutputError: The bytes are not a saved state.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        session.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, UnpicklingError) as error:
        raise OutputError(
            f"{path}: its saved state cannot be read ({type(error).__name__})",
            "pass {overwrite=True} to start again",
        ) from error
