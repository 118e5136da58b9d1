"""`propagate models` as a person meets it: what there is, and getting it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from propagate.features.hub import MOVED
from propagate.features.presets import BUILT_IN, PRESETS
from tests.tiny_hub import GATED, UNKNOWN, Hub, downloaded_files, serving
from tests.tiny_models import pixel_unet, save_pixel_pipeline


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = save_pixel_pipeline(tmp_path / "hub", pixel_unet())
    with serving({"somebody/model": folder}, cache, monkeypatch) as hub:
        yield hub


def test_the_list_fits_a_terminal_of_80_columns(propagate, hub):
    finished = propagate("models")
    assert finished.status == 0
    lines = [line.rstrip() for line in finished.stdout.splitlines()]
    assert len(lines) == 1 + len(PRESETS)
    assert max(map(len, lines)) <= 80
    assert hub.requests == []


def test_a_model_is_downloaded_and_its_place_printed(propagate, hub, cache):
    finished = propagate("models", "--download", "somebody/model")
    assert finished.status == 0, finished.stderr
    place = Path(finished.stdout.strip())
    assert (place / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert place.is_relative_to(cache)
    assert downloaded_files(cache) == {
        path.relative_to(hub.models["somebody/model"]).as_posix()
        for path in hub.models["somebody/model"].rglob("*.*")
    }
    assert "propagate: somebody/model: fetching somebody/model\n" in finished.stderr
    # How far it is.
    assert "Fetching 4 files" in finished.stderr


def test_a_model_that_is_here_is_not_asked_for_again(propagate, hub):
    first = propagate("models", "--download", "somebody/model")
    asked = len(hub.requests)
    again = propagate("models", "--download", "somebody/model")
    assert again.status == 0
    assert again.stdout == first.stdout
    assert again.stderr == "propagate: somebody/model: already here\n"
    assert len(hub.requests) == asked


def test_a_built_in_model_is_here(propagate, hub):
    finished = propagate("models", "--download", "tiny")
    assert finished.status == 0
    assert finished.stdout == f"{BUILT_IN / 'tiny'}\n"
    assert finished.stderr == "propagate: tiny: already here\n"
    assert hub.requests == []


def test_a_model_without_weights_needs_no_download(propagate, hub):
    finished = propagate("models", "--download", "color")
    assert finished.status == 0
    assert finished.stdout == ""
    assert finished.stderr == "propagate: color: has no weights to fetch\n"
    assert hub.requests == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sd3", "no model is named 'sd3'; pass one of tiny, color, sd15"),
        (GATED, f"model {GATED}: its owner asks for consent"),
        (UNKNOWN, f"model {UNKNOWN}: the hub has no such model"),
        ("stabilityai/stable-diffusion-2-1", "it is gone from the hub; pass sd2-community/"),
        ("a/b/c", "model a/b/c: that is neither a folder here nor a hub id"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(propagate, hub, model, message):
    finished = propagate("models", "--download", model)
    assert finished.status == 1
    assert finished.stdout == ""
    *before, error = finished.stderr.splitlines()
    assert error.startswith("propagate: error: ")
    assert message in error
    assert before in ([], [f"propagate: {model}: fetching {model}"])


def test_a_preset_never_names_a_model_that_moved():
    assert not {preset.source for preset in PRESETS.values()} & MOVED.keys()
