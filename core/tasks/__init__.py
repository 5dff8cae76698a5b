"""Outputs of a model as answers, task by task: what they are worth, and what a teacher's say of the truth."""

from __future__ import annotations

from collections.abc import Sequence

from core.data import Rows
from core.tasks.answers import Answers, Array
from core.tasks.classes import Classes
from core.tasks.labels import LabelSets
from core.tasks.spans import Spans
from core.tasks.tags import Tags
from core.tasks.values import Cosines, Values

KINDS: dict[str, type[Answers]] = {
    "classification": Classes,
    "multi_label": LabelSets,
    "regression": Values,
    "token_classification": Tags,
    "question_answering": Spans,
    "sentence_embedding": Cosines,
}


def answers_of(task: str, rows: Rows, places: Sequence[Array] = (), labels: Sequence[str] = ()) -> Answers:
    """Answers on rows as they were read.

    Args:
        places: of the tokens of each row, where the task reads any (`core.batches.Split`).
        labels: names of the classes.
    """
    return KINDS[task](task, rows, places, tuple(labels))


__all__ = ["Answers", "answers_of"]
