"""Baselines: files that a user gets without us, graded as a student is."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench import graded
from bench.baselines import BASELINES
from bench.made import Made, Material
from bench.systems import Task, prepare
from core.verify import logits
from tests import tiny


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", steps=60)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("toys")
    for name, count in (("train", 300), ("validation", 50)):
        texts, labels = zip(*tiny.sentences(count, seed=len(name)), strict=True)
        parquet.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}.parquet")
    return prepare(folder, folder, seed=0, most=300)


@pytest.fixture(autouse=True)
def _results_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.rows.RESULTS", tmp_path / "results")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_smaller_and_predicts_what_its_teacher_does(
    name: str, teacher: Path, task: Task, tmp_path: Path
) -> None:
    row = graded.run_file(name, BASELINES[name], teacher, task, 0, tmp_path)
    point = row["report"]["point"]
    assert point["bytes_ratio"] > 1.5  # of a tiny model the graph is most of the file
    assert point["retention"] > 0.9
    assert len(row["predictions"]) == len(row["labels"]) == 50


def test_a_row_that_stands_is_not_made_again(teacher: Path, task: Task, tmp_path: Path) -> None:
    made = 0

    def teacher_itself(given: Material, folder: Path) -> Made:
        nonlocal made
        made += 1
        given.exported.rename(folder)
        folder.with_name("teacher").symlink_to(folder)
        return Made(folder, given.parameters)

    first = graded.run_file("itself", teacher_itself, teacher, task, 0, tmp_path / "1")
    assert graded.run_file("itself", teacher_itself, teacher, task, 0, tmp_path / "2") == first
    assert made == 1
    assert first["report"]["point"]["retention"] == 1
    graded.run_file("itself", teacher_itself, teacher, task, 1, tmp_path / "3")
    assert made == 2


@pytest.mark.long
def test_what_makes_a_file_sees_no_graded_row(teacher: Path, task: Task, tmp_path: Path) -> None:
    seen: list[Material] = []

    def look(given: Material, folder: Path) -> Made:
        seen.append(given)
        return Made(given.exported, given.parameters)

    graded.run_file("look", look, teacher, task, 0, tmp_path)
    given = seen[0]
    assert len(given.train) + len(given.select) == 300
    answers = logits("onnx", given.exported, given.select_rows.inputs(), max_length=64, threads=1).logits
    assert np.mean(answers.argmax(axis=1) == given.select_rows.labels) > 0.8
