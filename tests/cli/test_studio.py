"""The command `propagate studio`: it says its address, and ends cleanly."""

import http.client
import os
import re
import shlex
import signal
import sys
import tempfile
import time

import pytest

from tests import forked


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_answers_there_and_ends_with_status_0(drawn, tmp_path, number):
    pytest.importorskip("uvicorn", reason="needs the extra studio")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["studio", str(drawn.mp4), "-o", str(tmp_path / "out"), "--no-browser"]
    line = [sys.executable, "-m", "propagate", *arguments, "--model", "color"]
    with forked.start(line, env={**os.environ, "TMPDIR": str(temporary)}) as process:
        try:
            until = time.monotonic() + 60
            while not (found := re.search(r":(\d+)/#token=([\w-]{43})", process.printed()[1])):
                assert process.poll() is None, process.printed()
                assert time.monotonic() < until
                time.sleep(0.05)
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
            connection.request("GET", "/api/state")
            assert connection.getresponse().status == 401
            assert list(temporary.glob("propagate-studio-*"))
            process.send_signal(number)
            assert process.wait(60) == 0, process.printed()
        finally:
            process.kill()
        out, said = process.communicate()
    assert out == ""
    assert "Traceback" not in said
    assert list(temporary.glob("propagate-studio-*")) == []
    assert not (tmp_path / "out").exists()  # nothing was labelled
    again = said.strip().rpartition("Start it again: ")[2]
    assert shlex.split(again) == ["propagate", *arguments[:-1], "--model", "color", "--no-browser"]


def test_without_the_extra_one_line_says_what_to_install(propagate, monkeypatch, drawn):
    for name in [n for n in sys.modules if n.partition(".")[0] in ("starlette", "uvicorn")]:
        monkeypatch.delitem(sys.modules, name)
    from propagate.cli import studio as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    finished = propagate("studio", drawn.mp4)
    assert finished.status == 1
    assert finished.stderr.count("\n") == 1
    assert 'pip install "propagate-video[studio]"' in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{clip}", "--root", "{elsewhere}"], "leads out of the folder"),
        (["none.mp4"], "none.mp4"),
        (["{text}"], "notes.mp4"),
        (["--root", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    propagate, drawn, tmp_path, monkeypatch, arguments, said
):
    pytest.importorskip("uvicorn", reason="needs the extra studio")
    (tmp_path / "notes.mp4").write_text("no video")
    names = {"clip": drawn.mp4, "elsewhere": tmp_path, "text": tmp_path / "notes.mp4"}
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    given = [word.format(**names) for word in arguments]
    finished = propagate("studio", *given, "-o", tmp_path / "out", "--no-browser")
    assert finished.status == 1
    assert finished.stderr.count("\n") == 1
    assert said in finished.stderr
    assert list((tmp_path / "temporary").glob("propagate-studio-*")) == []


def test_a_port_that_is_taken_is_one_line(propagate, drawn, tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra studio")
    from propagate.studio.serve import listen

    with listen(0) as taken:
        port = taken.getsockname()[1]
        finished = propagate("studio", drawn.mp4, "-o", tmp_path, "--port", port)
    assert finished.status == 1
    assert f"port {port}: cannot be used" in finished.stderr
    assert "--port" in finished.stderr
