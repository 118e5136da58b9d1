"""Files that appear complete or not at all."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from propagate.errors import OutputError
from propagate.io.masks.files import read_mask
from propagate.io.masks.png import write_mask
from propagate.io.write.files import (
    make_output_folder,
    refuse_existing,
    remove_partial_files,
    write_atomically,
)
from tests.small_disk import mounted
from tests.small_masks import squares


def test_an_old_file_is_replaced_and_nothing_else_stays(tmp_path):
    write_atomically(tmp_path / "result.json", b"old")
    write_atomically(tmp_path / "result.json", b"new")
    assert (tmp_path / "result.json").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match="make the folder first") as caught:
        write_mask(tmp_path / "no" / "00000.png", squares([1]))
    assert str(tmp_path / "no" / "00000.png") in str(caught.value)


def test_a_folder_in_the_place_of_the_file_is_one_clear_line(tmp_path):
    (tmp_path / "00000.png").mkdir()
    with pytest.raises(OutputError, match="a folder has this name"):
        write_mask(tmp_path / "00000.png", squares([1]))
    assert os.listdir(tmp_path) == ["00000.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="that you may write to"):
        write_mask(tmp_path / "00000.png", squares([1]))


def test_a_mask_that_does_not_fit_leaves_the_old_one(tmp_path, file_size_limit):
    write_mask(tmp_path / "00000.png", squares([1]))
    before = (tmp_path / "00000.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    with pytest.raises(OutputError, match="file too large"), file_size_limit(5_000):
        write_mask(tmp_path / "00000.png", noise)
    assert (tmp_path / "00000.png").read_bytes() == before
    assert os.listdir(tmp_path) == ["00000.png"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    def write_many() -> None:
        for index in range(200):
            write_mask(tmp_path / f"{index:05d}.png", squares([1, 2]))

    with mounted(tmp_path, "size=64k"):
        with pytest.raises(OutputError, match=r"no space left on device.*free some space"):
            write_many()
        names = sorted(os.listdir(tmp_path))
        assert names == [f"{index:05d}.png" for index in range(len(names))]
        for name in names:
            assert read_mask(tmp_path / name).object_ids == (1, 2)


WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from propagate.io.masks.png import write_mask
ids = np.random.default_rng(0).integers(1, 9, (400, 400), dtype=np.uint8)
for index in itertools.count():
    write_mask(Path(sys.argv[1]) / f"{index % 50:05d}.png", ids)
"""


def test_a_kill_leaves_whole_masks_and_a_later_run_clears_the_rest(tmp_path):
    for round_ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)])
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("*.png")):
                assert time.monotonic() < deadline
                assert writer.poll() is None
                time.sleep(0.01)
            time.sleep(0.05 + 0.017 * round_)
        finally:
            writer.kill()
            writer.wait()
        names = sorted(tmp_path.glob("*.png"))
        assert names
        for name in names:
            with Image.open(name) as image:
                assert np.array(image).shape == (400, 400)  # Reads every pixel.
        remove_partial_files(tmp_path)
        assert sorted(tmp_path.iterdir()) == names


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    for name in (".00001.png.0a1b2c3d.part", "00001.png", ".hidden", "notes.part"):
        (tmp_path / name).write_text("")
    assert remove_partial_files(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [".hidden", "00001.png", "notes.part"]
    assert remove_partial_files(tmp_path / "no such folder") == 0


def test_existing_results_are_refused_by_name(tmp_path):
    refuse_existing([tmp_path / "a.json", tmp_path / "b.png"])
    (tmp_path / "b.png").write_text("")
    with pytest.raises(OutputError, match=r"b\.png: already exists; pass overwrite=True to"):
        refuse_existing([tmp_path / "a.json", tmp_path / "b.png"])


def test_a_file_in_the_place_of_the_output_folder_is_one_clear_line(tmp_path):
    make_output_folder(tmp_path / "a" / "b")
    make_output_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: cannot be used as output folder"):
        make_output_folder(tmp_path / "file")
