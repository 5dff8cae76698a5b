"""Graded rows are opened in one place, and a row is made again exactly when something that decides it changed."""

import ast
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import bench
from bench import graded
from bench.systems import System, prepare
from tests import tiny

FOLDER = Path(bench.__file__).parent
ONE = System("ladabert-1")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("bench.graded", {"__main__.py"}),
        (
            "bench.systems",
            {"__main__.py", "graded.py", "cuda.py", "direct.py", "targets.py", "plan_times.py", "shift.py"},
        ),
    ],
)
def test_nothing_that_decides_imports_what_opens_graded_rows(module: str, allowed: set[str]) -> None:
    assert {path.name for path in FOLDER.rglob("*.py") if module in imports(path)} == allowed


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "toys"
    folder.mkdir()
    for name, count in (("train", 300), ("validation", 20), ("test", 30)):
        texts, labels = zip(*tiny.sentences(count, seed=len(name)), strict=True)
        parquet.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}.parquet")
    return folder


def test_graded_rows_are_validation_and_test_together(data: Path, tmp_path: Path) -> None:
    task = prepare(data, tmp_path, seed=0, most=100)
    assert len(parquet.read_table(task.eval)) == 50
    assert len(parquet.read_table(task.train)) == 100


def test_a_fingerprint_follows_seed_system_and_data(data: Path, tmp_path: Path) -> None:
    teacher = tiny.write_model(tmp_path / "model", hidden=64)
    task = prepare(data, tmp_path, seed=0, most=1_000)
    base = graded.fingerprint(teacher, task, ONE, 0)
    assert base == graded.fingerprint(teacher, task, ONE, 0)
    others = {
        graded.fingerprint(teacher, task, System("ladabert-2"), 0),
        graded.fingerprint(teacher, task, ONE, 1),
    }
    parquet.write_table(parquet.read_table(task.train).slice(1), task.train)
    others.add(graded.fingerprint(teacher, task, ONE, 0))
    others.add(graded.fingerprint(teacher, task, System("ladabert-1", (2.5, 3.0)), 0))
    assert base not in others
    assert len(others) == 4
