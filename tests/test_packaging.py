"""The packaging table says what is on disk, and what it builds works from anywhere."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
TOP_LEVEL = ("io", "eval")


def folder_of(package):
    """Where a package's files are, by the table; a subpackage lies in its parent's folder."""
    if package in TABLE["package-dir"]:
        return ROOT / TABLE["package-dir"][package]
    parent, _, name = package.rpartition(".")
    return folder_of(parent) / name


def folders_with_code():
    """Every folder under propagate/, io/ and eval/ that holds Python files, links not followed."""
    found = {
        file.parent for top in ("propagate", *TOP_LEVEL) for file in (ROOT / top).rglob("*.py")
    }
    links = [ROOT / "propagate" / name for name in TOP_LEVEL]
    return {folder for folder in found if not any(folder.is_relative_to(link) for link in links)}


def test_the_packages_are_the_folders_that_hold_code():
    assert {folder_of(package) for package in TABLE["packages"]} == folders_with_code()


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_top_level_folder_is_linked_and_has_no_init(name):
    """With an __init__.py, io/ would stand in for the standard library's io."""
    assert not (ROOT / name / "__init__.py").exists()
    link = ROOT / "propagate" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist, built from a copy: a build leaves folders behind in its source."""
    pytest.importorskip("build", reason="needs the package `build` (extra dev)")
    source = tmp_path_factory.mktemp("source") / "checkout"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "out")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    out = tmp_path_factory.mktemp("dist")
    finished = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def expected_files():
    names = {"propagate/py.typed"}
    for package in TABLE["packages"]:
        for file in folder_of(package).glob("*.py"):
            names.add(f"{package.replace('.', '/')}/{file.name}")
    for folder in ("propagate/eval/report", "propagate/report"):
        for file in (ROOT / folder).iterdir():
            if file.suffix in (".css", ".html", ".js", ".svg"):
                names.add(f"{folder}/{file.name}")
    for file in (ROOT / "propagate" / "studio" / "page").iterdir():
        names.add(f"propagate/studio/page/{file.name}")
    models = ROOT / "propagate" / "models" / "tiny"
    for file in models.rglob("*"):
        if file.is_file():
            names.add(file.relative_to(ROOT).as_posix())
    return names


@pytest.mark.slow
def test_the_wheel_holds_the_code_the_weights_and_nothing_else(built):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"propagate/io/decode/video.py", "propagate/eval/davis.py"} <= names
    assert names == expected_files()


@pytest.mark.slow
def test_the_sdist_can_build_the_wheel(built):
    _, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "io/decode/video.py", "eval/davis.py"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("place", ["elsewhere", "the checkout"])
def test_the_unpacked_wheel_imports(built, tmp_path, place):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import io, propagate, propagate.features\n"
        "from propagate.eval import davis\n"
        "from propagate.io.decode import video\n"
        "assert hasattr(io, 'StringIO')\n"
        "print(propagate.__file__, video.__file__, davis.__file__)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "site")],
        cwd=ROOT if place == "the checkout" else tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert all(file.startswith(str(tmp_path / "site")) for file in finished.stdout.split())


@pytest.mark.slow
def test_python_m_in_the_checkout_works_though_a_wheel_is_installed(built, tmp_path):
    """`python -m` puts the working folder first: the checkout's own links are what it finds."""
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    finished = subprocess.run(
        [sys.executable, "-m", "propagate", "eval", "davis", "--help"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
