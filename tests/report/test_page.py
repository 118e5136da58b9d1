"""The page about a run: one file that needs nothing else, and says what the report says."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from propagate.batch.manifest import BatchVideo
from propagate.batch.schedule import run_batch
from propagate.batch.tasks import BatchSettings
from propagate.config import Config
from propagate.errors import OutputError
from propagate.pipeline import Propagator
from propagate.report.page import clock, write_report
from propagate.report.saved import SavedRun
from propagate.report.thumbnails import Look, worst_positions
from propagate.report.timeline import Bins, bin_names, make_bins
from propagate.run_options import RunOptions
from tests.batch_runs import here
from tests.html_page import Page

ODD = """</script><img src=x onerror="alert('&')">"""


def report(frames=12, objects=2, seed=0, **entries):
    """A `result.json` of made-up scores: objects are lost now and then."""
    rng = np.random.default_rng(seed)
    shape = frames, objects
    states = rng.choice(["tracked", "unsure", "absent"], shape, p=[0.8, 0.1, 0.1]).tolist()
    margins, scores = (np.round(rng.uniform(0, 1, shape), 4).tolist() for _ in range(2))
    per_frame = []
    for t in range(frames):
        found = {}
        for i in range(1, objects + 1):
            state = states[t][i - 1]
            margin = 0.0 if state == "absent" else margins[t][i - 1]
            found[str(i)] = {"score": scores[t][i - 1], "margin": margin, "state": state}
        per_frame.append({"name": f"{t:05d}", "time_s": t / 25, "objects": found})
    return {
        "source": "gone.mp4",
        "decoder": "pyav",
        "references_sha256": {"0": "aa"},
        "frames": frames,
        "per_frame": per_frame,
        **entries,
    }


def folder_with(path, content, name="result.json"):
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def page_of(folder, **options):
    return Page(write_report(folder, **options).read_text())


@pytest.fixture(scope="module")
def followed(drawn, tmp_path_factory):
    """A run of the drawn clip, from references on frames 0 and 6."""
    out = tmp_path_factory.mktemp("followed")
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    masks = {0: drawn.truth[0], 6: drawn.truth[6]}
    return propagator.run(drawn.mp4, masks, out, report=True, formats=("png", "rle")).folder


@pytest.fixture
def copied(followed, tmp_path):
    return shutil.copytree(followed, tmp_path / "clip")


def pictures(page):
    found = []
    for image in page.all("img"):
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
        found.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int))
    return found


@pytest.mark.slow
def test_a_run_writes_the_page_and_it_needs_nothing_else(followed):
    text = (followed / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not page.all("link")
    for _, attributes in page.elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"https?://|@import|url\(", text)
    targets = {a["href"] for _, a in page.elements if "href" in a}
    assert targets - {f"#{a['id']}" for _, a in page.elements if "id" in a} == {"#-"}


@pytest.mark.slow
def test_the_page_says_what_the_report_says(followed):
    page = Page((followed / "report.html").read_text())
    result = json.loads((followed / "result.json").read_text())
    charts = [a for a in page.all("svg") if "chart" in a.get("class", "")]
    assert len(charts) == 2
    for i in ("1", "2"):
        margins = [frame["objects"][i]["margin"] for frame in result["per_frame"]]
        assert f"{min(margins):.2f}" in page.text
    assert len([a for a in page.all("line") if a["class"] == "tick"]) == 2 * 2
    assert "reference, frame 6" in page.text
    assert result["versions"]["numpy"] in page.text
    for colour in (entry["colour"] for entry in result["objects"].values()):
        assert page.all("span", style=f"--swatch:{colour}")


@pytest.mark.slow
def test_pictures_show_the_frames_under_their_masks(followed, drawn):
    page = Page((followed / "report.html").read_text())
    shots = [a["id"] for a in page.all("figure") if a.get("class") == "shot"]
    colours = json.loads((followed / "result.json").read_text())["objects"]
    for shot, picture in zip(shots, pictures(page), strict=True):
        position = int(shot.removeprefix("f"))
        image = drawn.images[position].astype(int)
        ids = np.asarray(Image.open(followed / f"masks/{position:05d}.png"))
        far = ids == 0
        for axis in (0, 1):
            for step in range(-14, 15):
                far &= np.roll(ids, step, axis) == 0
        if far.any():
            assert np.abs(picture[far] - image[far]).mean() < 12
        own = np.array(bytearray.fromhex(colours["1"]["colour"][1:])).astype(int)
        y, x = (int(v.mean()) for v in np.nonzero(drawn.truth[position] == 1))
        half = (image[y, x] + own) / 2
        part = picture[y - 6 : y + 7, x - 6 : x + 7].reshape(-1, 3)
        assert np.abs(part - half).mean(axis=1).min() < 30


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["png", "rle"])
def test_without_the_source_masks_are_shown_alone(copied, masks):
    result = json.loads((copied / "result.json").read_text())
    (copied / "result.json").write_text(json.dumps({**result, "source": "/gone/clip.mp4"}))
    if masks == "rle":
        shutil.rmtree(copied / "masks")
    page = page_of(copied)
    assert "/gone/clip.mp4" in page.text
    assert "masks are shown alone" in page.text
    assert len(page.all("img")) > 0
    for picture in pictures(page):
        grey = (np.abs(picture - 44) < 12).all(axis=2)
        assert 0.1 < grey.mean() < 0.9


@pytest.mark.slow
def test_a_source_of_another_size_is_not_drawn_on(copied, drawn, write_video, tmp_path):
    other = write_video(tmp_path / "other.mp4", [image[:32] for image in drawn.images])
    result = json.loads((copied / "result.json").read_text())
    (copied / "result.json").write_text(json.dumps({**result, "source": str(other)}))
    assert "is of another size" in page_of(copied).text


@pytest.mark.slow
def test_an_unfinished_run_has_a_page_too(drawn, tmp_path):
    from tests.test_saved_state import interrupted

    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    interrupted(propagator, drawn.mp4, {0: drawn.truth[0]}, tmp_path, 7)
    page = page_of(tmp_path / "clip")
    assert "This run is not finished." in page.text
    assert "7 frames, 2 objects" in page.text
    assert len(page.all("img")) > 0


@pytest.mark.slow
def test_an_unfinished_run_of_images_has_no_times(drawn, tmp_path):
    from tests.test_saved_state import interrupted

    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    masks = {0: drawn.truth[0], 3: drawn.truth[3]}
    interrupted(propagator, drawn.folder, masks, tmp_path, 7, backwards="none")
    run = SavedRun(tmp_path / drawn.folder.name)
    assert run.references() == {0: 0, 3: 3}
    assert "0:00" not in page_of(run.folder).text


@pytest.mark.slow
def test_a_finished_run_gets_its_page_later(followed, drawn, tmp_path):
    folder = shutil.copytree(followed, tmp_path / "out/clip")
    (folder / "report.html").unlink()
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    masks = {0: drawn.truth[0], 6: drawn.truth[6]}
    options = {"report": True, "formats": ("png", "rle"), "keep_finished": True}
    assert propagator.run(drawn.mp4, masks, tmp_path / "out", **options).was_finished
    assert (folder / "report.html").exists()


@pytest.mark.slow
def test_frames_of_a_range_of_a_folder_are_the_right_ones(drawn, tmp_path):
    from propagate.io.decode.frame_range import FrameRange
    from propagate.io.decode.options import SourceOptions

    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    options = SourceOptions(frame_range=FrameRange(2, 11, stride=3))
    folder = propagator.run(
        drawn.folder, {5: drawn.truth[5]}, tmp_path, source_options=options
    ).folder
    run = SavedRun(folder)
    assert run.references() == {1: 5}
    found, why = run.images({"img_105", "img_108"})
    assert why is None
    assert set(found) == {"img_105", "img_108"}
    assert all(np.array_equal(found[f"img_{100 + i}"], drawn.images[i]) for i in (5, 8))
    page = page_of(folder)
    assert "0:00.00" not in page.text  # images have no times


@pytest.mark.slow
def test_run_prints_the_path_of_its_page(drawn, tmp_path, propagate):
    finished = propagate(
        *("run", drawn.mp4, "-m", drawn.mask, "-o", tmp_path, "--model", "color", "--report"),
        *("--max-frames", 3),
    )
    page = tmp_path / "clip" / "report.html"
    assert finished.stdout.splitlines()[-1] == str(page)
    assert "report.html;" in finished.stdout
    assert "3 frames, 2 objects" in Page(page.read_text()).text


@pytest.mark.slow
def test_each_video_of_a_batch_gets_its_page(drawn, tmp_path):
    videos = [BatchVideo(drawn.mp4, name, drawn.mask) for name in ("one", "two")]
    run = RunOptions(max_frames=3, report=True)
    settings = BatchSettings(model="color", device="cpu", short_side_px=64, run=run)
    out = tmp_path / "out"
    summary = run_batch(videos, out, settings, engine=here)
    assert [video.state for video in summary.videos] == ["done", "done"]
    for name in ("one", "two"):
        assert "3 frames, 2 objects" in Page((out / name / "report.html").read_text()).text


@pytest.mark.slow
def test_ten_thousand_frames_of_twenty_objects_stay_small(tmp_path):
    folder = folder_with(tmp_path / "long", report(10_000, 20))
    text = write_report(folder).read_text()
    assert len(text) < 1_500_000
    page = Page(text)
    assert "Each point is the lowest of 20 frames." in page.text
    assert len([a for a in page.all("svg") if "chart" in a.get("class", "")]) == 20


@pytest.mark.slow
def test_many_objects_stay_small_too(tmp_path):
    text = write_report(folder_with(tmp_path / "many", report(600, 254))).read_text()
    assert len(text) < 1_500_000


def test_a_point_is_the_lowest_of_its_frames_and_a_bar_their_worst_state(tmp_path):
    result = report(1100, 1)
    for frame in result["per_frame"]:
        frame["objects"]["1"] = {"score": 0.9, "margin": 0.8, "state": "tracked"}
    result["per_frame"][500]["objects"]["1"] = {"score": 0.4, "margin": 0.25, "state": "unsure"}
    page = page_of(folder_with(tmp_path / "clip", result))
    # 1100 frames in bins of 3; the plot is 66 units high, its top at 8.
    heights = {
        float(p.split(",")[1])
        for a in page.all("polyline")
        for p in a["points"].split()
        if "," in p and float(p.split(",")[0]) > 30
    }
    assert heights == {round(8 + 66 * (1 - v), 1) for v in (0.9, 0.8, 0.4, 0.25)}
    bars = {a["class"]: a["d"] for a in page.all("path") if "H26" not in a["d"][-4:]}
    assert bars["unsure"].count("M") == 1
    assert bars["tracked"].count("M") == 2


def certain(frames, objects):
    """A report without any doubt."""
    result = report(frames, objects)
    for frame in result["per_frame"]:
        for entry in frame["objects"].values():
            entry.update(score=0.9, margin=0.8, state="tracked")
    return result


@pytest.mark.parametrize(("lowest", "low"), [(-0.43, -0.5), (-0.8, -1.0), (-0.5, -0.5)])
def test_a_margin_below_0_is_drawn_below_0(tmp_path, lowest, low):
    result = certain(30, 1)
    result["per_frame"][20]["objects"]["1"].update(margin=lowest, state="unsure")
    page = page_of(folder_with(tmp_path / "clip", result))
    heights = {
        float(p.split(",")[1])
        for a in page.all("polyline")
        for p in a["points"].split()
        if float(p.split(",")[0]) > 30
    }
    # The plot is 66 units high, its top at 8, and reaches from 1 down to `low`.
    assert heights == {round(8 + 66 * (1 - v) / (1 - low), 1) for v in (0.9, 0.8, lowest)}
    assert max(heights) <= 74
    assert f"{low:g}" in page.text
    assert "below 0, another label is ahead" in page.text
    # The script reads 0 where the line of 0 is, and 1 at the top.
    (body,) = page.all("body")
    top, zero = json.loads(body["data-plot"])[2:]
    assert (top, zero) == (8, round(8 + 66 / (1 - low), 1))


def test_rings_are_on_the_objects_that_a_picture_is_about(tmp_path):
    result = certain(60, 3)
    for t, i in ((10, "2"), (30, "2"), (30, "3"), (50, "1")):
        result["per_frame"][t]["objects"][i].update(margin=0.05, state="unsure")
    chosen = worst_positions(result)
    assert {t: look.object_ids for t, look in chosen.items() if t in (10, 30, 50)} == {
        10: (2,),
        30: (2, 3),
        50: (1,),
    }
    folder = folder_with(tmp_path / "clip", result)
    for t in range(60):
        mask = np.zeros((20, 30), np.uint8)
        mask[:5, :5], mask[8:12, 8:12], mask[15:, 20:] = 1, 2, 3
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / f"masks/{t:05d}.png")
    text = write_report(folder).read_text()
    charts = re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL)
    rings = [set(re.findall(r'href="#f(\d+)"', chart)) & {"10", "30", "50"} for chart in charts]
    assert rings == [{"50"}, {"10", "30"}, {"30"}]


def test_bins_cover_every_frame_once():
    for frames in (1, 2, 519, 520, 521, 10_000, 99_999):
        for objects in (0, 1, 20, 254):
            bins = make_bins(frames, objects)
            assert bins.count * bins.size >= frames > (bins.count - 1) * bins.size
            assert bins.count <= 520
            assert [bins.of(p) for p in (0, frames - 1)] == [0, bins.count - 1]
    names = [{"name": n} for n in "abcde"]
    assert bin_names(names, Bins(2, 3)) == ["a to b", "c to d", "e"]


def test_names_and_errors_from_outside_stay_text(tmp_path):
    result = report(5, 1, source=ODD, notes=[ODD], error=ODD, model=ODD)
    result["objects"] = {"1": {"name": ODD, "colour": "#ff0000"}}
    result["per_frame"][0]["name"] = ODD
    folder = folder_with(tmp_path / "clip", result, "incomplete.json")
    text = write_report(folder).read_text()
    page = Page(text)
    assert text.count("<script") == text.count("</script>") == 1
    assert not page.all("img", src="x")
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    assert page.open == []


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_the_shortest_runs_have_a_page(tmp_path, frames):
    page = page_of(folder_with(tmp_path / "clip", report(frames, 1), "incomplete.json"))
    assert page.open == []


def test_a_run_of_no_object_has_a_page(tmp_path):
    assert "No object was followed." in page_of(folder_with(tmp_path / "c", report(3, 0))).text


def test_a_live_source_is_not_opened(tmp_path):
    result = report(5, 1, source="rtsp://127.0.0.1:9/x")
    assert "cannot be read again" in page_of(folder_with(tmp_path / "c", result)).text


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"per_frame": 3}', '{"per_frame": [{}]}'])
def test_a_broken_report_is_one_line(tmp_path, content):
    with pytest.raises(OutputError, match=r"result.json: not a readable report of a run") as caught:
        write_report(folder_with(tmp_path / "c", content))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_one_line(tmp_path, propagate):
    finished = propagate("report", tmp_path)
    assert finished.status == 1
    assert finished.stderr.count("\n") == 1
    assert "neither result.json nor incomplete.json" in finished.stderr


def test_the_command_prints_the_path_and_replaces_no_file_unasked(tmp_path, propagate):
    folder = folder_with(tmp_path / "clip", report())
    for _ in range(2):  # the page in the folder is replaced
        finished = propagate("report", folder)
        assert finished.stdout == f"{folder / 'report.html'}\n"
    other = tmp_path / "pages" / "a.html"
    assert propagate("report", folder, "-o", other).stdout == f"{other}\n"
    refused = propagate("report", folder, "-o", other)
    assert refused.status == 1
    assert "--overwrite" in refused.stderr
    assert propagate("report", folder, "-o", other, "--overwrite").status == 0


def test_the_worst_frames_lie_apart_and_the_most_doubtful_come_first():
    result = report(240, 1)
    for frame in result["per_frame"]:
        frame["objects"]["1"] = {"score": 0.9, "margin": 0.8, "state": "tracked"}

    def put(t, margin, state="tracked"):
        result["per_frame"][t]["objects"]["1"] = {"score": 0.3, "margin": margin, "state": state}

    put(100, 0.15)
    put(105, 0.1)  # within a 24th of 240 frames
    put(200, 0.0, "absent")
    chosen = worst_positions(result)
    assert chosen[105] == Look("object 1 margin 0.10", (1,))
    assert chosen[200] == Look("object 1 becomes absent", (1,))
    assert 100 not in chosen
    assert len(chosen) == 6
    assert min(np.diff(sorted(chosen))) > 10


def test_times_are_minutes_seconds_and_hundredths():
    assert [clock(s) for s in (0, 59.996, 65.2, -1.5)] == [
        "0:00.00",
        "1:00.00",
        "1:05.20",
        "-0:01.50",
    ]


@pytest.mark.parametrize("change", [{"per_frame": [{"name": "0"}]}, {"object_ids": None}])
def test_a_report_that_no_run_wrote_is_one_line(tmp_path, change):
    entries = {"frames": 0, "config": {}, "object_ids": [], "per_frame": [], **change}
    (tmp_path / "result.json").write_text(json.dumps(entries))
    with pytest.raises(OutputError) as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)
