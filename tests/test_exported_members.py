"""The public interface: these names, and nothing heavy until one is used."""

import inspect
import subprocess
import sys

import pytest

import propagate
from tests.paths import ROOT

PUBLIC = (ROOT / "tests/golden/public_names.txt").read_text().split()


def test_the_public_names_are_these():
    assert propagate.__all__ == PUBLIC
    assert dir(propagate) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_imports_and_is_documented(name):
    value = getattr(propagate, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'propagate' has no attribute 'Propagater'"):
        propagate.Propagater  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_loads_no_heavy_library():
    script = (
        "import sys, propagate; "
        "print({'torch', 'diffusers', 'numpy', 'av', 'PIL'} & set(sys.modules))"
    )
    root = ROOT
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=root, text=True, capture_output=True, timeout=60
    )
    assert finished.stdout == "set()\n", finished.stderr


def test_reading_a_video_needs_no_torch():
    script = "import sys, propagate; propagate.open_video; print('torch' in sys.modules)"
    root = ROOT
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=root, text=True, capture_output=True, timeout=60
    )
    assert finished.stdout == "False\n", finished.stderr
