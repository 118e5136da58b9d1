"""Reads ahead in one background thread: bounded in bytes, and with a deadline for each item."""

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, Generic, TypeVar

T = TypeVar("T")

JOIN_DEADLINE_S = 5.0
# At the end of the program, threads get this long to finish what they do.
EXIT_DEADLINE_S = 30.0
# Set when the program ends. Long work in a thread should then stop at the next occasion.
EXITING = threading.Event()


def frame_bytes(frame: Any) -> int:
    """Return the bytes of `frame.image`, the size of anything shaped like a `Frame`."""
    return frame.image.nbytes


class Prefetcher(Generic[T]):
    """An iterator over `items` that a daemon thread reads ahead, up to a number of bytes.

    An exception from `items` arrives after the items before it. The thread stops when the `with`
    block is left or the last reference is dropped, and closes `items` when it ends.

    Args:
        items: Only the thread reads them from now on, and closes them if they have `close()`. A
            None among them is a sign of life: it is dropped, and the deadline starts again.
        bytes_limit: Most bytes that wait for the consumer. One item is always accepted, even if it
            is larger.
        size_of: Returns the bytes of one item. Default: the bytes of the image of a frame.
        deadline_s: Longest wait for one item, in seconds. None: wait for ever.

    Raises:
        TimeoutError: While reading, if no item came within `deadline_s`. The thread may be stuck in
            native code that nothing can interrupt; it is left behind as a daemon.
    """

    def __init__(
        self,
        items: Iterable[T | None],
        *,
        bytes_limit: int,
        size_of: Callable[[T], int] = frame_bytes,
        deadline_s: float | None = None,
    ) -> None:
        """Start the thread; it reads ahead at once."""
        if bytes_limit <= 0:
            raise ValueError(f"bytes_limit must be more than 0, not {bytes_limit}")
        self._deadline_s = deadline_s
        self._buffer = _Buffer[T](bytes_limit)
        # The thread refers to the buffer, never to this object. So an abandoned consumer is
        # collected, and its finalizer ends the thread.
        self._thread = threading.Thread(
            # In a copy of the context, so that who watches this thread hears of that one too.
            target=copy_context().run,
            args=(_fill, items, self._buffer, size_of),
            name="prefetch",
            daemon=True,
        )
        self._finalizer = weakref.finalize(self, self._buffer.stop)
        _running[self._thread] = self._buffer
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next item; wait for it `deadline_s` at most."""
        return self._buffer.take(self._deadline_s)

    def close(self) -> None:
        """Stop the thread, wait for its end (five seconds at most) and drop the items."""
        self._finalizer()
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_DEADLINE_S)

    def __enter__(self) -> "Prefetcher[T]":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class _Buffer(Generic[T]):
    """The state that both threads share: the items in order, their bytes, and how reading ended."""

    def __init__(self, bytes_limit: int) -> None:
        self._bytes_limit = bytes_limit
        self._changed = threading.Condition()
        self._items: deque[tuple[T, int]] = deque()
        self._held_bytes = 0
        self._alive_s = time.monotonic()
        self._error: BaseException | None = None
        self._ended = False
        self._stopped = False

    def wait_for_room(self, next_bytes: int) -> bool:
        """Wait until `next_bytes` more fit. Return False if the consumer has stopped."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped
                    or not self._items
                    or self._held_bytes + next_bytes <= self._bytes_limit
                )
            )
            return not self._stopped

    def put(self, item: T, size: int) -> None:
        with self._changed:
            if self._stopped:
                return
            self._items.append((item, size))
            self._held_bytes += size
            self._changed.notify_all()

    def show_life(self) -> None:
        # No lock: the value only grows, and this is called for every frame that is skipped.
        self._alive_s = time.monotonic()

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def take(self, deadline_s: float | None) -> T:
        start_s = time.monotonic()
        with self._changed:
            while not (self._items or self._ended or self._stopped):
                left_s = None
                if deadline_s is not None:
                    left_s = max(start_s, self._alive_s) + deadline_s - time.monotonic()
                    if left_s <= 0:
                        break
                self._changed.wait(left_s)
            if self._items:
                item, size = self._items.popleft()
                self._held_bytes -= size
                self._changed.notify_all()
                return item
            if self._error is not None:
                error, self._error = self._error, None
                try:
                    raise error
                finally:
                    del error  # its traceback refers to this frame, and the cycle would keep images
            if self._ended or self._stopped:
                raise StopIteration
        raise TimeoutError(f"nothing came for {time.monotonic() - start_s:.0f} s")

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._held_bytes = 0
            self._changed.notify_all()


def _fill(items: Iterable[T | None], buffer: _Buffer[T], size_of: Callable[[T], int]) -> None:
    error: BaseException | None = None
    try:
        size = 0
        iterator = iter(items)
        # Wait for room for an item of the last size before reading the next: reading first would
        # hold one item more than the limit.
        while buffer.wait_for_room(size):
            try:
                item = next(iterator)
            except StopIteration:
                break
            if item is None:
                buffer.show_life()
                continue
            size = size_of(item)
            buffer.put(item, size)
            del item
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    except BaseException as caught:
        error = caught
    buffer.end(error)
    del error


_running: weakref.WeakKeyDictionary[threading.Thread, _Buffer[Any]] = weakref.WeakKeyDictionary()


@atexit.register
def end_threads() -> bool:
    """End all threads before the interpreter ends, which would abort in native code of theirs.

    A user may have left generators open, which hold prefetchers. Returns whether all have ended.
    """
    EXITING.set()
    for buffer in list(_running.values()):
        buffer.stop()
    until_s = time.monotonic() + EXIT_DEADLINE_S
    for thread in list(_running):
        thread.join(max(0.0, until_s - time.monotonic()))
    return not any(thread.is_alive() for thread in list(_running))
