"""A number a row: what the model says itself, or the cosine of the embeddings of two texts."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from core.labels import UNLABELLED
from core.likelihood import NEAR
from core.tasks.answers import Answers, Array
from core.verify import scoring

ALIKE = 0.1  # 2 - 2 cos of embeddings that count as the same: a cosine of 0.95


class Values(Answers):
    """Truth and answers are (rows,) of float. Alike are two that are within `NEAR` of the teacher's own spread."""

    @cached_property
    def truth(self) -> Array:
        return np.asarray(self.rows.labels, dtype=np.float64)

    def apart(self, student: Array, teacher: Array) -> Array:
        ours, theirs = self.guess(student).astype(np.float64), self.guess(teacher).astype(np.float64)
        found: Array = (ours - theirs) ** 2 / (2 * NEAR**2 * (theirs.var() or 1.0))
        return found

    def agreement(self, a: Array, b: Array) -> float:
        return float((self.apart(a, b) <= 0.5).mean())

    def chances(self, teacher: Array) -> tuple[Array, float]:
        """Expected truth of each row, on the line through the labels, and the standard deviation around it."""
        said = self.guess(teacher).astype(np.float64)
        if not len(self.truth) or (self.truth == UNLABELLED).all() or not said.var():
            return said, 0.0
        slope = float(np.cov(said, self.truth, bias=True)[0, 1] / said.var())
        line = self.truth.mean() + slope * (said - said.mean())
        return line, float(np.sqrt(((self.truth - line) ** 2).mean()))

    def draw(self, chances: tuple[Array, float], generator: np.random.Generator) -> Array:
        line, width = chances
        found: Array = line + width * generator.normal(size=len(line))
        return found

    def noisy(self, teacher: Array, height: float, generator: np.random.Generator) -> Array:
        return teacher + height * (float(teacher.std()) or 1.0) * generator.normal(size=teacher.shape)

    def worth(self, guess: Array) -> Array:
        """The nearer in rank, the better: that is what is measured."""
        found: Array = -np.abs(scoring.ranked(self.truth) - scoring.ranked(guess))
        return found

    def changed(self, a: Array, b: Array) -> Array:
        found: Array = np.abs(a - b) > NEAR * (b.std() or 1.0)
        return found

    def surprise(self, student: Array, teacher: Array) -> Array:
        found: Array = np.abs(self.guess(student) - self.guess(teacher))
        return found

    def shown(self, answer: Any) -> str:
        return f"{float(answer):.3f}"


class Cosines(Values):
    """Outputs are embeddings of the texts of all rows, one text after the other."""

    def guess(self, outputs: Array) -> Array:
        """Of rows without a second text, each beside the next one's: what a student is compared with a teacher by."""
        paired = outputs if self.rows.pairs is not None else np.stack([outputs, np.roll(outputs, -1, axis=0)], axis=1)
        return scoring.guesses(self.task, paired.reshape(-1, outputs.shape[-1]), (), ())

    def apart(self, student: Array, teacher: Array) -> Array:
        """Of every text: the squared distance in units of the teacher's length."""
        ours, theirs = student.astype(np.float64), teacher.astype(np.float64)
        found: Array = ((ours - theirs) ** 2).sum(axis=1) / np.maximum((theirs**2).sum(axis=1), 1e-12)
        return found

    def agreement(self, a: Array, b: Array) -> float:
        return float((self.apart(a, b) <= ALIKE).mean())
