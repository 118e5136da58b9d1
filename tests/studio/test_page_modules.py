"""Modules of the page by themselves, in Chromium, held against NumPy, SciPy and scikit-image."""

import base64
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab

from propagate.io.masks.palette import palette
from propagate.report.doubtful import doubtful_frames
from tests.paths import ROOT

PAGE = ROOT / "propagate" / "studio" / "page"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with suppress(ConnectionError):  # the browser may close while it is sent a file
            super().copyfile(source, outputfile)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Files of the page and nothing else; the modules here ask for nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(PAGE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def page(chromium: Any, address: str) -> Iterator[Any]:
    page = chromium.new_page()
    page.goto(f"{address}/icon.svg")
    yield page
    page.close()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


READ = """async ([file]) => {
    const { readIndexPng } = await import("/png.js");
    const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
    const { width, height, ids } = await readIndexPng(bytes);
    return [width, height, [...ids]];
}"""


def read_in_page(page: Any, file: bytes) -> np.ndarray:
    width, height, ids = page.evaluate(READ, [text(file)])
    return np.array(ids, np.uint8).reshape(height, width)


def png_of(ids: np.ndarray, mode: str = "P") -> bytes:
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(palette().tobytes())
    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def filtered_png(ids: np.ndarray) -> bytes:
    """A grey PNG whose rows use the five filters in turn, written from the PNG specification."""
    height, width = ids.shape
    rows = bytearray()
    for y in range(height):
        kind = y % 5
        rows.append(kind)
        for x in range(width):
            left = int(ids[y, x - 1]) if x else 0
            up = int(ids[y - 1, x]) if y else 0
            corner = int(ids[y - 1, x - 1]) if x and y else 0
            estimate = left + up - corner
            paeth = min((left, up, corner), key=lambda value: abs(estimate - value))
            guess = (0, left, up, (left + up) // 2, paeth)[kind]
            rows.append((int(ids[y, x]) - guess) % 256)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    data = zlib.compress(bytes(rows))
    half = len(data) // 2
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", data[:half])
        + chunk(b"IDAT", data[half:])
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_every_id_is_read_exactly_on_any_screen(chromium: Any, address: str, ratio: float) -> None:
    page = chromium.new_page(device_scale_factor=ratio)
    page.goto(f"{address}/icon.svg")
    ids = np.arange(256, dtype=np.uint8).repeat(2).reshape(16, 32)
    for file in (png_of(ids), png_of(ids, "L"), filtered_png(ids)):
        assert np.array_equal(read_in_page(page, file), ids)
    page.close()


def test_random_ids_and_all_filters(page: Any) -> None:
    rng = np.random.default_rng(3)
    ids = rng.choice(np.array([0, 1, 2, 254, 255], np.uint8), (23, 17))
    smooth = np.add.outer(np.arange(23), np.arange(17)).astype(np.uint8)
    for each in (ids, smooth):
        file = filtered_png(each)
        assert np.array_equal(np.array(Image.open(BytesIO(file))), each)  # the test's own writer
        assert np.array_equal(read_in_page(page, file), each)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pngs_of_fewer_bits(page: Any, bits: int) -> None:
    ids = np.random.default_rng(bits).integers(0, 1 << bits, (9, 13), np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(palette().tobytes())
    data = BytesIO()
    image.save(data, "PNG", bits=bits)
    assert data.getvalue()[24] == bits
    assert np.array_equal(read_in_page(page, data.getvalue()), ids)


def test_other_pngs_are_refused(page: Any) -> None:
    data = BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    message = page.evaluate(
        f"(file) => ({READ})(file).catch((error) => error.message)", [text(data.getvalue())]
    )
    assert message == "The mask is not an index PNG of up to 8 bits."


def test_ids_are_packed_as_the_server_reads_them(page: Any) -> None:
    ids = np.random.default_rng(1).integers(0, 255, 20_001, np.uint8)
    packed = page.evaluate(
        """async (ids) => (await import("/png.js")).packForServer(Uint8Array.from(ids))""",
        ids.tolist(),
    )
    assert zlib.decompress(base64.b64decode(packed)) == ids.tobytes()


PAINT = """async ([name, width, height, ...rest]) => {
    const shapes = await import("/shapes.js");
    const ids = new Uint8Array(width * height);
    const fill = (y, from, to) => ids.fill(1, y * width + from, y * width + to);
    shapes[name](width, height, ...rest, fill);
    return [...ids];
}"""


def centres(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    return x + 0.5, y + 0.5


def test_a_stroke_covers_the_pixels_whose_centres_are_within_its_radius(page: Any) -> None:
    rng = np.random.default_rng(5)
    width, height = 31, 23
    x, y = centres(width, height)
    for n in range(36):
        a, b = rng.uniform(-4, 34, 2), rng.uniform(-4, 34, 2)
        if n % 6 == 0:
            b[1] = a[1]
        if n % 6 == 1:
            b[0] = a[0]
        if n % 6 == 2:
            b = a
        radius = rng.uniform(0.5, 7)
        along = b - a
        place = ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(along @ along, 1e-12)
        place = np.clip(place, 0, 1)
        expected = np.hypot(x - a[0] - place * along[0], y - a[1] - place * along[1]) <= radius
        column, row = np.floor(b).astype(int)
        if 0 <= column < width and 0 <= row < height:
            expected[row, column] = True
        ends = [{"x": float(p[0]), "y": float(p[1])} for p in (a, b)]
        found = page.evaluate(PAINT, ["capsule", width, height, *ends, float(radius)])
        assert np.array_equal(np.reshape(found, (height, width)), expected)


def test_a_polygon_covers_the_pixels_whose_centres_are_inside(page: Any) -> None:
    rng = np.random.default_rng(6)
    width, height = 29, 21
    for _ in range(12):
        corners = rng.uniform(-3, 30, (rng.integers(3, 8), 2))
        expected = np.zeros((height, width), bool)
        for row in range(height):
            for column in range(width):
                px, py = column + 0.5, row + 0.5
                for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                    if (p[1] <= py) != (q[1] <= py):
                        cut = p[0] + (py - p[1]) / (q[1] - p[1]) * (q[0] - p[0])
                        expected[row, column] ^= px < cut
        points = [{"x": float(x), "y": float(y)} for x, y in corners]
        found = page.evaluate(PAINT, ["polygon", width, height, points])
        assert np.array_equal(np.reshape(found, (height, width)), expected)


def test_a_reference_lies_on_the_computed_mask(page: Any) -> None:
    computed = [1, 1, 2, 2, 3, 3, 0, 0]
    reference = [0, 1, 1, 0, 0, 0, 4, 0]
    # 1 and 4 are as the reference says; 2 and 3 stay where the reference has no object.
    found = page.evaluate(
        """async ([a, b]) => {
            const { layered } = await import("/shapes.js");
            return [...layered(Uint8Array.from(a), Uint8Array.from(b))];
        }""",
        [computed, reference],
    )
    assert found == [0, 1, 1, 2, 3, 3, 4, 0]


def test_which_objects_a_stroke_touched(page: Any) -> None:
    before = [1, 1, 2, 2, 3, 3, 0, 0]
    after = [1, 4, 2, 0, 3, 3, 0, 5]
    # 4 lies upon 1, which is changed and not touched; 2 lost a pixel to the background.
    found = page.evaluate(
        """async ([a, b]) => {
            const { changedIds, only, touchedIds } = await import("/shapes.js");
            const [before, after] = [Uint8Array.from(a), Uint8Array.from(b)];
            return [touchedIds(before, after), changedIds(before, after), [...only(after, [2, 5])]];
        }""",
        [before, after],
    )
    assert found == [[2, 4, 5], [1, 2, 4, 5], [0, 0, 2, 0, 0, 0, 0, 5]]


def test_masks_kept_for_undo_come_back_exactly(page: Any) -> None:
    ids = np.random.default_rng(2).integers(0, 3, 5000, np.uint8) * 127
    back = page.evaluate(
        """async (ids) => {
            const { packRuns, unpackRuns } = await import("/shapes.js");
            return [...unpackRuns(packRuns(Uint8Array.from(ids)), ids.length)];
        }""",
        ids.tolist(),
    )
    assert back == ids.tolist()


def test_doubtful_frames(page: Any) -> None:
    #        0    1     2    3     4    5    6    7    8    9    10
    state = ["t", "t", "t", "t", "u", "u", "t", "a", "a", "t", "t"]
    margin = [0.9, 0.19, 0.1, 0.15, 0.5, 0.5, 0.3, 0.0, 0.0, 0.2, 0.1]
    found = page.evaluate(
        """async ([state, margin]) => {
            const { doubtful } = await import("/doubt.js");
            const tracks = { 1: { state, margin, score: [] }, 2: { state, margin, score: [] } };
            return [doubtful(tracks, new Set([1])), doubtful(tracks, new Set([3]))];
        }""",
        [state, margin],
    )
    # 2 and 10: lowest of those around, and below 0.2; 4: unsure begins; 7: absent begins.
    assert found == [[2, 4, 7, 10], []]


def test_doubtful_frames_are_those_of_the_report(page: Any) -> None:
    rng = np.random.default_rng(6)
    states = {"t": "tracked", "u": "unsure", "a": "absent"}
    for _ in range(20):
        state = rng.choice(["t", "t", "t", "u", "a"], 60).tolist()
        margin = (rng.integers(0, 8, 60) / 20).tolist()
        found = page.evaluate(
            """async (track) => (await import("/doubt.js")).doubtfulIn(track)""",
            {"state": state, "margin": margin, "score": []},
        )
        per_frame = [
            {"name": "", "objects": {"1": {"state": states[s], "margin": m, "score": 1.0}}}
            for s, m in zip(state, margin, strict=True)
        ]
        assert found == [doubt.position for doubt in doubtful_frames({"per_frame": per_frame})]


def test_cielab_is_that_of_scikit_image(page: Any) -> None:
    colours = np.random.default_rng(4).integers(0, 256, (50, 3))
    found = page.evaluate(
        """async (colours) => colours.map((await import("/colours.js")).labOf)""", colours.tolist()
    )
    np.testing.assert_allclose(found, rgb2lab(colours / 255.0), atol=0.05)


def test_a_colour_stands_out_from_the_picture_and_from_other_objects(page: Any) -> None:
    choose = (
        """async ([pixels, taken]) => (await import("/colours.js")).standingOut(pixels, taken)"""
    )
    vivid = page.evaluate("""async () => (await import("/colours.js")).VIVID""")
    lab = {
        each: rgb2lab(np.array([int(each[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0)
        for each in vivid
    }
    for picture in ((200, 40, 30), (40, 160, 60), (30, 60, 200), (240, 240, 240), (20, 20, 20)):
        chosen = page.evaluate(choose, [[picture] * 20, []])
        here = rgb2lab(np.array(picture) / 255.0)
        assert chosen == max(vivid, key=lambda each: np.linalg.norm(lab[each] - here))
    taken: list[str] = []
    for _ in vivid:
        taken.append(page.evaluate(choose, [[(120, 110, 100)] * 20, taken]))
    assert sorted(taken) == sorted(vivid)
    for _ in vivid:  # and once more, when all are taken
        taken.append(page.evaluate(choose, [[(120, 110, 100)] * 20, taken]))
    assert sorted(taken) == sorted(vivid * 2)


DAB = """async ([ids, width, height, answer, dab, kept]) => {
    const { applyAnswer } = await import("/smart.js");
    const out = Uint8Array.from(ids);
    applyAnswer(out, width, height, 1, Uint8Array.from(answer), dab, new Set(kept));
    return [...out];
}"""


def crumbs_of(mask: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Parts of what is left that touch the removal, of at most an eighth of its size."""
    eight = np.ones((3, 3))
    left: Any = ndimage.label(mask & ~removed, eight)
    beside = ndimage.binary_dilation(removed, eight)
    found = np.zeros_like(removed)
    for part in range(1, left[1] + 1):
        own = left[0] == part
        found |= own & bool((own & beside).any() and own.sum() <= removed.sum() // 8)
    return found


def test_a_dab_changes_only_the_region_that_it_touches(page: Any) -> None:
    rng = np.random.default_rng(8)
    width, height = 24, 20
    x, y = centres(width, height)

    def blobs() -> np.ndarray:
        noise = ndimage.gaussian_filter(rng.standard_normal((height, width)), 1.5)
        return (noise > 0).astype(np.uint8)

    for on in (True, False):
        ids, answer = blobs(), blobs()
        under = np.hypot(x - 12, y - 10) <= 2
        wanted = np.where(under, on, answer == 1)
        differs = (wanted != (ids == 1)) & (wanted == on)
        labelled: Any = ndimage.label(differs)
        regions = labelled[0]
        seeds = ndimage.binary_dilation(under)
        touched = np.isin(regions, np.unique(regions[seeds & differs])) & differs
        assert 10 < touched.sum() <= ids.sum() * (1 if on else 0.5)  # one dab does so much
        expected = np.where(touched, 1 - ids, ids)
        if not on:
            expected[crumbs_of(ids == 1, touched)] = 0
        dab = {"points": [[12, 10]], "radius": 2, "on": on}
        found = page.evaluate(
            DAB, [ids.ravel().tolist(), width, height, answer.ravel().tolist(), dab, []]
        )
        assert np.array_equal(np.reshape(found, (height, width)), expected)


def test_a_dab_leaves_other_objects_and_locked_ones(page: Any) -> None:
    ids = [0, 0, 2, 2, 3, 3]
    answer = [1, 1, 1, 1, 1, 1]
    # The dab lies on the third and the fifth pixel; object 3 is locked.
    dab = {"points": [[2.5, 0.5], [4.5, 0.5]], "radius": 0.4, "on": True}
    found = page.evaluate(DAB, [ids, 6, 1, answer, dab, [3]])
    assert found[:2] == [1, 1]
    assert found[2] == 1
    assert found[4:] == [3, 3]


def test_one_dab_cannot_turn_a_mask_over(page: Any) -> None:
    # The answer would remove all of a row of 20 pixels, or fill all 40: a dab on the fourth pixel
    # removes the nearest half, and one on the last pixel of the object adds as many as there are.
    ids = [1] * 20 + [0] * 20
    off = {"points": [[3.5, 0.5]], "radius": 0.4, "on": False}
    found = page.evaluate(DAB, [ids, 40, 1, [0] * 40, off, []])
    assert found == [0] * 10 + [1] * 10 + [0] * 20
    ids = [1] * 8 + [0] * 32
    on = {"points": [[8.5, 0.5]], "radius": 0.4, "on": True}
    found = page.evaluate(DAB, [ids, 40, 1, [1] * 40, on, []])
    assert found == [1] * 16 + [0] * 24
    # An object without pixels becomes the answer.
    found = page.evaluate(DAB, [[0] * 40, 40, 1, [1] * 30 + [0] * 10, on, []])
    assert found == [1] * 30 + [0] * 10


def test_undo_and_redo_run_in_order(page: Any) -> None:
    done = page.evaluate(
        """async () => {
            const { History } = await import("/history.js");
            const told = [];
            const history = new History((undo, redo) => told.push([undo, redo]));
            const log = [];
            const slow = (text) => async () => {
                await new Promise((resolve) => setTimeout(resolve, 5));
                log.push(text);
            };
            for (const name of ["a", "b"]) {
                const [undo, redo] = [slow(`-${name}`), slow(`+${name}`)];
                history.push({ label: name, bytes: 1, undo, redo });
            }
            await Promise.all([history.undo(), history.undo(), history.undo(), history.redo()]);
            history.push({ label: "c", bytes: 1, undo: slow("-c"), redo: slow("+c") });
            await history.redo();
            return [log, told.at(-1)];
        }"""
    )
    assert done == [["-b", "-a", "+a"], ["c", None]]


def test_a_point_stays_under_the_pointer_while_zooming(page: Any) -> None:
    ends = page.evaluate(
        """async () => {
            const { View } = await import("/view.js");
            const view = new View();
            view.setStage(900, 700);
            view.setFrame(640, 360);
            const before = view.toFrame(300, 400);
            view.zoomTo(3.7, 300, 400);
            const after = view.toFrame(300, 400);
            const back = view.toFrame(...Object.values(view.toStage({ x: 123.25, y: 45.5 })));
            return [before.x - after.x, before.y - after.y, back.x, back.y, view.scale];
        }"""
    )
    np.testing.assert_allclose(ends, [0, 0, 123.25, 45.5, 3.7], atol=1e-9)


def test_boxes_of_objects_for_their_names(page: Any) -> None:
    ids = np.zeros((12, 15), np.uint8)
    ids[2:5, 3:9] = 1
    ids[7, 14] = 254
    ids[11, 0] = 2
    found = page.evaluate(
        """async ([ids, width, height]) => {
            const { outlines } = await import("/outline.js");
            const found = outlines(Uint8Array.from(ids), width, height);
            return [...found].map(([id, { box }]) => [id, box]);
        }""",
        [ids.ravel().tolist(), 15, 12],
    )
    expected = {}
    for i in (1, 2, 254):
        rows, columns = np.nonzero(ids == i)
        expected[i] = {
            "x0": columns.min(), "y0": rows.min(), "x1": columns.max() + 1, "y1": rows.max() + 1
        }  # fmt: skip
    assert dict(found) == expected


def test_a_removal_takes_the_crumbs_beside_it_along(page: Any) -> None:
    rng = np.random.default_rng(9)
    width, height = 40, 30
    sizes = []
    for _ in range(12):
        ids = np.zeros((height, width), np.uint8)
        ids[2:28, 2:14] = 1  # the object
        ids[4:24, 20:36] = 1  # an island
        answer = np.zeros((height, width), np.uint8)
        answer[2:28, 2:14] = 1
        for _ in range(6):  # what the answer would leave of the island
            y, x = rng.integers(4, 23), rng.integers(20, 35)
            answer[y : y + rng.integers(1, 7), x : x + rng.integers(1, 7)] = 1
        dab = {"points": [[28.5, 14.5]], "radius": 3, "on": False}
        found = page.evaluate(
            DAB, [ids.ravel().tolist(), width, height, answer.ravel().tolist(), dab, []]
        )
        x, y = centres(width, height)
        under = np.hypot(x - 28.5, y - 14.5) <= 3
        labelled: Any = ndimage.label((ids == 1) & (under | (answer == 0)))
        removed = labelled[0] == labelled[0][14, 28]
        crumbs = crumbs_of(ids == 1, removed)
        sizes.append(crumbs.sum())
        expected = np.where(removed | crumbs, 0, ids)
        assert np.array_equal(np.reshape(found, (height, width)), expected)
    assert max(sizes) > 0


TOPS = """async ([ids, width, height]) => {
    const { topsOf } = await import("/labels.js");
    return [...topsOf(Uint8Array.from(ids), width, height)].map(([id, { x, y }]) => [id, x, y]);
}"""


def test_a_name_stands_at_the_top_of_the_largest_part(page: Any) -> None:
    rng = np.random.default_rng(11)
    for n in range(30):
        height, width = int(rng.integers(1, 24)), int(rng.integers(1, 30))
        noise = [
            ndimage.gaussian_filter(rng.standard_normal((height, width)), rng.uniform(0.3, 2))
            for _ in range(3)
        ]
        ids = np.array([0, 1, 2, 254])[
            np.argmax([np.full((height, width), n % 3 * 0.1), *noise], 0)
        ]
        found = page.evaluate(TOPS, [ids.ravel().tolist(), width, height])
        assert sorted(i for i, _, _ in found) == [i for i in (1, 2, 254) if (ids == i).any()]
        for i, x, y in found:
            parts: Any = ndimage.label(ids == i)
            sizes = np.bincount(parts[0].ravel())[1:]
            part = parts[0] == parts[0][int(y), int(x)]
            assert ids[int(y), int(x)] == i
            assert part.sum() == sizes.max()
            assert np.nonzero(part)[0].min() == y
            edge: Any = ndimage.label(part[int(y)])
            assert np.bincount(edge[0])[1:].max() == (edge[0] == edge[0][int(x)]).sum()


def test_names_are_moved_apart(page: Any) -> None:
    rng = np.random.default_rng(12)
    apart = """async ([boxes, room]) => (await import("/labels.js")).apart(boxes, room)"""
    room = {"x": 4, "y": 56, "width": 500, "height": 400}
    for count in (1, 2, 3, 8, 12):
        boxes = [
            {"x": float(x), "y": float(y), "width": float(w), "height": 20}
            for x, y, w in zip(
                rng.uniform(-60, 560, count),
                rng.uniform(0, 500, count),
                rng.uniform(30, 120, count),
                strict=True,
            )
        ]
        boxes[-1] = {**boxes[0], "x": boxes[0]["x"] + 5}
        found = page.evaluate(apart, [boxes, room])
        for one, box in zip(found, boxes, strict=True):
            assert room["x"] <= one["x"] <= room["x"] + room["width"] - one["width"]
            assert room["y"] <= one["y"] <= room["y"] + room["height"] - 20
            assert one["width"] == box["width"]
        for i, a in enumerate(found):
            for b in found[:i]:
                beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
                assert beside or abs(a["y"] - b["y"]) >= 20
    # Those that do not touch stay where they are.
    free = [{"x": 10.0, "y": 100.0, "width": 50.0, "height": 20}]
    free.append({**free[0], "y": 130.0})
    assert page.evaluate(apart, [free, room]) == free
    assert page.evaluate(apart, [[*free, {**free[0], "y": 101.0}], room])[2]["y"] == 77


def test_what_follow_will_do_is_said(page: Any) -> None:
    project = {
        "id": "p", "frame_count": 90, "counted": True, "job": None,
        "objects": [{"id": 1, "name": "cup", "colour": "#ff0000"}],
        "references": {"0": [1]}, "computed": [], "stale": [],
    }  # fmt: skip

    def hint(**changes: Any) -> str:
        return page.evaluate(
            """async ([project]) => {
                const { hintOf } = await import("/hint.js");
                const state = { project, connected: true, active: 1, frame: 0, busy: 0 };
                return hintOf(state);
            }""",
            [{**project, **changes}],
        )

    assert hint() == "Press Follow"
    assert hint(computed=[[0, 50]]) == "Press Follow to go on"
    again = "Press Follow: only the hatched frames are computed again"
    assert hint(computed=[[0, 89]], stale=[[30, 89]]) == again
    # Frames without a mask are computed too, and that is said.
    both = "Press Follow: the hatched frames are computed again, and those that have no mask yet"
    assert hint(computed=[[0, 50]], stale=[[30, 50]]) == both
    assert hint(computed=[[0, 20], [40, 89]], stale=[[40, 50]]) == both
    assert hint(computed=[[10, 89]], stale=[[40, 50]]) == both
    assert hint(computed=[[0, 89]]).startswith("Something wrong?")


def test_ranges_of_frames(page: Any) -> None:
    rng = np.random.default_rng(13)
    frames: set[int] = set()
    ranges: list[list[int]] = []
    for _ in range(200):
        frame, more = int(rng.integers(0, 30)), bool(rng.random() < 0.6)
        name = "withFrame" if more else "withoutFrame"
        ranges = page.evaluate(
            """async ([name, ...rest]) => (await import("/ranges.js"))[name](...rest)""",
            [name, ranges, frame],
        )
        (frames.add if more else frames.discard)(frame)
        starts = sorted(f for f in frames if f - 1 not in frames)
        ends = sorted(f for f in frames if f + 1 not in frames)
        assert ranges == [list(each) for each in zip(starts, ends, strict=True)]


def test_a_step_that_came_to_nothing_is_forgotten(page: Any) -> None:
    told = page.evaluate(
        """async () => {
            const { History } = await import("/history.js");
            const told = [];
            const history = new History((undo, redo) => told.push([undo, redo]));
            const nothing = async () => undefined;
            const step = (label) => ({ label, bytes: 0, undo: nothing, redo: nothing });
            const [a, b] = [step("a"), step("b")];
            history.push(a);
            history.push(b);
            const answers = [history.retract(a), history.retract(b), history.retract(b)];
            await history.undo();
            return [answers, history.last, told.at(-1)];
        }"""
    )
    assert told == [[False, True, False], None, [None, "a"]]


@pytest.mark.slow
def test_types_are_right() -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("needs tsc (npm install -g typescript)")
    strict = ["--noEmit", "--allowJs", "--checkJs", "--strict"]
    browser = ["--target", "es2022", "--module", "es2022", "--lib", "es2022,dom,dom.iterable"]
    files = [str(file) for file in sorted(PAGE.glob("*.js"))]
    done = subprocess.run([tsc, *strict, *browser, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_page_loads_nothing_from_elsewhere_and_names_every_module() -> None:
    readme = (PAGE / "README.md").read_text()
    for file in PAGE.iterdir():
        if file.suffix in (".js", ".css", ".html"):
            content = file.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in content
            assert "https://" not in content
        if file.suffix == ".js":
            assert f"({file.name})" in readme


def test_modules_are_small() -> None:
    for file in PAGE.glob("*.js"):
        assert len(file.read_text().splitlines()) <= 400, file.name
