"""What a person labels is stored exactly, and the command line reads the same."""

import io

import numpy as np
import pytest
from PIL import Image

from propagate.io.masks.references import read_references
from propagate.studio.references import References, describe
from tests.studio_server import packed, running

IDS = np.zeros((48, 64), np.uint8)
IDS[3:20, 5:30] = 1
IDS[25:40, 5:30] = 2
IDS[25:47, 40:64] = 254
IDS[0, 0] = 1


@pytest.fixture(scope="module")
def client(drawn, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with running(drawn.mp4.parent, out, drawn.mp4, drawn.folder) as client:
        yield client


@pytest.fixture
def by_name(client):
    return {project["name"]: project["id"] for project in client.get("/api/state").json["projects"]}


@pytest.mark.parametrize(("name", "stem"), [("clip", "00007"), ("frames", "img_107")])
def test_ids_are_read_back_at_every_pixel(client, by_name, name, stem):
    path = f"/api/projects/{by_name[name]}/references/7"
    answer = client.post(path, {"ids": packed(IDS)})
    assert answer.status == 200
    assert answer.json["references"] == {"7": [1, 2, 254]}
    assert [item["id"] for item in answer.json["objects"]] == [1, 2, 254]
    served = Image.open(io.BytesIO(client.get(path).body))
    assert served.mode == "P"
    np.testing.assert_array_equal(np.asarray(served), IDS)
    file = client.studio.settings.out / name / "references" / f"{stem}.png"
    np.testing.assert_array_equal(np.asarray(Image.open(file)), IDS)
    [project] = [p for p in client.studio.projects if p.name == name]
    read = read_references(file.parent, source=project.source)
    assert list(read) == [7]
    np.testing.assert_array_equal(read[7].ids, IDS)


def test_an_empty_label_says_that_nothing_is_visible_a_deleted_one_nothing(client, by_name):
    path = f"/api/projects/{by_name['clip']}/references/3"
    nothing = np.zeros((48, 64), np.uint8)
    assert client.post(path, {"ids": packed(nothing)}).json["references"]["3"] == []
    assert not np.asarray(Image.open(io.BytesIO(client.get(path).body))).any()
    assert "3" not in client.post(f"{path}/delete").json["references"]
    assert client.get(path).status == 404
    assert client.post(f"{path}/delete").status == 404


def test_void_alone_is_refused_as_its_file_would_be_read_as_an_object(client, by_name):
    void = np.where(IDS, 255, 0).astype(np.uint8)
    path = f"/api/projects/{by_name['clip']}/references/4"
    assert client.post(path, {"ids": packed(void)}).status == 400
    assert client.get(path).status == 404


def test_a_deleted_object_goes_from_all_references(client, by_name):
    path = f"/api/projects/{by_name['clip']}"
    only = np.where(IDS == 2, 2, 0).astype(np.uint8)
    client.post(f"{path}/references/0", {"ids": packed(IDS)})
    client.post(f"{path}/references/1", {"ids": packed(only)})
    objects = [
        {"id": 1, "name": "cup", "colour": "#e6194b"},
        {"id": 254, "name": "é", "colour": "#000000"},
    ]
    answer = client.post(f"{path}/objects", {"objects": objects}).json
    assert answer["objects"] == objects
    assert (answer["references"]["0"], "1" in answer["references"]) == ([1, 254], False)
    served = np.asarray(Image.open(io.BytesIO(client.get(f"{path}/references/0").body)))
    np.testing.assert_array_equal(served, np.where(IDS == 2, 0, IDS))


@pytest.mark.parametrize(
    "objects",
    [
        None,
        {},
        [1],
        [{"id": 0, "name": "a", "colour": "#000000"}],
        [{"id": 255, "name": "a", "colour": "#000000"}],
        [{"id": True, "name": "a", "colour": "#000000"}],
        [{"id": 1, "name": "a", "colour": "red"}],
        [{"id": 1, "name": 5, "colour": "#000000"}],
        [{"id": 1, "name": "a", "colour": "#000000"}] * 2,
    ],
)
def test_a_list_of_objects_that_makes_no_sense_is_refused(client, by_name, objects):
    answer = client.post(f"/api/projects/{by_name['clip']}/objects", {"objects": objects})
    assert answer.status == 400
    assert answer.json["error"]


def test_labels_are_there_at_the_next_start(client, drawn, by_name):
    client.post(f"/api/projects/{by_name['frames']}/references/2", {"ids": packed(IDS)})
    out = client.studio.settings.out
    with running(drawn.mp4.parent, out, drawn.folder) as again:
        [project] = again.get("/api/state").json["projects"]
        found = again.get(f"/api/projects/{project['id']}").json
    assert found["references"]["2"] == [1, 2, 254]
    assert found["name"] == "frames"


def test_files_of_other_names_and_sizes_are_read_or_named(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "5.png")
    Image.fromarray(IDS[:10]).save(tmp_path / "6.png")
    found = References(tmp_path, (48, 64), lambda index: f"{index:05d}", None)
    assert found.known == {5: describe(IDS)}
    assert len(found.notes) == 1
    assert "6.png" in found.notes[0]
    found.write(5, np.where(IDS == 1, 1, 0).astype(np.uint8))
    assert found.known[5].object_ids == (1,)
    found.delete(5)
    assert not (tmp_path / "00005.png").exists()
