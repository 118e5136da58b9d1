"""The direction of imports, read from every module, imports for type checkers included."""

import ast
from pathlib import Path

import pytest

from tests.paths import ROOT

# Each layer may import from itself and from the layers behind it.
FOUNDATION = {"errors", "records", "matchers", "config", "stage_clock"}
LAYERS: dict[str, set[str]] = {
    "matching": FOUNDATION,
    "memory": FOUNDATION | {"matching"},
    "io": {"errors", "records", "config", "stage_clock"},
    "eval": {"errors", "records", "config", "io"},
    "features": FOUNDATION | {"io"},
    "session": FOUNDATION | {"matching", "memory", "features", "io"},
    "run_options": {"io"},
    "feature_cache": {"errors"},
}
LAYERS["session_state"] = FOUNDATION | {"matching", "memory"}
LAYERS["session"] |= {"session_state"}
LAYERS["two_way"] = LAYERS["session"] | {"session", "feature_cache"}
LAYERS["plan"] = LAYERS["two_way"] | {"two_way", "run_options"}
LAYERS["refine"] = FOUNDATION | {"features", "io"}
LAYERS["prompts"] = FOUNDATION | {"features", "io", "refine"}
LAYERS["pipeline"] = LAYERS["plan"] | {"plan", "refine", "prompts"}
LAYERS["saved_state"] = LAYERS["session"] | {"session"}
LAYERS["run_settings"] = LAYERS["pipeline"] | {"pipeline"}
LAYERS["dependence"] = {"two_way"}
LAYERS["report"] = {"errors", "records", "config", "io", "eval"}
LAYERS["run_summary"] = {"errors", "records", "run_settings", "stage_clock", "report"}
LAYERS["run_check"] = LAYERS["run_settings"] | {"run_settings"}
LAYERS["sitting"] = LAYERS["run_settings"] | {
    *("run_settings", "run_summary", "saved_state", "dependence")
}
LAYERS["run"] = LAYERS["sitting"] | {"sitting", "run_check", "report"}
LAYERS["images"] = LAYERS["run"] | {"run", "eval"}
LAYERS["batch"] = LAYERS["run"] | {"run"}
LAYERS["benchmark"] = LAYERS["run"] | {"run", "eval"}
LAYERS["studio"] = LAYERS["run"] | {"run", "prompts"}
LAYERS["cli"] = LAYERS["run"] | {"run", "images", "batch", "benchmark", "refine", "eval"}
LAYERS["cli"] |= {"prompts", "studio"}
# `Propagator.run` is a method of the pipeline, and its work is done in run.py.
# Records show themselves in notebooks, and `io` draws them: imported inside those methods only.
ALLOWED = {("pipeline", "run"), ("pipeline", "run_summary"), ("records", "io")}


def part_of(module: str) -> str:
    return module.split(".")[1]


def imported_parts(file: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module]
                if "." in node.module
                else [f"{node.module}.{alias.name}" for alias in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        parts |= {part_of(name) for name in names if name.startswith("propagate.")}
    return parts


def modules() -> list[tuple[str, Path]]:
    found = []
    for file in sorted((ROOT / "propagate").rglob("*.py")):
        inside = file.relative_to(ROOT / "propagate")
        if inside.parts[0] not in ("io", "eval", "__init__.py", "__main__.py"):
            found.append((inside.parts[0].removesuffix(".py"), file))
    for part in ("io", "eval"):
        found += [(part, file) for file in sorted((ROOT / part).rglob("*.py"))]
    return found


@pytest.mark.parametrize(
    ("part", "file"), modules(), ids=lambda value: str(value).removeprefix(f"{ROOT}/")
)
def test_a_module_imports_only_from_the_layers_behind_it(part: str, file: Path) -> None:
    allowed = FOUNDATION if part in FOUNDATION else LAYERS[part] | {part}
    assert imported_parts(file) <= allowed | {to for here, to in ALLOWED if here == part}


def test_records_import_nothing_of_this_program_when_they_are_loaded() -> None:
    tree = ast.parse((ROOT / "propagate" / "records.py").read_text())
    loaded = {
        name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert loaded <= {"collections.abc", "dataclasses", "fractions", "typing", "numpy"}


def test_the_check_sees_an_import_that_points_the_wrong_way(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("def f():\n    from propagate.pipeline import Propagator\n")
    assert imported_parts(file) - LAYERS["matching"] == {"pipeline"}
