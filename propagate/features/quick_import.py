"""Large imports without the garbage collector going over them again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector, for a first import.

    What an import makes is there to stay. Of four seconds in which diffusers is imported, 0.7 go
    into seven hundred passes over it.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        # What has come counts as old at once, or the first pass after the pause makes up for all.
        # Objects that somebody else has frozen would thaw.
        if gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()
    finally:
        gc.enable()
