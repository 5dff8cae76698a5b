"""Any number of labels a row: each is a choice, to hold or not."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from core.report import ClassChange
from core.tasks.answers import Array, Choices


class LabelSets(Choices):
    """Truth and answers are (rows, labels) of bool."""

    @cached_property
    def truth(self) -> Array:
        found = np.zeros((len(self.rows), len(self.labels)), dtype=bool)
        for row, numbers in enumerate(self.rows.labels):
            found[row, list(numbers)] = True
        return found

    @cached_property
    def chosen(self) -> Array:
        return self.truth.ravel().astype(np.int64)

    def choices(self, outputs: Array) -> Array:
        return np.stack([np.zeros_like(outputs), outputs], axis=-1).reshape(-1, 2)

    def truths(self, chosen: Array) -> Array:
        return chosen.reshape(len(self.rows), -1) == 1

    def worth(self, guess: Array) -> Array:
        """Share of the labels that are right."""
        found: Array = (self.truth == guess).mean(axis=1)
        return found

    def changed(self, a: Array, b: Array) -> Array:
        found: Array = (a != b).any(axis=1)
        return found

    def shown(self, answer: Any) -> str:
        return ", ".join(self.labels[number] for number in np.flatnonzero(answer)) or "none"

    def classes(self, teacher: Array, student: Array) -> list[ClassChange]:
        found = []
        for number, label in enumerate(self.labels):
            of_it = self.truth[:, number]
            if count := int(of_it.sum()):
                right = [float(guess[of_it, number].mean()) for guess in (teacher, student)]
                found.append(ClassChange(label=label, rows=count, teacher=right[0], student=right[1]))
        return sorted(found, key=lambda one: one.student - one.teacher)
