"""Answers of a task on some rows: what they are, how near two models are, what a teacher's outputs say of the truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from core.data import Rows
from core.metrics import agreement, divergences
from core.report import ClassChange
from core.task import Metric
from core.verify import scoring

TEMPERATURES = (0.2, 10.0)
Array = Any  # of numpy


def calibrated(logits: Array, labels: Sequence[int]) -> Array:
    """Chances (rows, classes) from logits at the temperature of the highest likelihood of the labels.

    Source: Guo et al. 2017, arXiv 1706.04599.
    """
    rows, truth = np.arange(len(labels)), np.asarray(labels)

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, truth].mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    chances: Array = softmax(logits.astype(np.float64) / np.exp(found.x), axis=1)
    return chances


@dataclass(frozen=True)
class Answers(ABC):
    """Outputs are as `core.batches.predict` gives them, answers as `core.verify.scoring` has them.

    `rows` have the labels; `places` as in `Split`; `labels`: names of the classes.
    """

    task: str
    rows: Rows
    places: Sequence[Array]
    labels: tuple[str, ...]

    @cached_property
    @abstractmethod
    def truth(self) -> Any:
        """What is right, of the form of answers."""

    @abstractmethod
    def apart(self, student: Array, teacher: Array) -> Array:
        """KL(teacher || student) of each choice."""

    @abstractmethod
    def agreement(self, a: Array, b: Array) -> float:
        """Share of choices that two models make alike."""

    @abstractmethod
    def chances(self, teacher: Array) -> Any:
        """What a teacher's outputs say of the truth, by their own confidence as the labels bear it out."""

    @abstractmethod
    def draw(self, chances: Any, generator: np.random.Generator) -> Any:
        """A truth of every row by these chances, of the form of `judged`."""

    @abstractmethod
    def noisy(self, teacher: Array, height: float, generator: np.random.Generator) -> Array:
        """Outputs with Gaussian noise of so many typical margins."""

    def guess(self, outputs: Array) -> Any:
        """The answers that are scored."""
        pairs: Sequence[str | None] = self.rows.pairs or [None] * len(self.rows)
        return scoring.guesses(self.task, outputs, self.places, pairs)

    def judged(self, outputs: Array) -> Any:
        """The answers that are held against drawn truths."""
        return self.guess(outputs)

    def divergence(self, student: Array, teacher: Array) -> float:
        """KL(teacher || student), mean over choices."""
        found = self.apart(student, teacher)
        return float(found.mean()) if len(found) else 0.0

    def score(self, metric: Metric, guess: Any) -> float:
        """`metric` against the labels."""
        return scoring.score(self.task, metric, self.truth, guess, self.labels)

    def tally(self, metric: Metric, truth: Any, guess: Any) -> Array:
        """(rows, k), see `core.verify.scoring.tally`."""
        return scoring.tally(self.task, metric, truth, guess, self.labels)

    def promise(
        self, metric: Metric, chances: Any, ours: Any, theirs: Any, new: int, draws: int, seed: int
    ) -> tuple[float, float] | None:
        """Expected retention, and its standard deviation on `new` rows; None where the teacher's score is nothing.

        Both over drawn truths.
        """
        generator, rows = np.random.default_rng(seed), len(self.rows)
        sums, ratios = [], []
        for _ in range(draws):
            truth, chosen = self.draw(chances, generator), generator.integers(rows, size=new)
            every, some = self._scores(metric, truth, (ours, theirs), chosen)
            sums.append(every)
            if some[1] > 0:
                ratios.append(some[0] / some[1])
        own, whole = np.mean(sums, axis=0)
        if whole <= 0:
            return None
        spread = float(np.std(ratios)) if ratios else 0.0
        return float(own / whole), spread * float(np.sqrt(1 + new / rows))

    def _scores(
        self, metric: Metric, truth: Any, guesses: Sequence[Any], chosen: Array
    ) -> tuple[list[float], list[float]]:
        """The metric of each guess, on all rows and on chosen ones."""
        if metric == "spearman":
            return (
                [scoring.spearman(truth, guess) for guess in guesses],
                [scoring.spearman(truth[chosen], guess[chosen]) for guess in guesses],
            )
        tallies = [self.tally(metric, truth, guess) for guess in guesses]
        return (
            [scoring.figure(self.task, metric, one.sum(axis=0)) for one in tallies],
            [scoring.figure(self.task, metric, one[chosen].sum(axis=0)) for one in tallies],
        )

    # What a report shows of rows.

    def worth(self, guess: Any) -> Array:
        """(rows,) how good each answer is: on which of two models' is better a test of signs is made."""
        return np.array([float(a == b) for a, b in zip(self.truth, guess, strict=True)])

    def changed(self, a: Any, b: Any) -> Array:
        """(rows,) of bool: answers that are not the same."""
        return np.array([one != other for one, other in zip(a, b, strict=True)], dtype=bool)

    def surprise(self, student: Array, teacher: Array) -> Array:
        """(rows,) by which changed rows are ordered, the largest first."""
        return self.apart(student, teacher).reshape(len(self.rows), -1).sum(axis=1)

    def shown(self, answer: Any) -> str:
        """An answer, or what is right, as a report has it."""
        return str(answer)

    def classes(self, teacher: Any, student: Any) -> list[ClassChange]:  # noqa: ARG002 - not all have classes
        """Of every class that has rows; those that lose most come first."""
        return []


class Choices(Answers):
    """Tasks that choose: every choice has logits (choices, options)."""

    @abstractmethod
    def choices(self, outputs: Array) -> Array:
        """Logits (choices, options), those of a row together."""

    @cached_property
    @abstractmethod
    def chosen(self) -> Array:
        """(choices,) option that is right; -1 where none can be."""

    @abstractmethod
    def truths(self, chosen: Array) -> Any:
        """Options (choices,) as truths of the rows, of the form of `judged`."""

    def apart(self, student: Array, teacher: Array) -> Array:
        return divergences(self.choices(student), self.choices(teacher))

    def agreement(self, a: Array, b: Array) -> float:
        ours, theirs = self.choices(a), self.choices(b)
        return agreement(ours, theirs) if len(ours) else 1.0

    def chances(self, teacher: Array) -> Array:
        logits, known = self.choices(teacher), self.chosen >= 0
        if not known.any():
            return softmax(logits.astype(np.float64), axis=1)
        if known.all():
            return calibrated(logits, self.chosen)
        found = np.zeros(logits.shape)
        found[known] = calibrated(logits[known], self.chosen[known])
        found[~known] = softmax(logits[~known].astype(np.float64), axis=1)
        return found

    def draw(self, chances: Array, generator: np.random.Generator) -> Any:
        edges = chances.cumsum(axis=1)
        drawn = (edges < generator.random((len(edges), 1))).sum(axis=1).clip(max=edges.shape[1] - 1)
        return self.truths(drawn)

    def noisy(self, teacher: Array, height: float, generator: np.random.Generator) -> Array:
        top = np.sort(self.choices(teacher), axis=1)
        margin = float(np.median(top[:, -1] - top[:, -2])) or 1.0
        return teacher + height * margin * generator.normal(size=teacher.shape)
