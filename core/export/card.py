"""`README.md` of an artifact: a model card in the form of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from core.outputs import FORMATS
from core.pooling import FILE as POOLING
from core.report import Report
from core.task import TASKS, Task
from core.verdict import sentence

# What is read from `logits` in the lines that load the model.
ANSWERS = {
    "classification": "logits.argmax(axis=1)",
    "multi_label": "logits > 0",
    "regression": "logits[:, 0]",
    "token_classification": "logits.argmax(axis=2)",
}
LABEL = 60  # characters of a class that are shown
ROOTS = {
    "model.onnx": ("onnxruntime", "numpy", "tokenizers"),
    "pytorch": ("torch", "transformers", "safetensors"),
    **{one.path: one.needs for one in FORMATS.values()},
}
_ENVIRONMENT = Environment(loader=PackageLoader("core.export", "."), undefined=StrictUndefined, autoescape=False)  # noqa: S701 - Markdown, not HTML


def card(report: Report, folder: Path) -> str:
    """Markdown with YAML in front. `folder` is the artifact: which form of pytorch/ it has, and which inputs.

    Its loading lines run in a test (tests/core/test_proof.py).
    """
    point, task = report.point, TASKS[report.task]
    data = ModelCardData(
        library_name="onnx",
        pipeline_tag=task.hub,
        tags=["ladapress", "compressed", "onnx", task.hub],
        model_name="student",
        eval_results=[
            EvalResult(
                task_type=task.hub,
                dataset_type="private",
                dataset_name="eval rows of the job",
                metric_type=point.metric,
                metric_value=round(point.student, 6),
            )
        ],
    )
    _ENVIRONMENT.filters["fenced"] = fenced
    text = _ENVIRONMENT.get_template("card.md.j2").render(
        data=data.to_yaml(),
        report=report,
        point=point,
        task=task,
        inputs=_inputs(task),
        answer=ANSWERS.get(task.name),
        auto=f"Auto{task.head if task.head == 'Model' else f'Model{task.head}'}",
        segments=task.name == "question_answering"
        and _read(folder / "pytorch/config.json").get("type_vocab_size", 0) > 1,
        pooled=_pooled(_read(folder / "pytorch" / POOLING)),
        sentence=sentence(point),
        outputs=[
            (name, one.path, one.size(point.sizes.bytes_on_disk))
            for name, one in FORMATS.items()
            if name in report.outputs
        ],
        packed=(folder / "pytorch" / "load.py").exists(),
        needs={parity.file: _roots(parity.file, parity.closure) for parity in point.parity},
    )
    return text if text.endswith("\n") else text + "\n"


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _pooled(pooling: dict[str, Any]) -> str:
    """An embedding of one text without padding, from the states of its tokens."""
    states = "out.last_hidden_state" + ("[:, 0]" if pooling.get("mode") == "cls" else ".mean(dim=1)")
    return f"torch.nn.functional.normalize({states}, dim=1)" if pooling.get("normalize") else states


def _inputs(task: Task) -> str:
    """What is given to the tokenizer in the lines that load the model."""
    return {
        "token_classification": '"the parcel never arrived".split(), is_pretokenized=True',
        "question_answering": '"what never arrived?", "the parcel never arrived"',
    }.get(task.name, '"the parcel never arrived"')


def fenced(label: str) -> str:
    """A label as code that nothing in it can end: one line, cut, between more backticks than stand in a row in it."""
    shown = " ".join(label.split())
    shown = shown if len(shown) <= LABEL else f"{shown[: LABEL - 1]}…"
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}"


def _roots(form: str, closure: tuple[str, ...]) -> str:
    """What pip is asked for: the roots of the closure at the versions that proved the file."""
    wanted = ROOTS[form]
    known = dict(entry.split("==") for entry in closure)
    return " ".join(f'"{name}=={known[name].partition("+")[0]}"' for name in wanted if name in known)
