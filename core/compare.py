"""Teacher against student on the same rows: who is right, which classes gain and lose, how sure the figures are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import binomtest

from core.batches import FLOAT
from core.report import Comparison, Flip
from core.task import Metric
from core.tasks import Answers
from core.verify import scoring

FLIPS, TEXT = 20, 300  # rows, and characters of each, that a report shows
DRAWS, RANKED_DRAWS = 1_000, 200  # the latter where all rows have to be ranked for each


def compare(metric: Metric, teacher: FLOAT, student: FLOAT, answers: Answers, seed: int) -> Comparison:
    """Of two sets of outputs on the rows of `answers`.

    Source: McNemar 1947, exact form, which is a test of signs; Efron 1979, percentile bootstrap.
    """
    theirs, ours = answers.guess(teacher), answers.guess(student)
    gain = answers.worth(ours) - answers.worth(theirs)
    lost, won = int((gain < 0).sum()), int((gain > 0).sum())
    low, high = retention_interval(metric, answers, theirs, ours, seed)
    return Comparison(
        rows=len(answers.rows),
        agreement=answers.agreement(student, teacher),
        only_teacher_right=lost,
        only_student_right=won,
        changed=int(answers.changed(theirs, ours).sum()),
        p_value=float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
        retention_low=low,
        retention_high=high,
        classes=tuple(answers.classes(theirs, ours)),
        flips=tuple(_flips(answers, answers.surprise(student, teacher), theirs, ours)),
    )


def retention_interval(metric: Metric, answers: Answers, teacher: Any, student: Any, seed: int) -> tuple[float, float]:
    """95 % of student's over teacher's `metric` of answers, rows drawn in pairs. 0, 0 of a teacher at zero."""
    draw = _ranked if metric == "spearman" else _tallied
    found = [ours / theirs for theirs, ours in draw(metric, answers, teacher, student, seed) if theirs > 0]
    if not found:
        return 0.0, 0.0
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _tallied(metric: Metric, answers: Answers, teacher: Any, student: Any, seed: int) -> Iterator[tuple[float, float]]:
    """The metric of both by draw. Rows whose tallies are alike are one kind: a draw says how many there are of each."""
    rng, rows = np.random.default_rng(seed), len(answers.rows)
    truth, weight = answers.truth, None
    if all(isinstance(one, np.ndarray) and one.ndim == 1 for one in (truth, teacher, student)):
        # So are rows with the same three answers, and a tally of many classes is long.
        kinds, weight = np.unique(np.stack([truth, teacher, student]), axis=1, return_counts=True)
        truth, teacher, student = kinds
    tallies = [answers.tally(metric, truth, guess) for guess in (teacher, student)]
    if weight is None:
        both, weight = np.unique(np.concatenate(tallies, axis=1), axis=0, return_counts=True)
        tallies = np.split(both, 2, axis=1)
    for drawn in rng.multinomial(rows, weight / rows, DRAWS):
        theirs, ours = (scoring.figure(answers.task, metric, drawn @ tally) for tally in tallies)
        yield theirs, ours


def _ranked(_metric: Metric, answers: Answers, teacher: Any, student: Any, seed: int) -> Iterator[tuple[float, float]]:
    rng, rows = np.random.default_rng(seed), len(answers.rows)
    for _ in range(RANKED_DRAWS):
        drawn = rng.integers(rows, size=rows)
        theirs, ours = (scoring.spearman(answers.truth[drawn], guess[drawn]) for guess in (teacher, student))
        yield theirs, ours


def _flips(answers: Answers, surprise: np.ndarray, teacher: Any, student: Any) -> list[Flip]:
    """Rows that are answered otherwise, in the order of `surprise`."""
    flipped = np.flatnonzero(answers.changed(teacher, student))
    found = []
    for row in flipped[np.argsort(-surprise[flipped], kind="stable")][:FLIPS].tolist():
        text, pair = answers.rows.take([row]).inputs()[0]
        text = text if isinstance(text, str) else " ".join(text)
        shown = text if pair is None else f"{text} | {pair}"
        label, theirs, ours = (answers.shown(one[row]) for one in (answers.truth, teacher, student))
        found.append(Flip(row=row, text=_cut(shown), label=_cut(label), teacher=_cut(theirs), student=_cut(ours)))
    return found


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
