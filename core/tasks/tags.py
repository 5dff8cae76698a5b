"""A class for every word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from core.report import ClassChange
from core.tasks.answers import Array, Choices
from core.tasks.classes import found_of
from core.verify.scoring import OUTSIDE, entities


class Tags(Choices):
    """Truth and answers are class numbers of the words of each row, as far as it was not cut off."""

    @cached_property
    def begins(self) -> Array:
        """(tokens of all rows,) of bool: what begins a word."""
        return np.concatenate([place >= 0 for place in self.places])

    @cached_property
    def truth(self) -> list[Array]:
        return [np.asarray(tags)[place[place >= 0]] for tags, place in zip(self.rows.labels, self.places, strict=True)]

    @cached_property
    def chosen(self) -> Array:
        return np.concatenate(self.truth)

    def choices(self, outputs: Array) -> Array:
        return outputs[self.begins]

    def truths(self, chosen: Array) -> list[Array]:
        return self._by_row(chosen)

    def worth(self, guess: Sequence[Array]) -> Array:
        """Share of the words that are right."""
        return np.array([float((a == b).mean()) if len(a) else 1.0 for a, b in zip(self.truth, guess, strict=True)])

    def changed(self, a: Sequence[Array], b: Sequence[Array]) -> Array:
        return np.array([not np.array_equal(one, other) for one, other in zip(a, b, strict=True)], dtype=bool)

    def surprise(self, student: Array, teacher: Array) -> Array:
        return np.array([float(row.sum()) for row in self._by_row(self.apart(student, teacher))])

    def shown(self, answer: Any) -> str:
        """Its entities by the numbers of their words, from 1."""
        found = entities([self.labels[number] for number in answer])
        spans = [(kind, str(first + 1) if last == first + 1 else f"{first + 1}-{last}") for kind, first, last in found]
        return ", ".join(f"{kind} {span}" for kind, span in spans if kind != OUTSIDE) or "none"

    def classes(self, teacher: Sequence[Array], student: Sequence[Array]) -> list[ClassChange]:
        return found_of(self.chosen, np.concatenate(teacher), np.concatenate(student), self.labels)

    def _by_row(self, of_words: Array) -> list[Array]:
        return np.split(of_words, np.cumsum([int((place >= 0).sum()) for place in self.places])[:-1])
