"""Call a function on many sequences in parallel processes."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from propagate.errors import EvaluationError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    jobs: int,
    cost: Callable[[_Item], float],
) -> list[_Result]:
    """Call a function on each item, the most expensive first.

    Args:
        function: A function at the top level of a module, or a `partial` of one.
        items: The arguments; each is sent to a process.
        jobs: Number of processes. 1 works in this process. More start fresh interpreters, so a
            script that uses them needs the `if __name__ == "__main__":` guard.
        cost: How long an item takes, in any unit. A long item that started last would keep one
            process busy while the others wait.

    Returns:
        The results, in the order of the items.

    Raises:
        EvaluationError: If a process dies.
        ValueError: If `jobs` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more processes, not {jobs}")
    jobs = min(jobs, len(items))
    if jobs <= 1:
        return [function(item) for item in items]
    order = sorted(range(len(items)), key=lambda i: -cost(items[i]))
    # Fresh interpreters, because a fork of a process in which torch runs threads can deadlock.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            results = dict(zip(order, pool.map(function, [items[i] for i in order]), strict=True))
    except BrokenProcessPool as error:
        raise EvaluationError(
            f"one of {jobs} scoring processes ended early (out of memory, or a script without an "
            '`if __name__ == "__main__":` guard)',
            "score with {jobs=1}",
        ) from error
    return [results[i] for i in range(len(items))]
