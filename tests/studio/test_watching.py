"""The server sees what other programs do in the folders of its projects."""

import json

import numpy as np
import pytest

from propagate.errors import Stopped
from propagate.io.write.lock import take_lock
from propagate.io.write.project import parse_looks
from propagate.pipeline import Propagator
from propagate.studio.watching import stamps_of_labels, stamps_of_run
from tests.stopping import stop_at
from tests.studio_server import packed, running

FRAMES = 12


@pytest.fixture
def client(drawn, tmp_path):
    with running(drawn.mp4.parent, tmp_path / "out", drawn.mp4) as client:
        yield client


@pytest.fixture
def project(client):
    return client.get("/api/state").json["projects"][0]["id"]


@pytest.fixture
def line(drawn, tmp_path):
    """What `propagate run` does in the folder of the project."""
    model = Propagator("color", device="cpu")

    def run(references, **options):
        model.run(drawn.mp4, references, tmp_path / "out", backwards="new", update=True, **options)

    return run


def label(client, project, index, ids):
    answer = client.post(f"/api/projects/{project}/references/{index}", {"ids": packed(ids)})
    assert answer.status == 200
    return answer.json


def test_an_open_page_is_told_what_the_command_line_did(client, project, line, drawn, tmp_path):
    stream = client.events(project)
    assert stream.next()[1] == "project"
    line({0: drawn.truth[0]})
    stream.until(lambda name, data: name == "project" and is_finished(data))
    stream.until(lambda name, data: name == "outside")
    stream.close()
    told = client.get(f"/api/projects/{project}").json
    assert (told["computed"], told["stale"]) == ([[0, FRAMES - 1]], [])
    assert told["references"] == {"0": [1, 2]}
    # Its colours, and not those of a palette.
    report = json.loads((tmp_path / "out/clip/result.json").read_text())
    shown = {str(o["id"]): {"colour": o["colour"]} for o in told["objects"]}
    assert parse_looks(shown).colours == parse_looks(report["objects"]).colours
    timeline = client.get(f"/api/projects/{project}/timeline").json
    assert None not in timeline["objects"]["1"]["score"]


def is_finished(data):
    return data["computed"] == [[0, FRAMES - 1]] and not data["stale"]


def test_masks_that_a_stopped_run_has_not_reached_are_stale(client, project, line, drawn):
    line({0: drawn.truth[0]})
    both = {0: drawn.truth[0], 4: np.roll(drawn.truth[4], 2, axis=1)}
    with pytest.raises(Stopped):
        line(both, on_result=stop_at(7))
    found = client.get(f"/api/projects/{project}").json
    # The reference of frame 4 is in the folder, because the run wrote it there.
    assert sorted(found["references"]) == ["0", "4"]
    assert (found["computed"], found["stale"]) == ([[0, 11]], [[8, 11]])
    line(both)
    found = client.get(f"/api/projects/{project}").json
    assert (found["computed"], found["stale"]) == ([[0, 11]], [])


def test_following_in_the_page_shows_old_masks_as_stale_until_they_are_replaced(
    client, project, line, drawn, monkeypatch
):
    line({0: drawn.truth[0]})
    assert label(client, project, 4, np.roll(drawn.truth[4], 2, axis=1))["stale"] == [[4, 11]]
    [opened] = client.studio.projects
    seen = []
    take = type(opened).take_result

    def stop_then(self, index, track):
        take(self, index, track)
        seen.append((index, self.to_json()["stale"], self.to_json()["computed"]))
        if index == 7:
            client.studio.jobs.stop(project)

    monkeypatch.setattr(type(opened), "take_result", stop_then)
    stream = client.events(project)
    client.post(f"/api/projects/{project}/follow")
    events = stream.until(lambda name, data: name == "job" and data["state"] != "running")
    stream.close()
    assert events[-1][2]["state"] == "stopped"
    assert [(i, stale) for i, stale, _ in seen] == [(i, [(i + 1, 11)]) for i in range(4, 8)]
    assert all(computed == [(0, 11)] for _, _, computed in seen)
    found = client.get(f"/api/projects/{project}").json
    assert (found["computed"], found["stale"]) == ([[0, 11]], [[8, 11]])
    score = client.get(f"/api/projects/{project}/timeline").json["objects"]["1"]["score"]
    assert None not in score


def test_two_studios_see_what_the_other_one_labels(client, project, drawn, tmp_path):
    with running(drawn.mp4.parent, tmp_path / "out", drawn.mp4) as other:
        [theirs] = [p["id"] for p in other.get("/api/state").json["projects"]]
        stream = other.events(theirs)
        stream.next()
        label(client, project, 3, drawn.truth[3])
        objects = [{"id": i, "name": f"cup {i}", "colour": "#00ff00"} for i in (1, 2)]
        client.post(f"/api/projects/{project}/objects", {"objects": objects})
        events = stream.until(lambda name, data: name == "project" and cups(data))
        stream.close()
        assert events[-1][2]["references"] == {"3": [1, 2]}
        client.post(f"/api/projects/{project}/references/3/delete")
        assert other.get(f"/api/projects/{theirs}").json["references"] == {}
        assert [o["name"] for o in other.get(f"/api/projects/{theirs}").json["objects"]] == [
            "cup 1",
            "cup 2",
        ]


def cups(data):
    return [o["name"] for o in data["objects"]] == ["cup 1", "cup 2"]


def test_a_video_that_is_opened_again_is_read_again(client, project, line, drawn):
    line({0: drawn.truth[0]})
    [opened] = client.studio.projects
    assert client.studio.open(drawn.mp4) is opened
    assert opened.to_json()["computed"] == [(0, FRAMES - 1)]


def test_what_the_page_does_itself_is_no_news(client, project, drawn):
    label(client, project, 0, drawn.truth[0])
    label(client, project, 5, drawn.truth[5])
    client.post(f"/api/projects/{project}/references/5/delete")
    before = client.get(f"/api/projects/{project}").json["revision"]
    client.studio.projects[0].look()
    assert client.get(f"/api/projects/{project}").json["revision"] == before


def test_a_folder_that_another_program_writes_into_is_left_alone(client, project, drawn, tmp_path):
    label(client, project, 0, drawn.truth[0])
    with take_lock(tmp_path / "out/clip"):
        stream = client.events(project)
        assert client.post(f"/api/projects/{project}/follow").status == 202
        events = stream.until(lambda name, data: name == "job" and data["state"] != "running")
        stream.close()
        line = events[-1][2]["error"]
        assert "in use by process" in line
        assert "\n" not in line
        body = {"a": 1, "b": 2, "frames": None}
        refused = client.post(f"/api/projects/{project}/swap", body)
        assert refused.status == 409
        assert "another program is following here" in refused.json["error"]


def test_exchanged_masks_leave_no_file_of_the_masks_as_they_were(client, project, line, drawn):
    line({0: drawn.truth[0]}, formats=("png", "rle"), overlay=True, report=True)
    folder = client.studio.settings.out / "clip"
    shown = {"masks.json", "overlay.mp4", "report.html"}
    assert shown <= {path.name for path in folder.iterdir()}
    reversed_range = {"a": 1, "b": 2, "frames": [5, 2]}
    refused = client.post(f"/api/projects/{project}/swap", reversed_range)
    assert (refused.status, "comes after the last" in refused.json["error"]) == (400, True)
    assert shown <= {path.name for path in folder.iterdir()}
    body = {"a": 1, "b": 2, "frames": [2, 5]}
    assert client.post(f"/api/projects/{project}/swap", body).status == 200
    assert not shown & {path.name for path in folder.iterdir()}
    assert json.loads((folder / "result.json").read_text())["exchanged"] == [[1, 2]]


def test_names_and_colours_of_a_person_come_before_those_of_a_run(client, project, line, drawn):
    label(client, project, 0, drawn.truth[0])
    objects = [{"id": 1, "name": "cup", "colour": "#00ff00"}]
    client.post(f"/api/projects/{project}/objects", {"objects": objects})
    line({0: np.where(drawn.truth[0] == 1, 1, 0).astype(np.uint8)})
    found = client.get(f"/api/projects/{project}").json["objects"]
    assert found == objects


def test_stamps_differ_where_a_file_is_written_again(tmp_path):
    for stamps, name in ((stamps_of_run, "result.json"), (stamps_of_labels, "references/0.png")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        before = stamps(tmp_path)
        file.write_bytes(b"1")
        once = stamps(tmp_path)
        file.write_bytes(b"12")
        assert len({before, once, stamps(tmp_path)}) == 3
        assert stamps(tmp_path) == stamps(tmp_path)


def test_looking_at_a_long_run_that_has_not_changed_is_cheap(
    client, project, line, drawn, monkeypatch
):
    line({0: drawn.truth[0]})
    [opened] = client.studio.projects
    opened.look()

    def read(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("propagate.studio.project.read_run_files", read)
    opened.look()
