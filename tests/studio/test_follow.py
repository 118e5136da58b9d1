"""Following, stopping, going on, exchanging and taking away: on a real server with a real model."""

import io
import json
import zipfile

import av
import numpy as np
import pytest
from PIL import Image

from propagate.pipeline import Propagator
from tests.studio_server import packed, running

pytestmark = pytest.mark.slow


@pytest.fixture
def client(drawn, tmp_path):
    with running(drawn.mp4.parent, tmp_path / "out", drawn.mp4, drawn.folder) as client:
        yield client


@pytest.fixture
def project(client):
    return next(p["id"] for p in client.get("/api/state").json["projects"] if p["name"] == "clip")


def label(client, project, index, ids):
    answer = client.post(f"/api/projects/{project}/references/{index}", {"ids": packed(ids)})
    assert answer.status == 200
    return answer.json


def followed(client, project):
    stream = client.events(project)
    assert client.post(f"/api/projects/{project}/follow").status == 202
    events = stream.until(lambda name, data: name == "job" and data["state"] != "running")
    stream.close()
    assert events[-1][2]["error"] is None, events[-1]
    return events


def mask(client, project, index, kind="masks"):
    answer = client.get(f"/api/projects/{project}/{kind}/{index}?v=1")
    assert answer.status == 200
    return np.asarray(Image.open(io.BytesIO(answer.body)))


def test_follow_writes_what_run_writes(client, project, drawn, tmp_path):
    assert client.post(f"/api/projects/{project}/follow").status == 400
    label(client, project, 0, drawn.truth[0])
    events = followed(client, project)
    assert events[-1][2]["state"] == "finished"
    indices = [data["index"] for _, name, data in events if name == "frame"]
    assert indices == list(range(12))
    numbers = [int(number) for number, _, _ in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    Propagator("color").run(drawn.mp4, {0: drawn.mask}, tmp_path / "run")
    for index in range(12):
        expected = np.asarray(Image.open(tmp_path / f"run/clip/masks/{index:05d}.png"))
        np.testing.assert_array_equal(mask(client, project, index), expected)
    found = client.get(f"/api/projects/{project}").json
    assert (found["computed"], found["stale"], found["job"]) == ([[0, 11]], [], None)
    report = json.loads((tmp_path / "run/clip/result.json").read_text())
    timeline = client.get(f"/api/projects/{project}/timeline").json
    assert timeline["frames"] == 12
    for i in ("1", "2"):
        told = [frame["objects"][i] for frame in report["per_frame"]]
        series = timeline["objects"][i]
        assert series["score"] == [object["score"] for object in told]
        assert series["margin"] == [object["margin"] for object in told]
        assert series["state"] == [object["state"][0] for object in told]


def test_a_correction_makes_later_masks_stale_until_it_is_followed(client, project, drawn):
    label(client, project, 0, drawn.truth[0])
    followed(client, project)
    assert label(client, project, 6, drawn.truth[6])["stale"] == [[6, 11]]
    # Taking it back makes nothing stale.
    assert client.post(f"/api/projects/{project}/references/6/delete").json["stale"] == []
    label(client, project, 6, drawn.truth[6])
    folder = client.studio.settings.out / "clip"
    before = {file.name: file.read_bytes() for file in (folder / "masks").iterdir()}
    events = followed(client, project)
    indices = [data["index"] for _, name, data in events if name == "frame"]
    assert indices == list(range(6, 12))
    for index in range(6):
        name = f"{index:05d}.png"
        assert (folder / "masks" / name).read_bytes() == before[name]
    assert client.get(f"/api/projects/{project}").json["stale"] == []
    np.testing.assert_array_equal(mask(client, project, 6), drawn.truth[6])


def test_one_job_at_a_time_and_a_stopped_one_goes_on(client, project, drawn, monkeypatch):
    other = next(p["id"] for p in client.get("/api/state").json["projects"] if p["id"] != project)
    label(client, project, 0, drawn.truth[0])
    label(client, other, 0, drawn.truth[0])
    stream = client.events(project)
    assert client.post(f"/api/projects/{project}/follow").status == 202
    for path in (f"{project}/follow", f"{other}/follow", f"{project}/swap"):
        answer = client.post(f"/api/projects/{path}", {"a": 1, "b": 2, "frames": None})
        assert answer.status == 409
        assert answer.json["error"]
    stream.until(lambda name, _: name == "frame")
    client.post(f"/api/projects/{project}/stop")
    events = stream.until(lambda name, data: name == "job" and data["state"] != "running")
    stream.close()
    assert events[-1][2]["state"] in ("stopped", "finished")
    followed(client, project)
    assert client.get(f"/api/projects/{project}").json["computed"] == [[0, 11]]


def test_a_run_that_fails_says_so_in_one_line_and_the_server_goes_on(client, project, drawn):
    (client.studio.settings.out / "clip").mkdir(parents=True)
    (client.studio.settings.out / "clip/foreign.txt").write_text("somebody's own")
    label(client, project, 0, drawn.truth[0])
    stream = client.events(project)
    client.post(f"/api/projects/{project}/follow")
    events = stream.until(lambda name, data: name == "job" and data["state"] != "running")
    stream.close()
    assert events[-1][2]["state"] == "failed"
    assert "files of another run" in events[-1][2]["error"]
    assert client.get(f"/api/projects/{project}").json["job"] is None
    assert (client.studio.settings.out / "clip/references/00000.png").exists()


def test_what_is_labelled_while_following_stays(client, project, drawn):
    for index in (0, 8, 10):
        label(client, project, index, drawn.truth[index])
    other = np.where(drawn.truth[8] == 1, 1, 0).astype(np.uint8)
    stream = client.events(project)
    assert client.post(f"/api/projects/{project}/follow").status == 202
    label(client, project, 6, drawn.truth[6])
    label(client, project, 8, other)
    client.post(f"/api/projects/{project}/references/10/delete")
    stream.until(lambda name, data: name == "job" and data["state"] != "running")
    stream.close()
    np.testing.assert_array_equal(mask(client, project, 6, "references"), drawn.truth[6])
    np.testing.assert_array_equal(mask(client, project, 8, "references"), other)
    folder = client.studio.settings.out / "clip/references"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["00000.png", "00006.png", "00008.png"]


def test_exchanged_masks_are_not_taken_for_those_of_a_label_that_is_put_back(
    client, project, drawn
):
    label(client, project, 0, drawn.truth[0])
    followed(client, project)
    label(client, project, 0, np.roll(drawn.truth[0], 2, axis=1))
    body = {"a": 1, "b": 2, "frames": None}
    assert client.post(f"/api/projects/{project}/swap", body).status == 200
    assert label(client, project, 0, drawn.truth[0])["stale"] == [[0, 11]]
    followed(client, project)
    np.testing.assert_array_equal(mask(client, project, 0), drawn.truth[0])


def test_ids_are_exchanged_in_a_range(client, project, drawn):
    label(client, project, 0, drawn.truth[0])
    followed(client, project)
    before = [mask(client, project, index) for index in range(12)]
    scores = client.get(f"/api/projects/{project}/timeline").json["objects"]
    table = np.arange(256)
    table[[1, 2]] = 2, 1
    answer = client.post(f"/api/projects/{project}/swap", {"a": 1, "b": 2, "frames": [4, 8]})
    assert (answer.status, answer.json["stale"]) == (200, [])
    for index in range(12):
        expected = table[before[index]] if 4 <= index <= 8 else before[index]
        np.testing.assert_array_equal(mask(client, project, index), expected)
    now = client.get(f"/api/projects/{project}/timeline").json["objects"]
    assert now["1"]["score"][4:9] == scores["2"]["score"][4:9]
    assert now["1"]["score"][9:] == scores["1"]["score"][9:]


def test_ids_that_are_exchanged_everywhere_stay_those_of_the_references(client, project, drawn):
    label(client, project, 0, drawn.truth[0])
    followed(client, project)
    found = client.post(f"/api/projects/{project}/swap", {"a": 1, "b": 9, "frames": None}).json
    assert found["references"] == {"0": [2, 9]}
    assert found["stale"] == []
    np.testing.assert_array_equal(
        mask(client, project, 0, "references"), np.where(drawn.truth[0] == 1, 9, drawn.truth[0])
    )
    # The report in the folder says the same: following again finds nothing to do.
    events = followed(client, project)
    assert [name for _, name, _ in events if name == "frame"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"a": 1, "b": 1, "frames": None},
        {"a": 0, "b": 1, "frames": None},
        {"a": 1, "b": 255, "frames": None},
        {"a": 1, "b": 2, "frames": [1]},
        {"a": 1, "b": 2, "frames": "all"},
        {"a": "1", "b": 2},
        {},
    ],
)
def test_a_swap_that_makes_no_sense_is_refused(client, project, body):
    assert client.post(f"/api/projects/{project}/swap", body).status == 400


def test_an_export_holds_the_chosen_objects(client, project, drawn):
    label(client, project, 0, drawn.truth[0])
    followed(client, project)
    objects = [{"id": i, "name": f"cup {i}", "colour": "#00ff00"} for i in (1, 2)]
    client.post(f"/api/projects/{project}/objects", {"objects": objects})
    stream = client.events(project)
    body = {"objects": [2], "what": ["masks", "overlay", "rle"]}
    assert client.post(f"/api/projects/{project}/export", body).status == 202
    events = stream.until(lambda name, _: name == "exported")
    stream.close()
    answer = client.get(events[-1][2]["url"])
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        names = set(archive.namelist())
        numbered = {f"masks/{index:05d}.png" for index in range(12)}
        assert names == numbered | {"overlay.mp4", "masks.json", "objects.json"}
        for index in range(12):
            with archive.open(f"masks/{index:05d}.png") as file:
                ids = np.asarray(Image.open(file))
            found = mask(client, project, index)
            np.testing.assert_array_equal(ids, np.where(found == 2, 2, 0))
        assert json.loads(archive.read("objects.json")) == {
            "2": {"name": "cup 2", "colour": "#00ff00"}
        }
        lengths = json.loads(archive.read("masks.json"))["frames"]
        assert [[entry["id"] for entry in frame["objects"]] for frame in lengths] == [[2]] * 12
        with av.open(io.BytesIO(archive.read("overlay.mp4")), "r") as video:
            shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(shown) == 12
    inside = np.argwhere(drawn.truth[0] == 2).mean(axis=0).astype(int)
    red, green, _ = shown[0][tuple(inside)].astype(int)
    assert green > red + 60  # the colour of the project, not that of DAVIS
    for what in ([], ["mp3"], "masks", None):
        assert client.post(f"/api/projects/{project}/export", {"what": what}).status == 400
    assert client.get(f"/api/projects/{project}/exports/{'0' * 16}").status == 404


def test_a_mask_is_imported_as_read_mask_reads_it(client, project, drawn):
    import base64

    colours = np.zeros((48, 64, 3), np.uint8)
    colours[drawn.truth[0] == 1] = (255, 0, 0)
    colours[drawn.truth[0] == 2] = (0, 255, 0)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    body = {"frame": 0, "name": "é.png", "data": base64.b64encode(file.getvalue()).decode()}
    answer = client.post(f"/api/projects/{project}/import", body)
    assert answer.status == 200
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.body))), drawn.truth[0])
    assert "rgb(255,0,0) is object 1" in answer.headers["X-Notes"]
    small = io.BytesIO()
    Image.fromarray(colours[:40]).save(small, "PNG")
    body["data"] = base64.b64encode(small.getvalue()).decode()
    refused = client.post(f"/api/projects/{project}/import", body)
    assert refused.status == 400
    assert "the mask is 64x40, the frame 64x48" in refused.json["error"]


def test_a_client_that_comes_back_misses_nothing(client, project, drawn):
    label(client, project, 0, drawn.truth[0])
    stream = client.events(project)
    first = stream.next()
    stream.close()
    followed(client, project)
    again = client.events(project, last_id=first[0])
    events = again.until(lambda name, data: name == "job" and data["state"] == "finished")
    again.close()
    assert int(events[0][0]) == int(first[0]) + 1
    assert [data["index"] for _, name, data in events if name == "frame"] == list(range(12))


def test_two_videos_of_one_name_have_two_folders(client, drawn, tmp_path):
    other = drawn.mp4.parent / "other"
    other.mkdir(exist_ok=True)
    (other / "clip.mp4").write_bytes(drawn.mp4.read_bytes())
    folders = client.get("/api/files").json["folders"]
    [folder] = [entry["id"] for entry in folders if entry["name"] == "other"]
    [video] = client.get(f"/api/files?folder={folder}").json["videos"]
    first = next(p for p in client.studio.projects if p.name == "clip")
    label(client, first.id, 0, drawn.truth[0])
    opened = client.post("/api/open", {"file": video["id"]}).json
    assert opened["name"] == "clip-2"
    assert opened["references"] == {}
    assert client.post("/api/open", {"file": video["id"]}).json["id"] == opened["id"]
