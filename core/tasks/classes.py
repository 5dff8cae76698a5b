"""One class a row."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from core.report import ClassChange
from core.task import Metric
from core.tasks.answers import Array, Choices
from core.verify.scoring import figure, score


class Classes(Choices):
    """Truth and answers are class numbers (rows,). What is expected of a metric needs no drawing here."""

    @cached_property
    def truth(self) -> Array:
        return np.asarray(self.rows.labels)

    @cached_property
    def chosen(self) -> Array:
        return self.truth

    def choices(self, outputs: Array) -> Array:
        return outputs

    def truths(self, chosen: Array) -> Array:
        return chosen

    def expected(self, metric: Metric, chances: Array, guess: Array) -> float:
        """`metric` of classes (rows,) where each row is of each class with a chance, (rows, classes)."""
        if metric == "accuracy":
            return float(np.take_along_axis(chances, guess[:, None], axis=1).mean())
        classes = chances.shape[1]
        said = np.bincount(guess, minlength=classes).astype(np.float64)
        right = np.bincount(guess, weights=chances[np.arange(len(guess)), guess], minlength=classes)
        true = chances.sum(axis=0)
        if metric == "f1":
            return figure(self.task, metric, np.array([right[1], said[1], true[1]]))
        head = [[right.sum(), float(len(guess))]] if metric == "mcc" else [right]
        return figure(self.task, metric, np.concatenate([*head, said, true]))

    def promise(
        self, metric: Metric, chances: Array, ours: Array, theirs: Array, new: int, draws: int, seed: int
    ) -> tuple[float, float] | None:
        whole = self.expected(metric, chances, theirs)
        if whole <= 0:
            return None
        generator, edges, ratios = np.random.default_rng(seed), chances.cumsum(axis=1), []
        for _ in range(draws):
            rows = generator.integers(len(ours), size=new)
            truth = (edges[rows] < generator.random((new, 1))).sum(axis=1).clip(max=edges.shape[1] - 1)
            of_teacher = score(self.task, metric, truth, theirs[rows])
            if of_teacher > 0:
                ratios.append(score(self.task, metric, truth, ours[rows]) / of_teacher)
        spread = float(np.std(ratios)) if ratios else 0.0
        return self.expected(metric, chances, ours) / whole, spread * float(np.sqrt(1 + new / len(ours)))

    def surprise(self, student: Array, teacher: Array) -> Array:  # noqa: ARG002
        """Where the teacher is surest and the student says otherwise, it is most likely wrong."""
        ordered = np.sort(teacher, axis=1)
        found: Array = ordered[:, -1] - ordered[:, -2]
        return found

    def shown(self, answer: Any) -> str:
        return str(self.labels[answer])

    def classes(self, teacher: Array, student: Array) -> list[ClassChange]:
        return found_of(self.truth, teacher, student, self.labels)


def found_of(truth: Array, teacher: Array, student: Array, labels: tuple[str, ...]) -> list[ClassChange]:
    """Share of what is of each class that both find; class numbers (choices,)."""
    found = []
    for number, label in enumerate(labels):
        of_it = truth == number
        if count := int(of_it.sum()):
            right = [float((guess[of_it] == number).mean()) for guess in (teacher, student)]
            found.append(ClassChange(label=label, rows=count, teacher=right[0], student=right[1]))
    return sorted(found, key=lambda one: one.student - one.teacher)
