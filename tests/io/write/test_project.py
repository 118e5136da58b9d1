"""`project.json`: names and colours that a person gives."""

import json

import pytest

from propagate.errors import OutputError
from propagate.io.write.project import ObjectLooks, parse_looks, read_project


def written(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "project.json").write_text(text)
    return folder


def test_names_and_colours_are_read(tmp_path):
    objects = {
        "1": {"name": " red  cup ", "colour": "#ff8c00"},
        "2": {"colour": "#00FF00"},
        "3": {},
    }
    looks = read_project(written(tmp_path, {"source": "clip.mp4", "objects": objects}))
    assert looks == ObjectLooks({1: "red cup"}, {1: (255, 140, 0), 2: (0, 255, 0)})


@pytest.mark.parametrize("content", [None, {}, {"source": "x"}, {"objects": None}, {"objects": {}}])
def test_without_the_file_or_its_objects_nothing_is_known(tmp_path, content):
    if content is not None:
        written(tmp_path, content)
    assert read_project(tmp_path) == ObjectLooks()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "no table"),
        ({"objects": [1]}, "no table of objects"),
        ({"objects": {"x": {}}}, "object 'x' is no id"),
        ({"objects": {"255": {}}}, "object '255' is no id"),
        ({"objects": {"1": "cup"}}, "object 1 is no table"),
        ({"objects": {"1": {"name": 5}}}, "must be texts"),
        ({"objects": {"1": {"colour": "red"}}}, "object 1: 'red' is no colour such as"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, content, reason):
    with pytest.raises(OutputError, match=reason) as caught:
        read_project(written(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "project.json") in str(caught.value)


def test_plain_values_go_there_and_back():
    looks = ObjectLooks({1: "cup"}, {1: (255, 140, 0), 12: (0, 0, 1)})
    assert parse_looks(json.loads(json.dumps(looks.to_json()))) == looks


def test_what_a_person_says_comes_first():
    own, other = ObjectLooks({1: "cup"}, {}), ObjectLooks({1: "x", 2: "y"}, {1: (1, 2, 3)})
    assert own.over(other) == ObjectLooks({1: "cup", 2: "y"}, {1: (1, 2, 3)})
