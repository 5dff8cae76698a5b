"""Teacher against student, row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.compare import FLIPS, TEXT, compare
from core.data import Rows
from core.report import Comparison
from core.tasks.classes import Classes

LABELS = ("a", "b", "c")


def found(truth: list[int], teacher: list[int], student: list[int], text: str = "t") -> Comparison:
    """Classes by number; the teacher is surer of later rows."""
    sure = np.eye(3, dtype=np.float32)[teacher] * (1 + np.arange(len(teacher), dtype=np.float32))[:, None]
    rows = Rows([f"{text}{i}" for i in range(len(truth))], None, truth)
    answers = Classes("classification", rows, (), LABELS)
    return compare("accuracy", sure, np.eye(3, dtype=np.float32)[student], answers, 0)


CLASSES = st.integers(0, 2)
THREE = st.lists(st.tuples(CLASSES, CLASSES, CLASSES), min_size=1, max_size=40)


@given(THREE)
def test_who_is_right_where(rows: list[tuple[int, int, int]]) -> None:
    truth, teacher, student = (list(side) for side in zip(*rows, strict=True))
    one = found(truth, teacher, student)
    assert one.only_teacher_right == sum(a == t != b for t, a, b in rows)
    assert one.only_student_right == sum(b == t != a for t, a, b in rows)
    assert one.agreement == pytest.approx(sum(a == b for _, a, b in rows) / len(rows))
    assert sum(each.rows for each in one.classes) == len(rows)
    gains = [each.student - each.teacher for each in one.classes]
    assert gains == sorted(gains), "what loses most comes first"
    for each in one.classes:
        of_it = [b for t, _, b in rows if LABELS[t] == each.label]
        assert each.student == pytest.approx(of_it.count(LABELS.index(each.label)) / len(of_it))
    other = found(truth, student, teacher)
    assert other.p_value == pytest.approx(one.p_value), "the test knows no sides"
    assert 0 < one.p_value <= 1


@given(st.lists(st.tuples(CLASSES, CLASSES), min_size=1, max_size=40))
def test_a_student_that_is_its_teacher_differs_in_nothing(rows: list[tuple[int, int]]) -> None:
    truth, teacher = (list(side) for side in zip(*rows, strict=True))
    one = found(truth, teacher, teacher)
    assert (one.agreement, one.p_value, one.flips) == (1.0, 1.0, ())
    right = any(a == b for a, b in rows)
    assert (one.retention_low, one.retention_high) == ((1.0, 1.0) if right else (0.0, 0.0))


def test_mcnemar_is_the_sign_test_of_the_rows_on_which_one_is_right() -> None:
    one = found([0] * 20, [0] * 10 + [1] * 2 + [0] * 8, [1] * 10 + [0] * 2 + [0] * 8)
    assert one.p_value == pytest.approx(2 * sum([1, 12, 66]) / 2**12)


def test_more_rows_make_the_interval_narrower_and_it_holds_the_retention() -> None:
    widths = []
    for times in (1, 16):
        one = found([0] * 20 * times, ([0] * 18 + [1] * 2) * times, ([0] * 15 + [1] * 5) * times)
        assert one.retention_low < 15 / 18 < one.retention_high
        widths.append(one.retention_high - one.retention_low)
    assert widths[1] < widths[0] / 2


def test_the_surest_flips_are_shown_and_texts_are_cut() -> None:
    one = found([0] * 50, [0] * 50, [0, *([1] * 49)], text="x" * 400)
    assert [flip.row for flip in one.flips] == list(range(49, 49 - FLIPS, -1))
    assert all(len(flip.text) == TEXT and flip.text.endswith("…") for flip in one.flips)
    assert {(flip.label, flip.teacher, flip.student) for flip in one.flips} == {("a", "a", "b")}
