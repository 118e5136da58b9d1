"""Temporary folders go with their process, or at the next start."""

import os
import subprocess
import sys
import tempfile
from contextlib import closing

import pytest

from propagate.studio.temporary import ALIVE, PREFIX, TemporaryFolder, remove_left_over
from tests.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are locked with flock")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed(here):
    """A process that holds a folder with a file in it, and is killed."""
    code = (
        "import time; from propagate.studio.temporary import TemporaryFolder\n"
        "folder = TemporaryFolder(); (folder.path / 'frame.jpg').write_bytes(b'x')\n"
        "print(folder.path, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(here)},
    )
    assert process.stdout is not None
    folder = here / os.path.basename(process.stdout.readline().strip())
    assert (folder / "frame.jpg").exists()
    assert remove_left_over() == 0, "its process lives"
    process.kill()
    process.wait()
    process.stdout.close()
    return folder


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_live_one_is_not(here):
    folder = killed(here)
    with closing(TemporaryFolder()) as own:
        (own.path / "mine").touch()
        assert remove_left_over() == 1
        assert not folder.exists()
        assert (own.path / "mine").exists()
    assert not own.path.exists()


def test_what_is_not_of_a_studio_stays(here, monkeypatch):
    other = here / "other"
    other.mkdir()
    (other / ALIVE).touch()
    (other / "precious").touch()
    (here / f"{PREFIX}link").symlink_to(other)
    (here / f"{PREFIX}plain").mkdir()
    (here / f"{PREFIX}plain/precious").touch()
    linked = here / f"{PREFIX}linked"
    linked.mkdir()
    (linked / ALIVE).symlink_to(other / ALIVE)
    pipe = here / f"{PREFIX}pipe"
    pipe.mkdir()
    os.mkfifo(pipe / ALIVE)
    (here / f"{PREFIX}file").touch()
    before = sorted(here.rglob("*"))
    assert remove_left_over() == 0
    assert sorted(here.rglob("*")) == before
    # Links inside a folder that is left over lead nowhere either.
    left = here / f"{PREFIX}left"
    left.mkdir()
    (left / ALIVE).touch()
    (left / "out").symlink_to(other)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert remove_left_over() == 0
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    assert remove_left_over() == 1
    assert sorted(here.rglob("*")) == before
