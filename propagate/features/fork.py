"""A model cannot be used in a process that was forked from one that used it."""

import os

from propagate.errors import ModelError

_used = False
_forked = False


def refuse_fork(name: str) -> None:
    """Refuse to use a model in a process that was forked after a model was used.

    PyTorch's pool of threads does not survive a fork: the first operation that needs it would wait
    for ever.

    Args:
        name: The model, for the message.

    Raises:
        ModelError: This is such a process.
    """
    global _used
    if _forked:
        raise ModelError(
            f"model {name}: this process was forked from one that had used a model, where it would "
            "hang",
            'start processes with the method "spawn": multiprocessing.get_context("spawn")',
        )
    _used = True


def _after_fork() -> None:
    global _forked
    _forked = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
