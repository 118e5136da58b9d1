"""The gate, attacked line by line through a real socket."""

import base64
import http.client
import io
import os
import socket
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from propagate.studio.serve import HOST
from tests.studio_server import packed, running

LIMIT = 2**20


@pytest.fixture(scope="module")
def root(drawn, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    (root / "clip.mp4").write_bytes(drawn.mp4.read_bytes())
    (root / "inside").mkdir()
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.mp4").write_bytes(drawn.mp4.read_bytes())
    (outside / "frame_0.png").write_bytes(drawn.mask.read_bytes())
    (root / "link.mp4").symlink_to(outside / "secret.mp4")
    (root / "linked").symlink_to(outside)
    (root / "images").mkdir()
    (root / "images" / "frame_0.png").symlink_to(outside / "frame_0.png")
    return root


@pytest.fixture(scope="module")
def client(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with running(root, out, root / "clip.mp4", body_bytes=LIMIT) as client:
        yield client


@pytest.fixture
def project(client):
    return client.get("/api/state").json["projects"][0]["id"]


def is_refused(answer, status):
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error", "hint"}
    assert "\n" not in answer.json["error"]
    return True


def test_it_listens_on_this_machine_only(client):
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own, client.port), timeout=5)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost@evil",
        "",
        "[::1]",
    ],
)
def test_a_name_that_was_rebound_to_this_machine_is_refused(client, host):
    host = host.format(port=client.port)
    for path in ("/", "/api/state"):
        assert is_refused(client.ask("GET", path, headers={"Host": host}), 403)
    assert is_refused(client.ask("POST", "/api/login", {}, headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost:8000"])
def test_the_names_of_this_machine_are_answered_through_a_tunnel_too(client, host):
    host = host.format(port=client.port)
    assert client.ask("GET", "/api/state", headers={"Host": host}).status == 200


def test_two_host_headers_are_refused(client):
    with socket.create_connection((HOST, client.port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(100).split()[1] in (b"400", b"403")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https"])
def test_a_request_of_another_page_is_refused(client, project, origin):
    path = f"/api/projects/{project}/stop"
    assert is_refused(client.ask("POST", path, {}, headers={"Origin": origin}), 403)
    own = f"http://{HOST}:{client.port}"
    assert client.ask("POST", path, {}, headers={"Origin": own}).status == 200


@pytest.mark.parametrize(
    "kind", [None, "application/x-www-form-urlencoded", "text/plain", "multipart/form-data"]
)
def test_what_a_form_can_send_is_refused(client, project, kind):
    for path in ("/api/login", "/api/open", f"/api/projects/{project}/stop"):
        assert is_refused(client.ask("POST", path, {}, headers={"Content-Type": kind}), 403)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(client, method):
    assert is_refused(client.ask(method, "/api/state"), 405)


def test_without_the_cookie_only_the_page_and_the_login_answer(client, project):
    addresses = [
        ("GET", "/api/state"),
        ("GET", "/api/files"),
        ("GET", f"/api/projects/{project}"),
        ("GET", f"/api/projects/{project}/frames/0"),
        ("GET", f"/api/events?project={project}"),
        ("GET", "/api/login/../state"),
        ("GET", "/pages"),
        ("POST", "/api/open"),
        ("POST", "/api/upload?name=a.mp4"),
        ("POST", f"/api/projects/{project}/follow"),
    ]
    kind = {"Content-Type": "application/octet-stream", "X-Propagate": "1"}
    for cookie in (None, "", client.cookie[:-1], f"{client.cookie}x", "other=1", "=;;="):
        for method, path in addresses:
            headers = {"Cookie": cookie} | (kind if "upload" in path else {})
            assert is_refused(client.ask(method, path, headers=headers), 401)
    assert client.ask("GET", "/page/none.js", headers={"Cookie": None}).status == 404


def test_cookies_of_other_programs_do_not_lock_anybody_out(client):
    for other in ('prefs={"a": 1}', "a b=c", "ok=1", "=;;=", "x"):
        for header in (f"{other}; {client.cookie}", f"{client.cookie}; {other}"):
            assert client.ask("GET", "/api/state", headers={"Cookie": header}).status == 200


def test_half_a_surrogate_pair_is_no_text(client, project):
    body = b'{"token": "\\ud800"}'
    assert client.ask("POST", "/api/login", body).status == 400
    body = b'{"objects": [{"id": 1, "name": "\\ud800", "colour": "#ffffff"}]}'
    assert client.ask("POST", f"/api/projects/{project}/objects", body).status == 400


@pytest.mark.parametrize("token", ["", "x", None, 0, [], {"a": 1}, "é"])
def test_a_wrong_token_buys_no_cookie(client, token):
    answer = client.ask("POST", "/api/login", {"token": token}, headers={"Cookie": None})
    assert is_refused(answer, 401)
    assert "Set-Cookie" not in answer.headers
    assert is_refused(client.ask("POST", "/api/login", {"token": client.keys.token[:-1]}), 401)


def test_the_cookie_cannot_be_read_by_a_script_or_sent_from_another_site(client):
    answer = client.post("/api/login", {"token": client.keys.token})
    parts = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert client.keys.token not in answer.headers["Set-Cookie"]


def test_a_second_studio_has_other_secrets(client, root, tmp_path):
    with running(root, tmp_path) as other:
        assert other.keys.token != client.keys.token
        assert other.cookie.partition("=")[0] != client.cookie.partition("=")[0]
        assert other.ask("GET", "/api/state", headers={"Cookie": client.cookie}).status == 401


@pytest.mark.parametrize("path", ["/", "/page/none", "/api/state", "/nowhere"])
@pytest.mark.parametrize("host", [None, "evil.example"])
def test_every_answer_carries_the_headers_that_lock_the_page_in(client, path, host):
    headers = client.ask("GET", path, headers={"Host": host} if host else None).headers
    policy = {
        name: values
        for name, *values in (
            part.split() for part in headers["Content-Security-Policy"].split(";")
        )
    }
    assert policy == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


# --- files


SECRETS = ["../outside", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "%2fetc%2fpasswd", "....//", "."]


@pytest.mark.parametrize("name", SECRETS)
def test_a_path_is_no_id_and_no_page(client, project, name):
    quoted = name.replace("/", "%2f")
    for path in (
        f"/page/{name}",
        f"/page/{quoted}",
        f"/page/..%2fapp.py%00{quoted}",
        f"/api/files?folder={name}",
        f"/api/projects/{quoted}",
        f"/api/projects/{project}/exports/{quoted}",
    ):
        assert client.get(path).status in (400, 404)
    assert is_refused(client.post("/api/open", {"file": name}), 404)
    for wrong in (None, 1, ["a"], {"a": 1}):
        assert is_refused(client.post("/api/open", {"file": wrong}), 404)


def test_a_link_out_of_the_root_is_neither_listed_nor_opened(client, root):
    listed = client.get("/api/files").json
    names = {entry["name"] for entry in listed["folders"] + listed["videos"]}
    assert names == {"clip.mp4", "inside", "images"}
    for name in ("link.mp4", "linked"):
        file_id = client.studio.browser.id_of(root / name)
        assert is_refused(client.post("/api/open", {"file": file_id}), 403)
        assert client.get(f"/api/files?folder={file_id}").status in (403, 404)
    [images] = [entry for entry in listed["videos"] if entry["name"] == "images"]
    assert is_refused(client.post("/api/open", {"file": images["id"]}), 403)


def test_a_folder_that_becomes_a_link_out_is_not_listed(client, root, tmp_path):
    moved = root / "moved"
    moved.mkdir()
    [entry] = [e for e in client.get("/api/files").json["folders"] if e["name"] == "moved"]
    moved.rmdir()
    moved.symlink_to(tmp_path)
    try:
        assert is_refused(client.get(f"/api/files?folder={entry['id']}"), 403)
    finally:
        moved.unlink()


def test_ids_say_nothing_about_paths(client, root):
    text = client.get("/api/files").body.decode() + client.get("/api/state").body.decode()
    assert str(root) not in text
    assert os.sep + "tmp" not in text


# --- bodies


def test_a_body_over_the_limit_is_refused_by_its_header(client, project):
    path = f"/api/projects/{project}/import"
    answer = client.ask("POST", path, None, headers={"Content-Length": str(LIMIT + 1)})
    assert is_refused(answer, 413)
    for length in ("-1", "1e3", "9" * 30):
        answer = client.ask("POST", path, None, headers={"Content-Length": length})
        assert answer.status in (400, 413)


def test_a_body_without_a_length_is_refused_while_it_is_read(client, project):
    """Sent in chunks for ever: the server counts, and ends the connection."""
    head = (
        f"POST /api/projects/{project}/import HTTP/1.1\r\nHost: localhost\r\n"
        f"Cookie: {client.cookie}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent, answer = 0, b""
    with socket.create_connection((HOST, client.port), timeout=20) as raw:
        raw.sendall(head.encode())
        with suppress(OSError):
            while sent < 64 * LIMIT:
                raw.sendall(chunk)
                sent += len(chunk)
        with suppress(OSError):
            answer = raw.recv(100)
    assert sent < 64 * LIMIT
    assert not answer or b" 413 " in answer
    assert client.get("/api/state").status == 200


def test_a_long_login_is_refused_before_anybody_is_known(client):
    assert is_refused(client.post("/api/login", {"token": "x" * 5000}), 413)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"\xff", b'{"ids": NaN}', b"[" * 100000, b'"' * 9]
)
def test_a_body_that_is_no_json_object_is_refused(client, project, body):
    path = f"/api/projects/{project}/references/0"
    assert is_refused(client.ask("POST", path, body), 400)


def test_a_bomb_of_zeros_is_not_unpacked(client, project):
    """A thousand times the frame, in a few kilobytes."""
    pixels = 64 * 48
    bomb = zlib.compress(bytes(pixels * 1000), 9)
    whole = zlib.compress(bytes(pixels))
    path = f"/api/projects/{project}/references/0"
    for data in (
        bomb,
        zlib.compress(bytes(pixels + 1)),
        zlib.compress(bytes(pixels - 1)),
        whole[:-3],
        whole + b"more",
        b"not zlib",
        b"",
    ):
        body = {"ids": base64.b64encode(data).decode()}
        assert is_refused(client.post(path, body), 400)
    assert is_refused(client.post(path, {"ids": "#"}), 400)
    assert is_refused(client.post(path, {"ids": None}), 400)
    assert client.get(f"/api/projects/{project}").json["references"] == {}


def png_of(width, height):
    """A PNG whose header names a size, with hardly any content."""
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def npz_bomb():
    """An array of 2 GiB of zeros in a few kilobytes, by its header only."""
    file, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**16, 2**15)}
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(10**6))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bomb.png", png_of(60000, 60000)),
        ("bomb.npz", npz_bomb()),
        ("../../etc/passwd", b"root"),
        ("x.svg", b"<svg/>"),
        ("x.png", b"no picture"),
        ("x.npy", b"\x93NUMPY"),
        ("x.npz", b"PK\x03\x04"),
    ],
)
def test_a_mask_that_would_not_fit_is_refused_before_it_is_decoded(client, project, name, data):
    body = {"frame": 0, "name": name, "data": base64.b64encode(data).decode()}
    assert is_refused(client.post(f"/api/projects/{project}/import", body), 400)


def test_uploads_are_off(client):
    headers = {"Content-Type": "application/octet-stream", "X-Propagate": "1"}
    answer = client.ask("POST", "/api/upload?name=a.mp4", b"x", headers=headers)
    assert is_refused(answer, 403)
    assert "uploads" in answer.json["hint"]


def test_uploads_have_a_limit_and_a_name_of_their_own(drawn, root, tmp_path):
    data = drawn.mp4.read_bytes()
    marked = {"Content-Type": "application/octet-stream", "X-Propagate": "1"}
    with running(root, tmp_path, uploads=True, upload_bytes=len(data)) as client:

        def upload(name, body, headers):
            return client.ask("POST", f"/api/upload?name={name}", body, headers=headers)

        assert is_refused(upload("a.mp4", data + b"x", marked), 413)
        assert is_refused(upload("a.mp4", data, {**marked, "X-Propagate": None}), 403)
        assert is_refused(upload("a.mp4", data, {**marked, "Content-Type": "text/plain"}), 403)
        assert is_refused(upload("..%2f..%2fa.sh", data, marked), 400)
        assert is_refused(upload("", data, marked), 400)
        file_id = upload("..%2f..%2fa%20b.mp4", data, marked).json["file"]
        opened = client.post("/api/open", {"file": file_id})
        assert (opened.status, opened.json["name"]) == (200, "a_b")
        assert not (root / "a_b.mp4").exists()
        assert client.studio.uploads is not None
        folder = client.studio.uploads.folder
        assert [file.name for file in folder.rglob("*.mp4")] == ["a_b.mp4"]
    assert not folder.exists()


def test_too_large_a_picture_is_refused_when_it_is_opened(drawn, root, tmp_path):
    with running(root, tmp_path, max_pixels=64 * 48 - 1) as client:
        [clip] = [v for v in client.get("/api/files").json["videos"] if v["name"] == "clip.mp4"]
        assert is_refused(client.post("/api/open", {"file": clip["id"]}), 400)


def test_frames_that_do_not_exist_are_refused(client, project):
    client.wait(project, lambda found: found["counted"])
    for frame in ("12", "-1", "9" * 5000, "1.5", "x", "%00", "\u0661"):
        path = f"/api/projects/{project}/frames/{frame}".encode().decode("latin-1")
        try:
            assert client.get(path).status in (400, 404)
        except (http.client.InvalidURL, UnicodeEncodeError):
            continue
    path = f"/api/projects/{project}/references/12"
    assert is_refused(client.post(path, {"ids": packed(np.zeros((48, 64), np.uint8))}), 404)
