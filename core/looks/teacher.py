"""Whether the teacher knows the rows: how often it is right, and whether it would be if classes had another order.

A model whose classes were numbered otherwise is no weak teacher, it is a right one read wrongly. The order is taken
from one half of the rows and tried on the other, so that chance cannot find one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from core.findings import Finding, found

ENOUGH = 16  # rows below which nothing is said
RIGHT, TIMES = 0.6, 2.0  # how often right in another order, and how much oftener than in the given one
SURE = 3.0  # standard deviations below the share of the commonest label
NAMED = 12  # classes that a message spells out


@dataclass(frozen=True)
class Sample:
    """Right classes and the teacher's on some rows; `labels` are the names by number."""

    truth: Sequence[int]
    guess: Sequence[int]
    labels: Sequence[str]


def judge(sample: Sample) -> list[Finding]:
    """What the answers say. An error first, if there is one."""
    truth, guess = np.asarray(sample.truth), np.asarray(sample.guess)
    rows = len(truth)
    if rows < ENOUGH:
        return [found("teacher_not_sampled", f"{rows} rows are too few to judge the teacher by", "/model")]
    accuracy = float((truth == guess).mean())
    counts = {"rows": float(rows), "accuracy": accuracy}
    findings = [found("teacher_sampled", f"the teacher is right on {accuracy:.1%} of {rows} training rows", "/model",
                      counts=counts)]  # fmt: skip
    commonest = float(np.bincount(truth).max()) / rows
    doubt = SURE * math.sqrt(commonest * (1 - commonest) / rows)
    even = np.arange(rows) % 2 == 0
    reached = float(np.mean([
        (_order(truth[half], guess[half], len(sample.labels))[truth[~half]] == guess[~half]).mean()
        for half in (even, ~even)
    ]))  # fmt: skip
    # One that always says the same would be right in some order, too.
    if reached >= max(RIGHT, commonest + doubt) and accuracy * TIMES <= reached:
        order = _order(truth, guess, len(sample.labels))
        return [_permuted(order, sample.labels, accuracy, reached, rows), *findings]
    if accuracy < commonest - doubt or accuracy * 2 < commonest:
        detail = (
            f"the teacher is right on {accuracy:.1%} of {rows} training rows; the commonest label is {commonest:.1%}"
        )
        findings.insert(0, found("teacher_weak", detail, "/model", counts={**counts, "commonest": commonest}))
    return findings


def _order(truth: Any, guess: Any, classes: int) -> Any:
    """(classes,) which class of the model each class of the data is, so that most rows are right."""
    together = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(together, (truth, guess), 1)
    # Where nothing says otherwise a class is itself.
    of_data, of_model = linear_sum_assignment(together * (classes + 1) + np.eye(classes, dtype=np.int64), maximize=True)
    order = np.empty(classes, dtype=np.int64)
    order[of_data] = of_model
    return order


def _permuted(order: Any, labels: Sequence[str], accuracy: float, reached: float, rows: int) -> Finding:
    moved = [(data, int(model)) for data, model in enumerate(order) if data != model]
    spelled = ", ".join(f"{data} ({labels[data]}) -> {model} ({labels[model]})" for data, model in moved[:NAMED])
    more = " ..." if len(moved) > NAMED else ""
    detail = (
        f"the labels are in another order than the model's id2label: on {rows} training rows the teacher is right on "
        f"{accuracy:.1%}, and on {reached:.1%} where labels are read so: {spelled}{more}"
    )
    return found("labels_permuted", detail, "/data/train", counts={"rows": float(rows), "accuracy": accuracy,
                                                                   "accuracy_permuted": reached})  # fmt: skip
