"""`python -m tests.tasks.table > docs/tasks.md`: runs every cell of family and task, and writes what came of it.

The same tests are in `make test-long`; a test holds that no row, column or metric of the page is missing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from core.family import FAMILIES
from core.task import TASKS, Task
from tests.families.cells import CELLS

ROOT = Path(__file__).parent.parent.parent
LAWS = "tests/tasks/test_laws.py"
HEAD = """# Tasks and families

<!-- generated: python -m tests.tasks.table > docs/tasks.md -->

`task` of a job says what the model is for; its class in Transformers has to be of that task. Where `metric` is
absent the first one is taken. A column has the first of these names that the file has, unless `data.columns` names
another.

"""
AFTER_TASKS = """
A sequence classifier whose `config.json` has no `problem_type` is what the job says: `classification` or
`multi_label`. Lists stand in JSONL and Parquet as lists; in CSV as JSON, words and their tags also with spaces
between them. Labels are class names or numbers; of multi-label those that hold, or a float (0.0 or 1.0) or boolean
for every label. Answers have SQuAD's form, `{"text": [...], "answer_start":
[...]}`, both empty where there is none. What a tokenizer cuts off is not asked for: words behind the longest text,
and answers there count as missed.

`f1` is that of class 1 in classification, over all labels in multi-label, of whole entities (BIO or IOBES names) in
token classification, of shared words in question answering. Embeddings are pooled as `1_Pooling/config.json` says
(mean or first token), normalised where `modules.json` does; rows of `train` may be single texts without a score.
Regression and embeddings are measured in Spearman's rank correlation.

## Cells

In each cell these hold on a small random model: shapes are exact; padding changes nothing; removing neurons that
say nothing changes outputs by less than 1e-5, factors of full rank likewise; `model.onnx` and `pytorch/` are the
model, whole and cut; a copy has nothing to learn and a cut student has; every layer is felt by the loss. The number
is of tests that passed. `make test` runs BERT with all tasks, `make test-long` all cells.

"""


def tasks() -> str:
    """One line a task."""

    def line(task: Task) -> str:
        names = (" or ".join(f"`{name}`" for name in each) for each in (task.text, task.text_pair, task.label))
        metrics = ", ".join(f"`{metric}`" for metric in task.metrics)
        cells = (f"`{task.name}`", f"`…{task.head}`", metrics, *names, ", ".join(f"`{one}`" for one in task.outputs))
        return "| " + " | ".join(cells) + " |"

    head = "| task | class | metrics | text | second text | label | outputs of model.onnx |\n" + "| --- " * 7 + "|\n"
    return head + "\n".join(map(line, TASKS.values())) + "\n"


def cells(found: dict[tuple[str, str], str]) -> str:
    """One line a family: what may be removed of it, and each task."""
    head = f"| family | units that go | {' | '.join(TASKS)} |\n" + "| --- " * (len(TASKS) + 2) + "|\n"
    lines = [
        f"| `{name}` | {', '.join(CELLS[name].readers)} | {' | '.join(found[name, task] for task in TASKS)} |"
        for name in FAMILIES
    ]
    return head + "\n".join(lines) + "\n"


def run() -> dict[tuple[str, str], str]:
    """Tests passed by cell, or what failed."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "long or not long", f"--junitxml={report}", LAWS]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        cases = list(ET.parse(report).getroot().iter("testcase"))
    good, bad = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for case in cases:
        name = re.search(r"\[(.+)-(\w+)\]", str(case.get("name")))
        assert name is not None
        into = bad if case.find("failure") is not None or case.find("error") is not None else good
        into[name[1], name[2]] += 1
    return {cell: f"{bad[cell]} FAILED" if bad[cell] else str(good[cell]) for cell in {*good, *bad}}


if __name__ == "__main__":
    sys.stdout.write(HEAD + tasks() + AFTER_TASKS + cells(run()))
