"""Large imports with Python's garbage collector paused: it comes back as it was."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from propagate.features.quick_import import collector_paused
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_rests_inside_and_works_afterwards() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_after_an_import_that_failed() -> None:
    with pytest.raises(ImportError), collector_paused():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


def test_what_came_during_the_pause_is_not_gone_over_at_its_end() -> None:
    with collector_paused():
        made = [object()]
    assert any(known is made for known in gc.get_objects(generation=2))


def test_what_somebody_froze_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    with collector_paused():
        pass
    # Other threads of the test runner may let some of the frozen objects die meanwhile.
    assert gc.get_freeze_count() > frozen / 2


@pytest.fixture(scope="module")
def loading() -> dict[str, Any]:
    """What a process saw that did nothing but load the model `tiny`."""
    script = (
        "import gc, json, sys, torch\n"
        "passes = []\n"
        "gc.callbacks.append(lambda phase, _: passes.append(phase) if phase == 'start' else None)\n"
        "from propagate.features.registry import load_backbone\n"
        "load_backbone('tiny', device='cpu')\n"
        "print(json.dumps({'passes': len(passes), 'modules': list(sys.modules)}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_model_is_imported_in_a_pause(loading: dict[str, Any]) -> None:
    """diffusers by itself makes about a thousand passes."""
    assert loading["passes"] < 200


@pytest.mark.slow
def test_a_unet_on_pixels_waits_for_no_vae_and_no_text_encoder(loading: dict[str, Any]) -> None:
    unused = {"diffusers.models.autoencoders", "transformers.models.clip", "skimage"}
    assert unused & set(loading["modules"]) == set()
