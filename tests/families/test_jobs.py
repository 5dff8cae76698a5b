"""One whole job of every family: text in, two files out, each proved by a process that has nothing of ours."""

import csv
from pathlib import Path

import pytest

from core.data import Data
from core.inspect import inspect, shape_of
from core.pipeline import compress
from core.plan import size_of
from core.recipe import Recipe, Target
from tests import tiny
from tests.families import models
from tests.families.cells import CELLS

ALWAYS = "deberta-v2", "int8"  # what differs most from what is tried elsewhere; all others take a minute each
TRAINING = {"method": "distill", "epochs": 1, "batch_size": 32}
STEPS = {
    "int8": [{"method": "structured", "keep": 0.5, "align": 8, "calibration_rows": 64}, TRAINING, {"method": "int8"}],
    "gptq": [
        {"method": "vocabulary", "tokens": 64},
        {"method": "obs", "keep": 0.6, "when": "once", "calibration_rows": 64},
        {"method": "gptq", "bits": 4, "group": 16, "calibration_rows": 64},
        {**TRAINING, "attention": 0.1},
    ],
    "milliseconds": [{"method": "structured", "align": 8, "calibration_rows": 64}, {"method": "int8"}],
}
TARGETS = {"milliseconds": Target(latency_ratio=1.01)}
JOBS = [
    pytest.param(name, steps, marks=[] if (name, steps) == ALWAYS else pytest.mark.long)
    for name in CELLS
    for steps in STEPS
]


@pytest.mark.parametrize(("name", "steps"), JOBS)
def test_a_job_delivers_two_files_that_are_the_student(name: str, steps: str, tmp_path: Path) -> None:
    """Texts are pairs; one is longer than the model takes."""
    teacher = models.write(tmp_path / "model", name, models.taught(name))
    files = {role: tmp_path / f"{role}.csv" for role in ("train", "eval")}
    for seed, (path, count) in enumerate(zip(files.values(), (200, 40), strict=True)):
        rows = tiny.sentences(count, seed=seed)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "text_pair", "label"))
            writer.writerows(
                (text, "the old barn " * (100 if row == 7 else 1 + row % 2), y) for row, (text, y) in enumerate(rows)
            )
    data = Data(**files)
    verdict = inspect(teacher, data)
    assert verdict.ok, verdict.error
    recipe = Recipe.model_validate({"steps": STEPS[steps]})
    result = compress(teacher, recipe, data, out=tmp_path / "out", target=TARGETS.get(steps), threads=1)
    point = result.report.point
    recipe = Recipe.model_validate(result.report.recipe)  # nothing of it is "auto" any more
    assert {part.file for part in point.parity} == {"model.onnx", "pytorch"}
    assert point.sizes.parameters == size_of(recipe, shape_of(teacher)[0]).parameters
    assert point.bytes_ratio > 1
    assert point.teacher > 0.8, "the teacher did not learn its task"
