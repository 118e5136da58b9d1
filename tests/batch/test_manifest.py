"""What a batch is to do: lines that are taken, and every way in which they are wrong."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from propagate.batch.manifest import BatchVideo, ManifestError, read_manifest
from propagate.io.decode.frame_range import FrameRange


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder of files that only have to be there."""
    for name in ("a.mp4", "b.mp4", "clips/a.mp4", "a.png", "b.png", "m/a/0.png", "frames.v2/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def csv(root, *lines) -> Path:
    path = root / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def jsonl(root, *rows) -> Path:
    path = root / "manifest.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def refusal(path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is taken


def test_a_csv_names_a_video_on_each_line_with_paths_from_its_own_folder(root, monkeypatch):
    monkeypatch.chdir("/")
    videos = read_manifest(csv(root, "video,mask", "a.mp4,a.png", "", "frames.v2,m/a"))
    assert videos == [
        BatchVideo(root / "a.mp4", "a", root / "a.png"),
        BatchVideo(root / "frames.v2", "frames.v2", root / "m/a"),
    ]


def test_json_lines_say_the_same_as_a_csv(root):
    columns = "video,mask,references,names,folder,max_frames,matcher,overlay"
    line = "a.mp4,a.png,60=b.png; 120=a.png,1=big dog;2=cat,first,40,dino,yes"
    of_csv = read_manifest(csv(root, columns, line))
    row = {
        "video": "a.mp4",
        "mask": "a.png",
        "references": {"60": "b.png", "120": "a.png"},
        "names": {"1": "big dog", "2": "cat"},
        "folder": "first",
        "max_frames": 40,
        "matcher": "dino",
        "overlay": True,
    }
    of_json = read_manifest(jsonl(root, row, "", {"video": "b.mp4", "references": ["0=b.png"]}))
    assert of_csv == of_json[:1]
    assert of_csv[0] == BatchVideo(
        root / "a.mp4",
        "first",
        root / "a.png",
        {60: root / "b.png", 120: root / "a.png"},
        {1: "big dog", 2: "cat"},
        {"max_frames": 40, "matcher": "dino", "overlay": True},
    )
    assert of_json[1].references == {0: root / "b.png"}


def test_a_line_may_name_the_frames_to_read(root):
    (video,) = read_manifest(csv(root, "video,mask,start,stride", "a.mp4,a.png,1:30,5"))
    assert video.options == {"frame_range": FrameRange(start_s=Fraction(90), stride=5)}
    row = {"video": "a.mp4", "mask": "a.png", "start": 250, "fps": 29.97}
    (video,) = read_manifest(jsonl(root, row))
    assert video.options == {"frame_range": FrameRange(start=250, fps=Fraction(2997, 100))}


def test_a_csv_as_a_spreadsheet_saves_it_is_read(root):
    path = root / "manifest.csv"
    path.write_bytes('\ufeffvideo , mask,overlay\r\n"a.mp4", a.png,\r\n,,\r\n'.encode())
    assert read_manifest(path) == [BatchVideo(root / "a.mp4", "a", root / "a.png")]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("divider", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_of_any_divider_and_mark_is_read(root, coding, divider, suffix):
    rows = [
        ["video", "mask", "references", "names"],
        ["a.mp4", "", "0=a.png;120=b.png", "1=dog;2=großer, brauner Hund"],
        ["b.mp4", "m/a", "", ""],
    ]
    text = "\r\n".join(divider.join(f'"{cell}"' if cell else "" for cell in row) for row in rows)
    mark = "\ufeff" if coding in ("utf-16-le", "utf-16-be") else ""
    path = root / f"table{suffix}"
    path.write_bytes((mark + text).encode(coding))
    first, second = read_manifest(path)
    assert first == BatchVideo(
        root / "a.mp4",
        "a",
        None,
        {0: root / "a.png", 120: root / "b.png"},
        {1: "dog", 2: "großer, brauner Hund"},
    )
    assert second == BatchVideo(root / "b.mp4", "b", root / "m/a")


def test_a_cell_that_is_divided_by_mistake_is_told_how_to_be_written(root):
    message = refusal(csv(root, "video;references", "a.mp4;0=a.png;120=b.png"))
    assert "line 2: 3 cells, and there are 2 columns; put quotes around a cell with ';'" in message


def test_a_missing_file_is_known_with_its_line(root):
    path = csv(
        root, "video,mask,references", "a.mp4,a.png,", "no.mp4,a.png,", "b.mp4,,0=a.png;9=no.png"
    )
    videos = read_manifest(path)
    assert [video.missing() for video in videos] == [
        None,
        f"manifest.csv, line 3: video: {root / 'no.mp4'}: no such file or directory",
        f"manifest.csv, line 4: references: {root / 'no.png'}: no such file or directory",
    ]
    (long,) = read_manifest(jsonl(root, {"video": "a" * 5000, "mask": "a.png"}))
    missing = long.missing() or ""
    assert "line 1: video: " in missing
    assert missing.endswith("file name too long")


def test_a_folder_pairs_videos_with_masks_of_their_names(tmp_path):
    for name in ("videos/a.mp4", "videos/b/0.png", "videos/.DS_Store", "masks/a/10.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "masks/b.png").touch()
    videos, masks = tmp_path / "videos", tmp_path / "masks"
    assert read_manifest(tmp_path) == [
        BatchVideo(videos / "a.mp4", "a", masks / "a"),
        BatchVideo(videos / "b", "b", masks / "b.png"),
    ]


def test_long_videos_are_told_from_short_ones_without_opening_them(root):
    (root / "a.mp4").write_bytes(bytes(100_000))
    (root / "b.mp4").write_bytes(bytes(9_000_000))
    a, b, short = read_manifest(
        csv(root, "video,mask,max_frames,folder", "a.mp4,a.png", "b.mp4,a.png", "b.mp4,a.png,3,c")
    )
    assert short.about_frames == 3 < a.about_frames < b.about_frames


# What is refused


def test_all_that_is_wrong_is_said_at_once_with_line_numbers(root):
    message = refusal(
        csv(
            root,
            "video,mask,max_frames,matcher,overlay",
            "a.mp4,a.png,0,,",
            "b.mp4,b.png",
            "none.mp4,nothing.png,,best,perhaps",
            "b.mp4,,,,,,more",
        )
    )
    assert message.startswith(f"{root / 'manifest.csv'}: line 2: max_frames: '0': 1 or more; ")
    assert "nothing.png" not in message  # see below
    assert "line 4: matcher: 'best': one of default, dino" in message
    assert "line 4: overlay: 'perhaps': yes or no" in message
    assert "line 5: 7 cells, and there are 5 columns" in message
    assert "line 3" not in message


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "a/b", "/tmp/x", "a\\b", "C:x", ".hidden", "", "Summary.jsonl", "a\nb", 7],
)
def test_no_name_of_a_folder_leads_out_of_the_output(root, name):
    message = refusal(jsonl(root, {"video": "a.mp4", "mask": "a.png", "folder": name}))
    assert f"line 1: folder: {name!r}: not a folder name" in message


@pytest.mark.parametrize("second", ["clips/a.mp4,a.png,", "b.mp4,a.png,A"])
def test_two_videos_of_one_folder_are_refused_with_both_lines(root, second):
    message = refusal(csv(root, "video,mask,folder", "a.mp4,a.png,", second))
    assert re.search(r"line 3: writes into the folder '[aA]', like line 2", message)
    assert read_manifest(csv(root, "video,mask,folder", "a.mp4,a.png,", "clips/a.mp4,a.png,a2"))


def test_an_unknown_column_is_refused_with_those_that_there_are(root):
    message = refusal(csv(root, "video,mask,modell", "a.mp4,a.png,tiny"))
    assert "line 1: no column is called modell; there are end, folder, fps, mask" in message
    message = refusal(csv(root, "Video,mask,refs", "a.mp4,a.png,", "b.mp4,a.png,"))
    assert message.count("no column is called Video (perhaps video), refs; there are") == 1
    message = refusal(jsonl(root, {"video": "a.mp4", "mask": "a.png", "max_frame": 3}))
    assert "line 1: no column is called max_frame (perhaps max_frames); there are end" in message


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"mask": "a.png"}, "video: missing"),
        ({"video": "a.mp4"}, "mask: missing, and there are no references"),
        ({"video": 3, "mask": "a.png"}, "video: 3: no path"),
        ({"video": "a.mp4", "mask": "a.png\0"}, r"mask: 'a.png\x00': no path"),
        (
            {"video": "a.mp4", "references": "x=a.png"},
            "references: 'x=a.png': write them as 0=a.png;120=b.png",
        ),
        (
            {"video": "a.mp4", "mask": "a.png", "names": "dog"},
            "names: 'dog': write them as 1=dog;2=cat",
        ),
        ({"video": "a.mp4", "references": ["0=a.png", "00=b.png"]}, "references: 0 is there twice"),
        (
            {"video": "a.mp4", "mask": "a.png", "references": "0=b.png"},
            "b.png, beside {root}/a.png in the column mask: keep one",
        ),
        ({"video": "a.mp4", "mask": "a.png", "names": {"255": "dog"}}, "objects have ids 1 to 254"),
        ({"video": "a.mp4", "mask": "a.png", "names": 1}, "names: 1: write them as 1=dog;2=cat"),
        ({"video": "a.mp4", "mask": "a.png", "max_frames": True}, "max_frames: True: 1 or more"),
        ({"video": "a.mp4", "mask": "a.png", "start": "soon"}, "soon"),
        ({"video": "a.mp4", "mask": "a.png", "fps": "x"}, "fps must be a number such as 5"),
        ({"video": "a.mp4", "mask": "a.png", "stride": 0}, "1 or more"),
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(root, row, problem):
    message = refusal(jsonl(root, row))
    assert message.startswith(f"{root / 'manifest.jsonl'}: line 1: ")
    assert problem.replace("{root}", str(root)) in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no videos in it"),
        (b"video,mask\n", "no videos in it"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"video,video\na.mp4,a.png\n", "line 1: two columns of one name"),
        (b'video,mask\n"a.mp4,a.png\n', "not CSV"),
    ],
)
def test_what_is_no_manifest_is_one_error(root, content, problem):
    path = root / "manifest.csv"
    path.write_bytes(content)
    assert problem in refusal(path)


def test_other_files_and_folders_are_refused_with_what_is_wanted(root):
    assert "give a .csv, .tsv or .jsonl file" in refusal(root / "a.mp4")
    assert "no such file" in refusal(root / "none.csv")
    assert "no folder videos/" in refusal(root)


def test_a_video_without_a_mask_is_named_in_a_folder(tmp_path):
    for part in ("videos", "masks"):
        (tmp_path / part).mkdir()
    assert "no videos in it" in refusal(tmp_path)
    (tmp_path / "videos/b.mp4").touch()
    (video,) = read_manifest(tmp_path)
    missing = f"videos/b.mp4: mask: {tmp_path / 'masks/b.png'}: no such file or directory"
    assert video.missing() == missing
    for name in ("a.mp4", "a.mov"):
        (tmp_path / "videos" / name).touch()
    (tmp_path / "masks/a.png").touch()
    message = refusal(tmp_path)
    assert "videos/a.mp4: writes into the folder 'a', like videos/a.mov" in message


def test_a_long_list_of_problems_is_cut(root):
    message = refusal(csv(root, "video,mask,max_frames", *["a.mp4,a.png,0"] * 50))
    assert message.count("1 or more") == 20
    assert message.endswith("; and 30 more")


def test_a_folder_may_hold_other_files(tmp_path, caplog):
    for part in ("videos", "masks"):
        (tmp_path / part).mkdir()
    for name in ("a.mp4", "Thumbs.db", "notes.txt", "._a.mp4", ".DS_Store"):
        (tmp_path / "videos" / name).touch()
    (tmp_path / "masks" / "a.png").touch()
    assert [video.folder for video in read_manifest(tmp_path)] == ["a"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("left out, as they are no videos: Thumbs.db, notes.txt")
    (tmp_path / "videos" / "b.mp4").touch()
    missing = [video.missing() for video in read_manifest(tmp_path)]
    assert missing[0] is None
    assert "videos/b.mp4" in (missing[1] or "")
    assert "masks/b.png" in (missing[1] or "")


def test_the_choice_at_damage_is_a_column(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.png").touch()
    table = tmp_path / "table.csv"
    table.write_text("video,mask,on_damage\na.mp4,a.png,skip\n")
    assert read_manifest(table)[0].options["on_damage"] == "skip"
    table.write_text("video,mask,on_damage\na.mp4,a.png,perhaps\n")
    with pytest.raises(ManifestError, match="on_damage: 'perhaps': one of stop, skip"):
        read_manifest(table)


@pytest.mark.parametrize("value", ["0", "2.5", "x"])
def test_a_bad_stride_names_its_column(tmp_path, value):
    table = tmp_path / "clips.csv"
    table.write_text(f"video,mask,stride\na.mp4,a.png,{value}\n")
    with pytest.raises(ManifestError, match=f"stride: '{value}': 1 or more"):
        read_manifest(table)
