"""What following a teacher is worth: exact where it can be counted, never better than the teacher's own answers."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data import Rows
from core.metrics import class_score
from core.promise import Judge
from core.task import Metric
from core.tasks.answers import calibrated
from core.tasks.classes import Classes

METRICS: list[Metric] = ["accuracy", "macro_f1", "f1", "mcc"]


def teacher(rows: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, classes)) * 3


def classes(labels: Sequence[int]) -> Classes:
    return Classes("classification", Rows(["a text"] * len(labels), None, [*labels]), (), ())


def judge_of(metric: Metric, logits: np.ndarray, labels: Sequence[int], new: int, seed: int = 0) -> Judge:
    return Judge(metric, classes(labels), logits, new, seed)


def drawn(logits: np.ndarray, temperature: float, seed: int) -> list[int]:
    """Labels as the logits at a temperature say."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return (logits / temperature + noise).argmax(axis=1).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    logits = teacher(4000, 3, 0)
    chances = calibrated(logits, drawn(logits, temperature, 1))
    expected = calibrated(logits / temperature, drawn(logits / temperature, 1.0, 1))
    assert np.abs(chances - expected).max() < 0.05
    assert np.allclose(chances.sum(axis=1), 1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_certain_row_counts_as_its_label_does(metric: Metric) -> None:
    labels, guess = np.array([0, 1, 1, 0, 1, 0]), np.array([0, 1, 0, 0, 1, 1])
    assert classes(labels.tolist()).expected(metric, np.eye(2)[labels], guess) == pytest.approx(
        class_score(metric, labels, guess)
    )


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_expected_is_the_mean_over_labels(metric: Metric) -> None:
    logits = teacher(3000, 2, 3)
    chances = calibrated(logits, drawn(logits, 1.0, 4))
    guess = (logits + teacher(3000, 2, 5) / 2).argmax(axis=1)
    found = [class_score(metric, np.array(drawn(logits, 1.0, seed)), guess) for seed in range(6, 26)]
    assert classes(guess.tolist()).expected(metric, chances, guess) == pytest.approx(np.mean(found), abs=0.02)


@settings(max_examples=10)
@given(st.integers(0, 99), st.floats(0.01, 5), st.integers(2, 5))
def test_nothing_is_promised_beyond_the_teacher(seed: int, height: float, count: int) -> None:
    logits = teacher(200, count, seed)
    judge = judge_of("accuracy", logits, drawn(logits, 1.0, seed), 100, seed)
    promise = judge.of(logits + height * teacher(200, count, seed + 1))
    same = judge.of(logits)
    assert promise is not None
    assert same is not None
    assert promise.retention <= 1 + 1e-12
    assert (same.retention, same.agreement, same.kl, same.sd) == (1, 1, 0, 0)
    assert promise.sd > 0 or promise.agreement == 1


def test_the_spread_is_that_of_new_rows() -> None:
    logits = teacher(2000, 2, 0)
    judge = judge_of("accuracy", logits, drawn(logits, 1.0, 1), 500)
    noise = np.random.default_rng(7)
    found = []
    for seed in range(200):
        new = teacher(500, 2, 1000 + seed)
        truth, ours = np.array(drawn(new, 1.0, seed)), new + noise.normal(size=new.shape)
        found.append((ours.argmax(axis=1) == truth).mean() / (new.argmax(axis=1) == truth).mean())
    promise = judge.of(logits + noise.normal(size=logits.shape), draws=200)
    assert promise is not None
    assert promise.retention == pytest.approx(np.mean(found), abs=0.01)
    assert promise.sd == pytest.approx(np.std(found) * np.sqrt(1 + 500 / 2000), rel=0.25)


def test_students_further_off_retain_less() -> None:
    logits = teacher(1000, 3, 0)
    nears = judge_of("accuracy", logits, drawn(logits, 1.0, 1), 500).nears()
    assert len(nears) > 8
    for one, other in pairwise(nears):
        assert one.kl < other.kl
        assert one.retention >= other.retention
        assert one.sd <= other.sd


def test_of_a_teacher_that_knows_nothing_nothing_is_promised() -> None:
    logits = np.zeros((50, 2))
    logits[:, 0] = 1  # always the same answer: its MCC is 0
    judge = judge_of("mcc", logits, [0, 1] * 25, 50)
    assert judge.of(logits) is None
    assert judge.nears() == ()
