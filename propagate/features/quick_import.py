"""Imports of large packages with the garbage collector paused."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector during the first import of a large package.

    The objects of an import stay alive, so collecting is wasted: importing diffusers takes four
    seconds, 0.7 of them in seven hundred passes of the collector.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        # Move the new objects to the oldest generation. Otherwise the first pass after the pause
        # goes over all of them. Skipped if other code has frozen objects: it would unfreeze them.
        if gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()
    finally:
        gc.enable()
