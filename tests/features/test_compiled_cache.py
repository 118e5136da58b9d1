"""Compiled networks on disk: whole or not at all, bounded, and never a reason to fail."""

import os
import threading
from pathlib import Path

import pytest

from propagate.features.compiled_cache import CompiledCache


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(
        "propagate.features.compiled_cache.user_cache_path", lambda name: tmp_path / name
    )
    return tmp_path / "propagate" / "compiled"


def test_what_is_written_is_read_until_it_is_removed(folder):
    cache = CompiledCache(1000)
    assert cache.read("a") is None
    cache.write("a", b"one")
    assert CompiledCache(1000).read("a") == b"one"
    cache.remove("a")
    assert cache.read("a") is None
    assert list(folder.iterdir()) == []


def test_what_was_not_used_for_longest_goes(folder):
    cache = CompiledCache(25)
    for number, key in enumerate("abc"):
        cache.write(key, bytes(8))
        os.utime(folder / f"{key}.blob", (number, number))
    assert cache.read("a") is not None  # now it is the newest
    cache.write("d", bytes(8))
    assert [key for key in "abcd" if cache.read(key)] == ["a", "c", "d"]


def test_what_is_larger_than_all_is_not_written(folder):
    cache = CompiledCache(7)
    cache.write("a", bytes(8))
    assert cache.read("a") is None


def test_writers_at_once_leave_one_whole_file(folder):
    contents = [bytes([n]) * 200_000 for n in range(8)]
    seen: list[bytes | None] = []

    def work(data: bytes) -> None:
        for _ in range(20):
            CompiledCache(2**24).write("a", data)
            seen.append(CompiledCache(2**24).read("a"))

    threads = [threading.Thread(target=work, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) <= set(contents)
    assert [path.name for path in folder.iterdir()] == ["a.blob"]


def test_a_folder_that_cannot_be_made_is_no_error(folder):
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file")
    CompiledCache(1000).write("a", b"one")
    assert CompiledCache(1000).read("a") is None
