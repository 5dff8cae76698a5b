"""Figures against the libraries that define them, and answers that are decided by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sk

from core.verify.scoring import LONGEST, entities, guesses, score, spans, spearman

NUMBERS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=40)
SETS = st.lists(st.tuples(*[st.booleans()] * 6), min_size=1, max_size=30)


@given(NUMBERS)
def test_spearman_is_that_of_the_library(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    theirs = 0.0 if len({*a}) == 1 or len({*b}) == 1 else spearmanr(a, b).statistic
    assert spearman(a, b) == pytest.approx(theirs, abs=1e-12)


@given(SETS)
def test_label_sets_are_scored_as_the_library_does(rows: list[tuple[bool, ...]]) -> None:
    both = np.array(rows)
    truth, guess = both[:, :3], both[:, 3:]
    assert score("multi_label", "f1", truth, guess) == pytest.approx(
        sk.f1_score(truth, guess, average="micro", zero_division=0.0)
    )
    assert score("multi_label", "exact_match", truth, guess) == pytest.approx(sk.accuracy_score(truth, guess))
    there = (truth | guess).any(axis=0)
    if there.any():
        each = [sk.f1_score(truth[:, label], guess[:, label], zero_division=0.0) for label in np.flatnonzero(there)]
        theirs = np.mean(each)
        assert score("multi_label", "macro_f1", truth, guess) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-A I-A O", [("A", 1, 3)]),
        ("B-A B-A", [("A", 0, 1), ("A", 1, 2)]),
        ("B-A I-B", [("A", 0, 1), ("B", 1, 2)]),
        ("I-A I-A O I-A", [("A", 0, 2), ("A", 3, 4)]),  # begun without B
        ("S-A B-A I-A E-A O", [("A", 0, 1), ("A", 1, 4)]),
        ("E-A E-A", [("A", 0, 1), ("A", 1, 2)]),
        ("NOUN NOUN O VERB", [("NOUN", 0, 1), ("NOUN", 1, 2), ("VERB", 3, 4)]),
        ("", []),
    ],
)
def test_entities(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == found


def test_an_entity_counts_where_its_words_and_its_kind_are_right() -> None:
    labels = ["O", "B-A", "I-A", "B-B"]
    truth = [np.array([1, 2, 0]), np.array([0, 3])]
    guess = [np.array([1, 0, 0]), np.array([1, 3])]  # one too short, one that is none, one right
    assert score("token_classification", "f1", truth, guess, labels) == pytest.approx(2 * 1 / (3 + 2))
    assert score("token_classification", "accuracy", truth, guess, labels) == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("truth", "guess", "same", "f1"),
    [
        (["the Cat."], "cat", 1.0, 1.0),
        (["a black cat", "dog"], "black", 0.0, 2 / 3),
        ([], "", 1.0, 1.0),
        ([], "cat", 0.0, 0.0),
        (["cat"], "", 0.0, 0.0),
    ],
)
def test_answers_are_compared_as_squad_does(truth: list[str], guess: str, same: float, f1: float) -> None:
    assert score("question_answering", "exact_match", [truth], [guess]) == same
    assert score("question_answering", "f1", [truth], [guess]) == pytest.approx(f1)


@given(st.integers(0, 999))
def test_the_best_span_is_the_best_of_all_that_are_legal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 60))
    low = int(rng.integers(1, count))
    place = np.full((count, 2), -1)
    place[low:] = np.arange(count - low)[:, None] + [0, 1]
    one = rng.normal(size=(count, 2))
    legal = {(i, j): one[i, 0] + one[j, 1] for i in range(low, count) for j in range(i, min(count, i + LONGEST))}
    best = max(legal, key=lambda pair: legal[pair])
    found = tuple(spans(one, [place])[0])
    assert found == (best if legal[best] >= one[0].sum() else (-1, -1))


def test_two_texts_are_compared_by_angle() -> None:
    outputs = np.array([[1, 0], [2, 0], [0, 3], [1, 0]], dtype=np.float32)
    assert guesses("sentence_embedding", outputs, [], []) == pytest.approx([1, 0])
