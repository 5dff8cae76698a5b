"""The arrows between the packages, what stays light, and how files are named and sized (docs/decisions/0001)."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "core": "core", "jobs": "jobs", "api": "api", "worker": "worker", "ladapress": "client/ladapress",
    "demo": "demo", "bench": "bench", "tests": "tests",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "jobs": {"core"},
    "api": {"jobs", "core"},
    "worker": {"jobs", "core"},
    "ladapress": set(),
}
LIGHT = {
    f"core.{name}"
    for name in (
        *(
            "recipe",
            "catalogue",
            "method",
            "codes",
            "plan",
            "profile",
            "allocate",
            "spend",
            "hasten",
            "searching",
            "forecast",
            "cost",
            "family",
            "task",
            "labels",
            "findings",
            "estimate",
        ),
        *("report", "errors", "transport", "outputs", "progress"),
    )
}
CHECKS = {
    "core.upload",
    "core.data",
    "core.records",
}  # what an upload may be: as light, and needed where uploads arrive
MECHANISMS = tuple(f"core/{folder}" for folder in ("factorize", "prune", "quantize", "structure", "distill"))
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "onnx", "onnxruntime", "sklearn", "accelerate", "safetensors")
MAX_LINES = 350


def sources(package: str) -> list[Path]:
    """Every Python file of a package."""
    return sorted((ROOT / FOLDERS[package]).rglob("*.py"))


def imports(file: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Full names of what a file imports; `from core import recipe` is `core.recipe`.

    With `at_import_time`, leave out what stands in functions and under `if TYPE_CHECKING`.
    """
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        lazy = lazy or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        if not (at_import_time and lazy):
            waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.relative_to(ROOT)}: relative imports hide the arrows"
            deeper = node.module in FOLDERS  # from core import recipe: the module is the name
            yield from (f"{node.module}.{a.name}" if deeper else str(node.module) for a in node.names)


def is_light(module: str) -> bool:
    """Tell whether a module of core belongs to the light half."""
    return module in LIGHT or module.replace(".", "/").startswith(MECHANISMS)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down(package: str) -> None:
    """A package imports itself and those below it, nowhere and never another."""
    allowed = MAY_IMPORT[package] | {package}
    for file in sources(package):
        upward = {name for name in imports(file) if name.split(".")[0] in set(FOLDERS) - allowed}
        assert not upward, f"{file.relative_to(ROOT)} imports {upward}"


@pytest.mark.parametrize(("package", "besides"), [("jobs", set()), ("api", CHECKS)])
def test_jobs_and_api_import_only_the_light_half_of_core(package: str, besides: set[str]) -> None:
    """Their image holds no torch, numpy or pyarrow, so not even a function may ask for the heavy half."""
    for file in sources(package):
        used = {name for name in imports(file) if name.split(".")[0] == "core"} - besides
        heavy = {name for name in used if not is_light(name)}
        assert not heavy, f"{file.relative_to(ROOT)} imports {heavy}"


@pytest.mark.parametrize("package", ["jobs", "api", "ladapress"])
def test_the_slim_packages_never_name_a_heavy_library(package: str) -> None:
    """Neither at import time nor inside a function."""
    for file in sources(package):
        if file.name in (
            "shipped.py",
            "scoring.py",
        ):  # what artifacts carry; `ladapress.measure` loads it where its extra is installed
            continue
        heavy = {name for name in imports(file) if name.split(".")[0] in HEAVY}
        assert not heavy, f"{file.relative_to(ROOT)} imports {heavy}"


def test_the_light_half_of_core_needs_pydantic_and_the_standard_library_only() -> None:
    """This holds at import time, for the light modules, every mechanism file and the checks of uploads."""
    files = [ROOT / f"{name.replace('.', '/')}.py" for name in LIGHT | CHECKS]
    files += [file for folder in MECHANISMS for file in (ROOT / folder).rglob("*.py")]
    for file in files:
        for name in imports(file, at_import_time=True):
            top = name.split(".")[0]
            light = top in sys.stdlib_module_names or top == "pydantic" or name in CHECKS or is_light(name)
            assert light, f"{file.relative_to(ROOT)} imports {name} at import time"


@pytest.mark.parametrize("module", ["api.app", "worker.app", "core.recipe", "ladapress.cli"])
def test_starts_without_the_machine_learning_stack(module: str) -> None:
    """A process that only reads the schema, serves HTTP or waits for work stays light."""
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))"  # None in sys.modules: import raises
    done = subprocess.run(
        [sys.executable, "-c", f"{block}; import {module}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", FOLDERS)
def test_a_file_past_350_lines_says_why(package: str) -> None:
    """Its docstring holds the words `past 350 lines`, or it is generated and says so."""
    for file in sources(package):
        text = file.read_text()
        if len(text.splitlines()) > MAX_LINES:
            docstring = ast.get_docstring(ast.parse(text)) or ""
            excused = re.search(r"past 350 lines|generated", docstring + text[:300], re.IGNORECASE)
            assert excused, f"{file.relative_to(ROOT)} has {len(text.splitlines())} lines and no reason"


@pytest.mark.parametrize("package", FOLDERS)
def test_every_file_and_class_has_a_noun_of_its_own(package: str) -> None:
    """A drawer named after nothing fills with everything."""
    drawer = re.compile(r"(^|_)(utils?|commons?|helpers?|managers?|misc)(_|$)")
    drawers = re.compile(r"(Utils?|Helpers?|Managers?)$")
    for file in sources(package):
        parts = file.relative_to(ROOT).with_suffix("").parts
        assert not any(drawer.search(part) for part in parts), file
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.ClassDef) and drawers.search(node.name)
            assert not named, f"{file.relative_to(ROOT)}: {getattr(node, 'name', '')}"


def test_the_server_cannot_be_uploaded_to_an_index() -> None:
    """Its import names are too plain to be anybody's dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]
