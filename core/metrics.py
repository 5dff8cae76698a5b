"""Task metrics from predicted and true class ids, in [-1, 1] or [0, 1], by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from scipy.special import log_softmax
from sklearn import metrics as sk

Metric = Literal["accuracy", "macro_f1", "f1", "mcc"]

_SCORES: dict[Metric, Callable[..., float]] = {
    "accuracy": sk.accuracy_score,
    "macro_f1": partial(sk.f1_score, average="macro", zero_division=0.0),
    "f1": partial(sk.f1_score, zero_division=0.0),  # of class 1, two classes only
    "mcc": sk.matthews_corrcoef,
}


def score(metric: Metric, logits: np.ndarray, labels: list[int]) -> float:
    """`metric` of the arg-max of `logits` (rows, classes) against `labels`."""
    return class_score(metric, np.asarray(labels), logits.argmax(axis=1))


def class_score(metric: Metric, truth: np.ndarray, guess: np.ndarray, weight: np.ndarray | None = None) -> float:
    """`metric` of predicted class ids (rows,) against true ones, rows counted by `weight`."""
    return float(_SCORES[metric](truth, guess, sample_weight=weight))


def expected_score(metric: Metric, chances: np.ndarray, guess: np.ndarray) -> float:
    """`metric` of predicted class ids (rows,) where each row is of each class with a chance, (rows, classes)."""
    if metric == "accuracy":
        return float(np.take_along_axis(chances, guess[:, None], axis=1).mean())
    rows, classes = chances.shape
    truth = np.tile(np.arange(classes), rows)
    return class_score(metric, truth, np.repeat(guess, classes), chances.ravel())


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of rows on which two sets of logits (rows, classes) predict the same class."""
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def divergence(student: np.ndarray, teacher: np.ndarray) -> float:
    """KL(teacher || student) of the classes that two sets of logits (rows, classes) predict, mean over rows."""
    log_q, log_p = (log_softmax(logits.astype(np.float64), axis=1) for logits in (student, teacher))
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
