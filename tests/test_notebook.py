"""What shows itself in a notebook, and the sample notebook."""

import importlib.util
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from propagate.config import Config
from propagate.io.write.overlay import draw_overlay
from propagate.pipeline import Propagator
from propagate.records import Frame, Result
from tests.html_page import Page
from tests.paths import ROOT

NOTEBOOK = ROOT / "samples" / "notebook.ipynb"


def shown(value) -> np.ndarray:
    picture = Image.open(io.BytesIO(value._repr_png_()))
    assert picture.format == "PNG"
    return np.asarray(picture)


def result_of(mask):
    ids = [int(i) for i in np.unique(mask) if i]
    certain = dict.fromkeys(ids, 1.0)
    return Result(0, 0.0, mask, certain, dict.fromkeys(ids, "tracked"), certain)


def test_a_frame_shows_its_picture():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert np.array_equal(shown(Frame(image)), image)


def test_a_wide_frame_is_shrunk():
    image = np.zeros((500, 2000, 3), np.uint8)
    image[:, 1000:] = 255
    seen = shown(Frame(image))
    assert seen.shape == (200, 800, 3)
    assert seen[100, 100].tolist() == [0, 0, 0]
    assert seen[100, 700].tolist() == [255, 255, 255]
    assert shown(result_of(np.zeros((500, 2000), np.uint8))).shape == (200, 800, 3)


def test_a_result_shows_each_object_in_a_colour_of_its_own():
    mask = np.zeros((60, 80), np.uint8)
    mask[5:25, 5:35], mask[35:55, 40:75] = 1, 2
    seen = shown(result_of(mask)).astype(int)
    places = [seen[7, 8], seen[37, 44], seen[2, 2]]
    for one in range(3):
        for other in range(one):
            assert np.abs(places[one] - places[other]).max() > 50
    assert shown(result_of(np.zeros((4, 5), np.uint8))).shape == (4, 5, 3)


def test_a_result_draws_itself_on_its_frame():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[5:25, 5:35] = 1
    expected = draw_overlay(image, mask)
    for frame in (image, Frame(image)):
        assert np.array_equal(result_of(mask).overlay(frame), expected)
    red = result_of(mask).overlay(image, {1: (255, 0, 0)})
    assert red[5, 10].tolist() == [255, 0, 0]  # the outline
    with pytest.raises(ValueError, match="image"):
        result_of(mask).overlay(image[1:])


@pytest.mark.slow
def test_a_run_shows_a_strip_of_frames_and_a_table(drawn, tmp_path):
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    summary = propagator.run(drawn.mp4, {0: drawn.truth[0]}, tmp_path)
    html = summary._repr_html_()
    assert html is not None
    page = Page(html)
    assert page.open == []
    assert [a["alt"] for a in page.all("img")] == [f"frame {i:05d}" for i in (0, 3, 6, 8, 11)]
    assert len(page.all("tr")) == 3  # the head and two objects
    assert "12 frames, 2 objects" in page.text
    shutil.rmtree(summary.folder)
    assert summary._repr_html_() is None


def test_the_sample_notebook_is_saved_without_its_results():
    assert NOTEBOOK.stat().st_size < 300_000
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.slow
# nbclient and the kernel's client warn of what other versions of zmq and asyncio will do.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_sample_notebook_runs_and_shows_what_it_says(tmp_path):
    for package in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package} (extra dev)")
    import nbformat
    from nbclient import NotebookClient

    shutil.copytree(ROOT / "samples" / "clip", tmp_path / "clip")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [
        {kind for output in cell.outputs for kind in output.get("data", {})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    pictures = [at for at, found in enumerate(kinds) if "image/png" in found]
    assert pictures == [1, 3, 4, 6]  # a frame, a result, its overlay, the corrected result
    assert "text/html" in kinds[7]
    assert (tmp_path / "out/clip/report.html").exists()
    assert (tmp_path / "out/clip/overlay.mp4").exists()


def test_what_the_notebook_writes_is_ignored_by_git():
    """It runs in `samples` and writes to `out` there."""
    assert '"out", max_frames' in json.dumps(json.loads(NOTEBOOK.read_text())).replace('\\"', '"')
    assert "/samples/out/" in (ROOT / ".gitignore").read_text().splitlines()
