"""An answer that stands in the text, or none: two choices a row, of its first token and of its last."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from core.likelihood import NOTHING
from core.task import Metric
from core.tasks.answers import Array, Choices
from core.verify import scoring


class Spans(Choices):
    """Answers are texts; against drawn truths they are first and last token, (rows, 2), -1, -1 for none."""

    @cached_property
    def truth(self) -> list[list[str]]:
        return [[text for text, _ in answers] for answers in self.rows.labels]

    @cached_property
    def chosen(self) -> Array:
        found = np.full((len(self.rows), 2), -1, dtype=np.int64)
        for row, (answers, place) in enumerate(zip(self.rows.labels, self.places, strict=True)):
            if not answers:
                found[row] = 0, 0
                continue
            text, start = answers[0]
            inside = np.flatnonzero((place[:, 0] < start + len(text)) & (place[:, 1] > start) & (place[:, 0] >= 0))
            if len(inside) and place[inside[-1], 1] >= start + len(text):  # not cut off
                found[row] = inside[0], inside[-1]
        return found.ravel()

    def choices(self, outputs: Array) -> Array:
        rows = scoring.parts(outputs, self.places)
        padded = np.full((len(rows), 2, max(map(len, rows))), NOTHING, dtype=outputs.dtype)
        for row, one in enumerate(rows):
            padded[row, :, : len(one)] = one.T
        return padded.reshape(-1, padded.shape[2])

    def truths(self, chosen: Array) -> Array:
        found = np.sort(chosen.reshape(-1, 2), axis=1)
        return np.where(found[:, :1] == 0, -1, found)

    def judged(self, outputs: Array) -> Array:
        return scoring.spans(outputs, self.places)

    def tally(self, metric: Metric, truth: Any, guess: Any) -> Array:
        """Of drawn truths: tokens that both have, in the place of words."""
        if not isinstance(guess, np.ndarray):
            return super().tally(metric, truth, guess)
        shared = (np.minimum(truth[:, 1], guess[:, 1]) - np.maximum(truth[:, 0], guess[:, 0]) + 1).clip(min=0)
        tokens = (truth[:, 1] - truth[:, 0]) + (guess[:, 1] - guess[:, 0]) + 2
        same = (truth == guess).all(axis=1)
        best = np.where(same, 1.0, 2 * shared / tokens) if metric == "f1" else same.astype(np.float64)
        return np.stack([best, np.ones(len(best))], axis=1)

    def worth(self, guess: list[str]) -> Array:
        """Words shared with the best right answer."""
        return super().tally("f1", self.truth, guess)[:, 0]

    def shown(self, answer: Any) -> str:
        found = answer if isinstance(answer, str) else " | ".join(dict.fromkeys(answer))
        return found or "no answer"
