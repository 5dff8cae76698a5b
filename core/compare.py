"""Teacher against student on the same rows: who is right, which classes gain and lose, how sure the figures are."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from core.batches import FLOAT
from core.data import Rows
from core.metrics import Metric, class_score
from core.report import ClassChange, Comparison, Flip

FLIPS, TEXT = 20, 300  # rows, and characters of each, that a report shows
DRAWS = 1_000


def compare(
    metric: Metric, teacher: FLOAT, student: FLOAT, rows: Rows, labels: tuple[str, ...], seed: int
) -> Comparison:
    """Of two sets of logits (rows, classes).

    Source: McNemar 1947, exact form; Efron 1979, percentile bootstrap.
    """
    truth, theirs, ours = np.array(rows.labels), teacher.argmax(axis=1), student.argmax(axis=1)
    lost = int(((theirs == truth) & (ours != truth)).sum())
    won = int(((theirs != truth) & (ours == truth)).sum())
    low, high = retention_interval(metric, truth, theirs, ours, seed)
    return Comparison(
        rows=len(truth),
        agreement=float((theirs == ours).mean()),
        only_teacher_right=lost,
        only_student_right=won,
        p_value=float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
        retention_low=low,
        retention_high=high,
        classes=tuple(_classes(truth, theirs, ours, labels)),
        flips=tuple(_flips(teacher, theirs, ours, rows, labels)),
    )


def retention_interval(
    metric: Metric, truth: np.ndarray, teacher: np.ndarray, student: np.ndarray, seed: int
) -> tuple[float, float]:
    """95 % of student's over teacher's `metric`, rows drawn in pairs; class ids (rows,). 0, 0 of a teacher at zero."""
    rng = np.random.default_rng(seed)
    # Rows that agree in all three are one kind: a draw says how many there are of each.
    kinds, counts = np.unique(np.stack([truth, teacher, student]), axis=1, return_counts=True)
    found = []
    for drawn in rng.multinomial(len(truth), counts / len(truth), DRAWS):
        theirs, ours = (_score(metric, kinds[0], guess, drawn) for guess in kinds[1:])
        if theirs > 0:
            found.append(ours / theirs)
    if not found:
        return 0.0, 0.0
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _score(metric: Metric, truth: np.ndarray, guess: np.ndarray, counts: np.ndarray) -> float:
    """As `class_score`; what everybody asks for is no call of a library, 2,000 times."""
    if metric == "accuracy":
        return float(counts[truth == guess].sum() / counts.sum())
    return class_score(metric, truth, guess, counts)


def _classes(truth: np.ndarray, teacher: np.ndarray, student: np.ndarray, labels: tuple[str, ...]) -> list[ClassChange]:
    """Of every class that has rows; those that lose most come first."""
    found = []
    for number, label in enumerate(labels):
        of_it = truth == number
        if count := int(of_it.sum()):
            right = [float((guess[of_it] == number).mean()) for guess in (teacher, student)]
            found.append(ClassChange(label=label, rows=count, teacher=right[0], student=right[1]))
    return sorted(found, key=lambda one: one.student - one.teacher)


def _flips(logits: FLOAT, teacher: np.ndarray, student: np.ndarray, rows: Rows, labels: tuple[str, ...]) -> list[Flip]:
    """Those of which the teacher was surest come first: there the student is most likely wrong."""
    flipped = np.flatnonzero(teacher != student)
    ordered = np.sort(logits[flipped], axis=1)
    sure = ordered[:, -1] - ordered[:, -2]
    found = []
    for row in flipped[np.argsort(-sure, kind="stable")][:FLIPS].tolist():
        text, pair = rows.take([row]).inputs()[0]
        shown = text if pair is None else f"{text} | {pair}"
        found.append(
            Flip(
                row=row,
                text=shown if len(shown) <= TEXT else shown[: TEXT - 1] + "…",
                label=labels[rows.labels[row]],
                teacher=labels[teacher[row]],
                student=labels[student[row]],
            )
        )
    return found
