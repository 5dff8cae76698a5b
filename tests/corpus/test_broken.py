"""What is broken is refused in the answer to the submission itself, by status, code, pointer and row."""

from __future__ import annotations

import pytest

from tests.api.problems import problem
from tests.corpus.broken import BROKEN
from tests.corpus.desk import Desk


def test_the_corpus_is_large_enough() -> None:
    """At least forty of them."""
    assert len(BROKEN) >= 40


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_submission_is_refused(name: str, desk: Desk) -> None:
    """The client learns it from the request that it has just made, and there is no job."""
    case = BROKEN[name]
    found = problem(case.send(desk), case.status, case.code)
    assert found["param"] == case.param, found
    assert case.says in found["detail"], found
    if case.finding is not None:
        assert found["errors"][0]["code"] == case.finding, found
        assert tuple(found["errors"][0]["rows"]) == case.rows, found


def test_nothing_that_was_refused_is_a_job(desk: Desk) -> None:
    """Nobody has to clean up."""
    assert desk.client.get("/v1/jobs").json()["data"] == []
