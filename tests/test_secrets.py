"""Passwords, tokens and signatures stay out of what the program prints and writes."""

import functools
import http.server
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from propagate.batch.events import reporting_failures
from propagate.batch.manifest import ManifestError, read_manifest
from propagate.batch.remote import scratch_of
from propagate.batch.schedule import run_batch
from propagate.batch.tasks import BatchSettings
from propagate.errors import ClusterError, OutputError, PropagateError, hide_secrets
from propagate.io.decode.live import live_display_name, live_name
from propagate.io.decode.video import open_video

PASSED = "SeCrEt"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:S@host:554/live", "rtsp://host:554/live"),
        ("rtsp://me:a@S@host/live", "rtsp://host/live"),
        ("rtsp://me:a/S@host/live", "rtsp://host/live"),
        ("rtsp://me:a?S@host/live", "rtsp://host/live"),
        ("rtsp://me:a#S@host/live", "rtsp://host/live"),
        ("rtsp://S@host/live", "rtsp://host/live"),
        ("http://host/v.m3u8?token=S", "http://host/v.m3u8?token=***"),
        ("http://host/v?a=1&key=S&b", "http://host/v?a=***&key=***&***"),
        ("http://host/v?S", "http://host/v?***"),
        (
            "https://b.s3/v?X-Amz-Signature=S;Expires=3#S",
            "https://b.s3/v?X-Amz-Signature=***;Expires=***",
        ),
        ("http://host/v#access_token=S", "http://host/v#***"),
        ("http://host/v;jsessionid=S/x", "http://host/v;jsessionid=***/x"),
        ("srt://host:9000?passphrase=S", "srt://host:9000?passphrase=***"),
        ("http://host/@name/v.mp4", "http://host/@name/v.mp4"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("s3://bucket/folder", "s3://bucket/folder"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    address = address.replace("S@", f"{PASSED}@").replace("S/", f"{PASSED}/")
    address = address.replace("=S", f"={PASSED}").replace("?S", f"?{PASSED}")
    assert live_display_name(address) == shown
    assert hide_secrets(f"a: {address}, then ({address}): b") == f"a: {shown}, then ({shown}): b"
    assert hide_secrets(hide_secrets(address)) == shown
    error = PropagateError(f"{address}: broke off ({address})", f"check {address}")
    assert str(error) == f"{shown}: broke off ({shown}); check {shown}"
    assert PASSED not in live_name(address)


def test_an_address_with_a_space_or_a_quote_in_its_password_is_shown_without_it() -> None:
    assert live_display_name("rtsp://me:a b'c\"d@host/live") == "rtsp://host/live"


def test_paths_stay_as_they_are() -> None:
    for path in ("/tmp/a@b:c?d=e#f", "C:\\a@b", "clip.mp4", "mailto:a@b"):
        assert hide_secrets(path) == path


def test_errors_that_are_no_errors_of_ours_are_reported_without_secrets() -> None:
    events: list[Any] = []

    def fail() -> None:
        with reporting_failures(0, 0, events.append):
            raise RuntimeError(f"GET https://me:{PASSED}@host/x?sig={PASSED} failed")

    with pytest.raises(RuntimeError):
        fail()
    assert PASSED not in events[0].reason + events[0].trace.replace(f"{{{PASSED}}}", "")


# A stream that wants a password and a token


@pytest.fixture
def server(drawn: Any, tmp_path: Path) -> Iterator[str]:
    """An HTTP server with the drawn clip, and a playlist of which every part is missing."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(Path(drawn.mp4).read_bytes())
    (folder / "cut.mp4").write_bytes(Path(drawn.mp4).read_bytes()[:3000])
    part = f"part.ts?sig={PASSED}"
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{part}\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://me:{PASSED}@{PASSED}@127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--isolate",), ("--decoder", "decord"), ("--debug",)])
@pytest.mark.parametrize("name", ["clip.mp4", "cut.mp4", "none.mp4", "list.m3u8"])
def test_no_secret_of_a_stream_is_printed_or_written(
    propagate: Any,
    server: str,
    drawn: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    more: tuple[str, ...],
) -> None:
    if name == "list.m3u8":
        # The playlist's part never comes, which needs no ten seconds to show.
        defaults: dict[str, Any] = open_video.__kwdefaults__ or {}
        assert defaults["live_deadline_s"] > 2
        monkeypatch.setitem(defaults, "live_deadline_s", 2.0)
    debug = [option for option in more if option == "--debug"]
    finished = propagate(
        *(*debug, "run", f"{server}/{name}?token={PASSED}", "-m", drawn.mask, "-o", tmp_path / "o"),
        *("--model", "color", "--short-side", 64, "--log-json", tmp_path / "log"),
        *(option for option in more if option != "--debug"),
    )
    if name == "clip.mp4" and "decord" not in more:
        assert finished.status == 0, finished.stderr
        assert f"/{name}?token=***" in (tmp_path / "o/clip/result.json").read_text()
    else:
        assert finished.status == 1
        assert name in finished.stderr
    said = finished.stdout + finished.stderr
    written = [path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()]
    written.append((tmp_path / "log").read_bytes())
    assert PASSED not in said
    assert not any(PASSED.encode() in content for content in written)


def test_no_secret_of_an_output_is_printed(propagate: Any, drawn: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"video,mask\n{drawn.mp4},{drawn.mask}\n")
    out = f"nothing://me:a@{PASSED}@host/out?key={PASSED}"
    finished = propagate("batch", tmp_path / "t.csv", "-o", out, "--model", "color")
    assert finished.status == 1
    assert "nothing://host/out?key=***: cannot be written to" in finished.stderr
    assert PASSED not in finished.stderr
    assert PASSED not in propagate("status", out).stderr


def test_a_stream_in_a_table_is_refused_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"video,mask\nrtsp://me:{PASSED}@host/a?t={PASSED},m.png\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "t.csv")
    assert "line 2: video: rtsp://host/a?t=***: an address, and a batch reads" in str(caught.value)


# The local folder of results that go to a URL


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"propagate-{os.getuid()}"


def test_the_local_folder_is_private_whatever_the_umask_is(temporary: Path) -> None:
    before = os.umask(0)
    try:
        scratch_of("s3://bucket/a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700


def test_a_folder_of_ours_that_others_could_read_is_closed(temporary: Path) -> None:
    temporary.mkdir()
    temporary.chmod(0o755)
    scratch_of("s3://bucket/a")
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700


def make_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def make_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def make_file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize("make", [make_link, make_open, make_file])
def test_a_folder_that_somebody_else_may_have_made_is_refused(temporary: Path, make: Any) -> None:
    make(temporary)
    with pytest.raises(
        OutputError, match=r"not a folder of yours alone.*; remove it, or set TMPDIR"
    ):
        scratch_of("s3://bucket/a")
    with pytest.raises(OutputError):
        run_batch([], "memory://out")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(temporary: Path) -> None:
    temporary.mkdir(mode=0o700)
    os.chown(temporary, 12345, 12345)
    with pytest.raises(OutputError, match="not a folder of yours alone"):
        scratch_of("s3://bucket/a")


def test_a_local_output_needs_no_such_folder(temporary: Path) -> None:
    assert scratch_of("out") == Path("out")
    assert not temporary.exists()


def test_on_windows_a_batch_says_at_once_that_it_cannot_isolate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ClusterError, match="Linux and macOS only; pass isolate=False"):
        run_batch([], tmp_path / "out", BatchSettings())
    assert not (tmp_path / "out").exists()
