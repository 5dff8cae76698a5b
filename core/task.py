"""What a model is for: one row per task, with the metrics that it has and what Transformers calls its class.

How outputs are read is in `core.verify.scoring`, which every artifact carries; what a teacher's outputs say of the
answer is in `core.tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import DataInvalid, ModelInvalid, ModelUnsupported

Metric = Literal["accuracy", "macro_f1", "f1", "mcc", "exact_match", "spearman"]
TaskName = Literal[
    "classification",
    "multi_label",
    "regression",
    "token_classification",
    "question_answering",
    "sentence_embedding",
]
Labels = Literal["classes", "number", "none"]


@dataclass(frozen=True)
class Task:
    """Names of a task's columns are tried in their order where the user names none."""

    name: TaskName
    head: str  # what follows the family's name in the name of the class in Transformers
    metrics: tuple[Metric, ...]  # the first where none is asked for
    hub: str  # `pipeline_tag` of the Hugging Face hub
    noun: str  # what such a model is
    labels: Labels = "classes"  # what config.json `id2label` names
    problem: str = ""  # config.json `problem_type`
    outputs: tuple[str, ...] = ("logits",)  # of model.onnx
    per_token: bool = False  # outputs are (rows, tokens, width), not (rows, width)
    text: tuple[str, ...] = ("text", "sentence")
    text_pair: tuple[str, ...] = ("text_pair",)
    label: tuple[str, ...] = ("label",)


SEQUENCE = "ForSequenceClassification"
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "classification",
            SEQUENCE,
            ("accuracy", "macro_f1", "f1", "mcc"),
            "text-classification",
            "text classifier",
            problem="single_label_classification",
        ),
        Task(
            "multi_label",
            SEQUENCE,
            ("f1", "macro_f1", "exact_match"),
            "text-classification",
            "multi-label text classifier",
            problem="multi_label_classification",
            label=("label", "labels"),
        ),
        Task(
            "regression",
            SEQUENCE,
            ("spearman",),
            "text-classification",
            "model of a score for text",
            labels="number",
            problem="regression",
            label=("label", "score"),
        ),
        Task(
            "token_classification",
            "ForTokenClassification",
            ("f1", "macro_f1", "accuracy"),
            "token-classification",
            "tagger of words",
            per_token=True,
            text=("tokens", "words"),
            text_pair=(),
            label=("tags", "ner_tags", "label", "labels"),
        ),
        Task(
            "question_answering",
            "ForQuestionAnswering",
            ("f1", "exact_match"),
            "question-answering",
            "finder of answers in a text",
            labels="none",
            outputs=("start_logits", "end_logits"),
            per_token=True,
            text=("question",),
            text_pair=("context",),
            label=("answers",),
        ),
        Task(
            "sentence_embedding",
            "Model",
            ("spearman",),
            "sentence-similarity",
            "sentence embedder",
            labels="none",
            outputs=("sentence_embedding",),
            text=("text", "sentence1", "sentence"),
            text_pair=("text_pair", "sentence2"),
            label=("label", "score"),
        ),
    )
}
HEADS = tuple(dict.fromkeys(task.head for task in TASKS.values()))


def task_of(head: str, config: Mapping[str, Any], asked: str | None = None) -> Task:
    """The task of a model by its class and config.json; where `asked` names one, it has to be that.

    A sequence classifier whose config does not say its `problem_type` is what was asked for, where its outputs fit.

    Raises:
        ModelUnsupported: what was asked for is another task than the model's.
    """
    fitting = [task for task in TASKS.values() if task.head == head]
    if head == SEQUENCE:
        problem = config.get("problem_type")
        single = len(config.get("id2label") or (0, 1)) == 1  # Transformers takes such a one for a regression
        fitting = [task for task in fitting if (task.labels == "number") == single]
        if problem is not None:
            fitting = [task for task in fitting if task.problem == problem]
            if not fitting:
                raise ModelInvalid(
                    f"config.json problem_type {str(problem)[:60]!r} does not fit its id2label; legal: regression with "
                    "one label, single_label_classification or multi_label_classification with more",
                    param="/model",
                )
    named = next((task for task in fitting if task.name == asked), None)
    if asked is not None and named is None:
        legal = " or ".join(repr(task.name) for task in fitting)
        raise ModelUnsupported(f"task {asked!r} was asked for, the model is of task {legal}", param="/task")
    return named or fitting[0]


def check_metric(metric: str, task: Task, classes: int) -> None:
    """Refuse a metric that the task does not have. Raises DataInvalid."""
    if metric not in task.metrics:
        raise DataInvalid(
            f"metric {metric!r} is not one of task {task.name!r}: {', '.join(task.metrics)}",
            param="/metric",
            finding="metric_unfit",
        )
    if task.name == "classification" and metric == "f1" and classes != 2:
        raise DataInvalid(
            f"metric 'f1' needs 2 classes, the model has {classes}: use macro_f1",
            param="/metric",
            finding="metric_unfit",
        )
