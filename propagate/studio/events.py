"""What happens to a project, as server-sent events that a client can take up where it left off."""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from propagate.errors import PropagateError

# Events that are kept for clients that come back.
KEPT = 2000
ALIVE_EVERY_S = 15.0
# How often a client that waits lets the project look at its folder.
LOOK_EVERY_S = 1.0


class Events:
    """The events of one project. They may be published from any thread.

    Clients read from one bounded buffer, so that a slow one takes no memory. One that has missed
    more than the buffer holds gets the whole project.
    """

    def __init__(
        self, project: Callable[[], dict[str, Any]], look: Callable[[], None] = lambda: None
    ) -> None:
        """Take what knows the project.

        Args:
            project: Returns it as it is now.
            look: Publishes what other programs have changed; called while a client waits.
        """
        self._project, self._look = project, look
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, str, str]] = deque(maxlen=KEPT)
        self._last = 0
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = False

    def publish(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Publish an event. The event "project" carries the project of when it is sent."""
        text = "" if data is None else json.dumps(data)
        with self._lock:
            self._last += 1
            self._kept.append((self._last, name, text))
        self._wake()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake()

    async def stream(self, last_id: str | None) -> AsyncIterator[str]:
        """Yield the events after the last one that a client has seen, and then as they come.

        Args:
            last_id: The header `Last-Event-ID`. Without it, or if events are missing, the whole
                project comes first.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        listener = (loop, news)
        with self._lock:
            self._listeners.add(listener)
        try:
            seen = int(last_id) if last_id is not None and last_id.isdecimal() else None
            spoken = time.monotonic()
            while not self._closed:
                news.clear()
                events, current = self._after(seen)
                if events is None:
                    yield _event(current, "project", json.dumps(self._project()))
                    seen = current
                    continue
                for number, name, text in events:
                    yield _event(number, name, text or json.dumps(self._project()))
                    seen = number
                if events:
                    spoken = time.monotonic()
                    continue
                try:
                    await asyncio.wait_for(news.wait(), min(LOOK_EVERY_S, ALIVE_EVERY_S))
                except TimeoutError:
                    # A folder that cannot be read now may be readable next time.
                    with suppress(OSError, PropagateError):
                        await asyncio.to_thread(self._look)
                    if time.monotonic() - spoken >= ALIVE_EVERY_S:
                        spoken = time.monotonic()
                        yield ": alive\n\n"
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def _after(self, seen: int | None) -> tuple[list[tuple[int, str, str]] | None, int]:
        """Return the events after one, None if some of them are gone; and the last number."""
        with self._lock:
            oldest = self._kept[0][0] if self._kept else self._last + 1
            if seen is None or seen > self._last or seen + 1 < oldest:
                return None, self._last
            return [event for event in self._kept if event[0] > seen], self._last

    def _wake(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for loop, news in listeners:
            try:
                loop.call_soon_threadsafe(news.set)
            except RuntimeError:
                continue  # the loop has ended


def _event(number: int, name: str, text: str) -> str:
    return f"id: {number}\nevent: {name}\ndata: {text}\n\n"
