"""One whole job of every task: labelled rows in, two files out, which verify.py measures to the digit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.data import Data
from core.inspect import inspect
from core.pipeline import Delivered, compress
from core.recipe import Recipe, Target
from core.task import TASKS
from tests.tasks import made

STEPS = {
    "int8": [
        {"method": "structured", "keep": 0.5, "align": 8, "calibration_rows": 64},
        {"method": "distill", "epochs": 1},
        {"method": "int8"},
    ],
    "bits": [
        {"method": "gptq", "bits": "auto", "group": 16, "calibration_rows": 64},
        {"method": "distill", "epochs": 1, "patience": 2, "look_every": 0.5},
    ],
}
JOBS = [
    pytest.param(
        "bert",
        task,
        "bits" if number % 2 else "int8",
        id=f"bert-{task}",
        marks=pytest.mark.long if task in ("multi_label", "regression", "token_classification") else [],
    )
    for number, task in enumerate(TASKS)
    if task != "classification"
]


@pytest.mark.parametrize(("name", "task", "steps"), JOBS)
def test_a_job_delivers_what_verify_repeats(name: str, task: str, steps: str, tmp_path: Path) -> None:
    teacher = made.write(tmp_path / "model", name, task)
    data = Data(
        train=made.write_rows(tmp_path / "train.jsonl", task, 160, 1),
        eval=made.write_rows(tmp_path / "eval.jsonl", task, 60, 2),
    )
    verdict = inspect(teacher, data, metric=TASKS[task].metrics[0], task=task)
    assert verdict.ok, verdict.error
    result = compress(
        teacher, Recipe.model_validate({"steps": STEPS[steps]}), data, out=tmp_path / "out", task=task, threads=1,
        target=Target(bytes_ratio=2.2) if steps == "bits" else None,
    )  # fmt: skip
    report = result.report
    assert (report.task, report.point.metric) == (task, TASKS[task].metrics[0])
    assert report.point.teacher > 0.4, "the teacher did not learn its task"
    assert report.point.retention > 0.5
    done = subprocess.run(
        [sys.executable, str(result.folder / "verify.py"), "--eval", str(tmp_path / "eval.jsonl")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for form, value in report.point.student_by_file.items():
        assert (
            f"ok      {form}: {report.point.metric} {value:.6f} on 60 rows; report.json says {value:.6f}\n"
            in done.stdout
        )
    _card(result.headline)


def _card(delivered: Delivered) -> None:
    """Its loading lines run where the files are."""
    text = (delivered.folder / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) == 2
    said = []
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=delivered.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, program + done.stderr
        said.append(done.stdout)
    assert said[0].strip()
