"""Rows all of whose words a tokenizer drops leave nothing to answer: figures are numbers all the same."""

import numpy as np
import pytest

from core.compare import compare
from core.data import Rows
from core.task import TASKS, Metric
from core.tasks import answers_of


@pytest.mark.parametrize("metric", TASKS["token_classification"].metrics)
def test_rows_without_a_word_that_has_a_token(metric: Metric) -> None:
    places = [np.array([-1, -1], dtype=np.int32)] * 3
    read = answers_of("token_classification", Rows([["\u200b"]] * 3, None, [(0,)] * 3), places, ("O", "B-x"))
    outputs = np.zeros((6, 2), dtype=np.float32)
    found = compare(metric, outputs, outputs, read, 0)
    assert found.agreement == 1.0
    assert read.divergence(outputs, outputs) == 0.0
    assert read.score(metric, read.guess(outputs)) == 0.0
