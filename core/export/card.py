"""`README.md` of an artifact: a model card in the form of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from core.outputs import FORMATS, Format
from core.report import Point, Report
from core.verdict import sentence

LABEL = 60  # characters of a class that are shown
TASKS = {"classification": "text-classification"}  # ours -> the hub's `pipeline_tag`
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
    point = report.point
    data = ModelCardData(
        library_name="onnx",
        pipeline_tag=TASKS.get(report.task),
        tags=["ladapress", "compressed", "onnx", "text-classification"],
        model_name="student",
        eval_results=[
            EvalResult(
                task_type=TASKS.get(report.task, report.task),
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
        sentence=sentence(point),
        outputs=[(name, one.path, _size(one, point)) for name, one in FORMATS.items() if name in report.outputs],
        packed=(folder / "pytorch" / "load.py").exists(),
        needs={parity.file: _roots(parity.file, parity.closure) for parity in point.parity},
    )
    return text if text.endswith("\n") else text + "\n"


def fenced(label: str) -> str:
    """A label as code that nothing in it can end: one line, cut, between more backticks than stand in a row in it."""
    shown = " ".join(label.split())
    shown = shown if len(shown) <= LABEL else f"{shown[: LABEL - 1]}…"
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}"


def _size(one: Format, point: Point) -> int:
    """Bytes of a format's file and of what lies beside it under the same name."""
    stem = one.path.rpartition(".")[0]
    return sum(size for name, size in point.sizes.bytes_on_disk.items() if name.rpartition(".")[0] == stem)


def _roots(form: str, closure: tuple[str, ...]) -> str:
    """What pip is asked for: the roots of the closure at the versions that proved the file."""
    wanted = ROOTS[form]
    known = dict(entry.split("==") for entry in closure)
    return " ".join(f'"{name}=={known[name].partition("+")[0]}"' for name in wanted if name in known)
