"""A file never has more frames than are counted without decoding it."""

import csv

import pytest

from propagate.io.decode.packet_count import most_frames
from propagate.io.decode.video import open_video
from tests.paths import SHARED


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mov"])
def test_the_count_is_that_of_the_frames(drawn, write_video, tmp_path, suffix):
    path = write_video(tmp_path / f"clip.{suffix}", drawn.images)
    assert most_frames(path) == len(list(open_video(path))) == 12


def test_what_is_no_video_has_no_count(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
    assert most_frames(tmp_path / "no.mp4") is None
    assert most_frames(tmp_path / "missing.mp4") is None


@pytest.mark.slow
def test_no_file_that_people_have_gives_more_frames():
    folder = SHARED / "data/dev/decode"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    checked = 0
    table = (folder / "expected_pyav.csv").read_text()
    for row in csv.DictReader(table.splitlines()):
        most = most_frames(folder / row["file"])
        if most is not None:
            assert most >= int(row["frames_decoded"]), row
            checked += 1
    assert checked > 30
