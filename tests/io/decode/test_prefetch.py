import gc
import threading
import time

import pytest

from propagate.io.decode.prefetch import Prefetcher


def numbers(count, on_close=None):
    try:
        yield from range(count)
    finally:
        if on_close is not None:
            on_close.set()


def prefetch(items, bytes_limit=4, **options):
    return Prefetcher(items, bytes_limit=bytes_limit, size_of=lambda _: 1, **options)


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_items_come_in_order_and_none_is_lost():
    with prefetch(numbers(1000)) as items:
        assert list(items) == list(range(1000))


def test_no_more_than_the_limit_is_ever_read_ahead():
    read = []
    with prefetch((read.append(i) or i for i in range(1000)), bytes_limit=4) as items:
        for taken in range(1, 20):
            next(items)
            wait_until(lambda taken=taken: len(read) == taken + 4)
            time.sleep(0.01)
            assert len(read) == taken + 4


def test_an_item_larger_than_the_limit_passes_alone():
    with Prefetcher([10, 20, 30], bytes_limit=4, size_of=lambda item: item) as items:
        assert list(items) == [10, 20, 30]


def test_an_error_arrives_after_the_items_before_it_and_once():
    def broken():
        yield from (1, 2, 3)
        raise KeyError("the disk is gone")

    with prefetch(broken()) as items:
        assert [next(items), next(items), next(items)] == [1, 2, 3]
        with pytest.raises(KeyError, match="the disk is gone"):
            next(items)
        assert list(items) == []


def test_closing_early_ends_the_thread_and_closes_the_source():
    closed = threading.Event()
    items = prefetch(numbers(1000, closed))
    next(items)
    items.close()
    assert closed.is_set()
    assert not items._thread.is_alive()
    assert list(items) == []
    items.close()


@pytest.mark.slow
def test_a_consumer_that_is_forgotten_ends_the_thread_and_closes_the_source():
    closed = threading.Event()
    items = prefetch(numbers(1000, closed))
    next(items)
    del items
    gc.collect()
    assert closed.wait(5)


def test_a_source_that_says_nothing_is_a_timeout_and_does_not_hold_up_closing(monkeypatch):
    monkeypatch.setattr("propagate.io.decode.prefetch.JOIN_DEADLINE_S", 0.1)
    release = threading.Event()

    def stuck():
        yield 1
        release.wait()

    items = prefetch(stuck(), deadline_s=0.2)
    assert next(items) == 1
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="nothing came"):
        next(items)
    items.close()
    assert time.monotonic() - start < 2
    release.set()


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="bytes_limit"):
        prefetch([], bytes_limit=0)


def test_a_sign_of_life_is_not_handed_on_and_begins_the_deadline_anew():
    def slow():
        for _ in range(6):
            time.sleep(0.1)
            yield None
        yield 1
        yield None
        yield 2

    with prefetch(slow(), deadline_s=0.4) as items:
        assert list(items) == [1, 2]
