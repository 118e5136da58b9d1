"""Who may write into a folder: one at a time, found out from the lock that it leaves there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from propagate.errors import OutputError
from propagate.io.write import lock
from propagate.io.write.lock import LOCK, is_held, read_owner, take_lock
from propagate.io.write.run_folder import RunFolder
from tests.paths import ROOT

HOLD = (
    "import sys, time; from propagate.io.write.lock import take_lock;"
    "held = take_lock(sys.argv[1]); print('held', flush=True); time.sleep(120)"
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_S", 0.2)


@contextmanager
def held_elsewhere(folder):
    """Another process that holds the lock of the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def rewrite(folder, age_s=0.0, **changes):
    """Change what the lock says, and when it was last touched."""
    path = folder / LOCK
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    touched = time.time() - age_s
    os.utime(path, (touched, touched))


def test_a_lock_names_its_owner_and_goes_with_it(tmp_path):
    with take_lock(tmp_path):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not is_held(tmp_path)


def test_a_second_run_on_a_folder_fails_with_one_line_that_names_the_first(tmp_path):
    with (
        held_elsewhere(tmp_path) as process,
        pytest.raises(OutputError, match=rf"in use by process {process.pid} on .*, since 20") as no,
    ):
        RunFolder(tmp_path, {})
    assert "\n" not in str(no.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK]


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path):
    with held_elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with take_lock(tmp_path):
            owner = read_owner(tmp_path)
            assert owner is not None
            assert owner.pid == os.getpid()


def test_a_killed_process_that_nobody_collected_is_gone_too(tmp_path):
    with held_elsewhere(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while is_held(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_process_that_has_the_number_of_the_owner_is_not_the_owner(tmp_path):
    """A container that is started again has the same name, and its first process is number 1."""
    with take_lock(tmp_path):
        rewrite(tmp_path, started="1")
        assert not is_held(tmp_path)


@pytest.mark.parametrize(("age_s", "held"), [(100, True), (400, False), (-400, True)])
def test_a_lock_of_another_machine_holds_as_long_as_it_is_touched(tmp_path, age_s, held):
    with take_lock(tmp_path):
        rewrite(tmp_path, age_s, machine="another", host="far")
        assert is_held(tmp_path) is held


def test_a_beat_from_the_future_is_counted_from_when_it_is_seen(tmp_path):
    """The clock was set back by a day, and the owner, on another machine, is gone since."""
    with take_lock(tmp_path):
        rewrite(tmp_path, -86_400, machine="another", host="far")
        assert is_held(tmp_path)
        assert (tmp_path / LOCK).stat().st_mtime <= time.time()
        time.sleep(0.1)
        assert not is_held(tmp_path, stale_s=0.05)


@pytest.mark.slow
def test_a_living_lock_that_looks_old_is_not_taken_over(tmp_path, monkeypatch):
    """The clock was set forth by a day, and the owner, on another machine, beats on."""
    monkeypatch.setattr(lock, "WATCH_S", 60)
    with take_lock(tmp_path):
        rewrite(tmp_path, 86_400, machine="another", host="far")
        beat = threading.Timer(1, os.utime, [tmp_path / LOCK])
        beat.start()
        with pytest.raises(OutputError, match=r"in use by process .* on far"):
            take_lock(tmp_path)
        beat.join()


def test_a_lock_of_another_machine_that_is_silent_for_a_beat_more_is_taken_over(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lock, "WATCH_S", 0.5)
    with take_lock(tmp_path):
        rewrite(tmp_path, 86_400, machine="another", host="far")
        with take_lock(tmp_path):
            owner = read_owner(tmp_path)
            assert owner is not None
            assert owner.pid == os.getpid()


def test_a_lock_that_could_not_be_removed_does_not_keep_its_own_process_out(tmp_path):
    """Its folder had turned read-only when the run ended."""
    with take_lock(tmp_path):
        content = (tmp_path / LOCK).read_text()
    (tmp_path / LOCK).write_text(content)
    with take_lock(tmp_path):
        assert is_held(tmp_path)


def test_the_owner_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    with take_lock(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_lock_without_a_word_in_it_is_held_for_a_moment_only(tmp_path):
    """Its owner was killed between making and filling it."""
    (tmp_path / LOCK).touch()
    assert is_held(tmp_path)
    before = time.time() - 5
    os.utime(tmp_path / LOCK, (before, before))
    with take_lock(tmp_path):
        pass


def test_a_run_that_was_taken_for_dead_stops_at_its_next_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    first = take_lock(tmp_path)
    rewrite(tmp_path, pid=4711, host="far", token="another")
    time.sleep(0.5)
    with pytest.raises(OutputError, match="taken over by process 4711 on far"):
        first.check()
    first.release()
    assert (tmp_path / LOCK).exists(), "it is the other one's now"


@pytest.mark.slow
def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path):
    for _ in range(20):
        with take_lock(tmp_path) as mine:
            content = (tmp_path / LOCK).read_text()
        (tmp_path / LOCK).write_text(content)
        rewrite(tmp_path, started="1")
        barrier = threading.Barrier(8)

        def contend(_, barrier=barrier):
            barrier.wait()
            try:
                return take_lock(tmp_path)
            except OutputError:
                return None

        with ThreadPoolExecutor(8) as pool:
            winners = [held for held in pool.map(contend, range(8)) if held is not None]
        assert len(winners) == 1
        winners[0].release()
        assert list(tmp_path.iterdir()) == []
        assert mine is not winners[0]
