"""Figures of logits (rows, classes) where each row is of one class; other tasks have theirs in `core.tasks`."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from core.task import Metric
from core.verify import scoring

__all__ = ["Metric", "agreement", "class_score", "divergence", "divergences", "score"]


def score(metric: Metric, logits: np.ndarray, labels: list[int]) -> float:
    """`metric` of the arg-max of `logits` (rows, classes) against `labels`."""
    return class_score(metric, np.asarray(labels), logits.argmax(axis=1))


def class_score(metric: Metric, truth: np.ndarray, guess: np.ndarray) -> float:
    """`metric` of predicted class ids (rows,) against true ones."""
    return scoring.score("classification", metric, truth, guess)


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of rows on which two sets of logits (rows, classes) predict the same class."""
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def divergence(student: np.ndarray, teacher: np.ndarray) -> float:
    """`divergences`, mean over rows."""
    return float(divergences(student, teacher).mean())


def divergences(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """KL(teacher || student) of the classes that two sets of logits (rows, classes) predict, (rows,)."""
    log_q, log_p = (log_softmax(logits.astype(np.float64), axis=1) for logits in (student, teacher))
    found: np.ndarray = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return found
