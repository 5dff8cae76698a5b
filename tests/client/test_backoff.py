"""When a request is sent again: never earlier than asked, never after patience has ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladapress.backoff import FIRST_DELAY_S, LONGEST_DELAY_S, SPREAD, Backoff, again, asked_s

seconds = st.floats(0, 600)


@given(patience=seconds, asked=st.lists(st.none() | seconds, min_size=1, max_size=40))
def test_waits_are_never_shorter_than_asked_nor_longer_than_patience(
    patience: float, asked: list[float | None]
) -> None:
    now, backoff, unasked = 0.0, Backoff(patience), FIRST_DELAY_S
    for one in asked:
        wait = backoff.wait_s(now, one)
        low = unasked / 2 if one is None else one
        high = unasked if one is None else one * (1 + SPREAD)
        if wait is None:
            assert now + high > patience
            return
        assert low <= wait <= high
        now += wait
        assert now <= patience
        if one is None:
            unasked = min(2 * unasked, LONGEST_DELAY_S)


def test_clients_that_were_sent_away_together_do_not_come_back_together() -> None:
    for asked in (None, 5.0):
        assert len({Backoff(600).wait_s(0, asked) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("text", "found"), [("3", 3), ("0.5", 0.5), ("-4", 0), ("", None), ("soon", None), ("inf", None), ("nan", None)]
)
def test_retry_after_is_seconds(text: str, found: float | None) -> None:
    assert asked_s({"retry-after": text}) == found
    assert asked_s({}) is None


def test_retry_after_may_be_a_date() -> None:
    """RFC 9110 10.2.3; one that has passed is now."""
    for minutes, low, high in ((10, 590, 600), (-10, 0, 0)):
        at = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
        found = asked_s({"retry-after": at})
        assert found is not None
        assert low <= found <= high


@pytest.mark.parametrize(
    ("status", "code", "repeat"),
    [
        (429, "too_many_requests", True),
        (503, "unavailable", True),
        (503, "protocol", True),
        (409, "idempotency_in_flight", True),
        (409, "job_finished", False),
        (422, "request_invalid", False),
        (500, "internal", False),
    ],
)
def test_only_what_the_service_did_not_do_is_asked_again(status: int, code: str, repeat: bool) -> None:
    assert again(status, code) == repeat
