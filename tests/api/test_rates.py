"""Rate limits: counted by key, told on every answer, shared through Redis, and never a reason to fall over."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.rates import RateLimited, Rates, neighbourhood
from jobs.keys import create_key, new_token
from jobs.scope import Scope
from jobs.settings import Settings
from tests.api.conftest import database_of, local
from tests.api.problems import problem
from tests.api.routes import OPEN


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def tight(settings: Settings, **fields: object) -> Settings:
    rates = {"rate_read": "3/hour", "rate_write": "2/hour", "rate_failures": "4/hour"}
    return settings.model_copy(update={**rates, **fields})


@pytest.fixture
def keyed(fresh: Settings) -> Iterator[tuple[TestClient, list[str]]]:
    """A service with tight limits and two keys."""
    with local(tight(fresh)) as client:
        with database_of(client).sessions.begin() as s:
            tokens = [create_key(s, Scope(), name)[1] for name in "ab"]
        yield client, tokens


def test_each_key_has_its_own_limits_for_reading_and_writing(keyed: tuple[TestClient, list[str]]) -> None:
    """Three reads; the fourth is refused, a write and the other key are not."""
    client, (one, other) = keyed
    left = []
    for _ in range(3):
        answer = client.get("/v1/jobs/x", headers=bearer(one))
        problem(answer, 404)  # a refusal counts, and is told about too
        assert answer.headers["ratelimit-policy"] == '"read";q=3;w=3600'
        found = re.fullmatch(r'"read";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert found is not None
        left.append(int(found[1]))
    assert left == [2, 1, 0]
    refused = client.get("/v1/me", headers=bearer(one))
    assert problem(refused, 429, "rate_limited")["retryable"]
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["ratelimit"].startswith('"read";r=0;t=')
    problem(client.post("/v1/jobs/x/cancel", headers=bearer(one)), 404)
    assert client.get("/v1/me", headers=bearer(other)).status_code == 200
    assert all(client.get(path).status_code == 200 for path in OPEN for _ in range(5))


def test_without_keys_the_address_counts(fresh: Settings) -> None:
    with local(tight(fresh)) as client:
        assert [client.get("/v1/me").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_limits_can_be_switched_off(fresh: Settings) -> None:
    with local(tight(fresh, rate_limits=False)) as client:
        answers = [client.get("/v1/me") for _ in range(9)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers


def test_who_guesses_is_slowed_down_and_who_was_right_is_not(keyed: tuple[TestClient, list[str]]) -> None:
    """Behind one address: four wrong keys, and nothing unknown is looked at any more; a key in use goes on."""
    client, (one, other) = keyed
    assert client.get("/v1/me", headers=bearer(one)).status_code == 200
    for _ in range(4):
        problem(client.get("/v1/me", headers=bearer(new_token())), 401, "unauthorized")
    refused = client.get("/v1/me", headers=bearer(new_token()))
    problem(refused, 429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    problem(client.get("/v1/me", headers=bearer(other)), 429, "rate_limited")  # right, but not known yet
    assert client.get("/v1/me", headers=bearer(one)).status_code == 200
    problem(client.get("/v1/me"), 401, "unauthorized")  # no guess


@pytest.mark.parametrize("rate", ["0/minute", "5", "5/day", "5 per minute", "-1/second", ""])
def test_a_rate_that_makes_no_sense_stops_the_start(rate: str) -> None:
    with pytest.raises(ValueError, match="rate_read"):
        Settings(rate_read=rate)


def test_processes_count_together_through_redis(fresh: Settings, redis_url: str, celery_prefix: str) -> None:
    """Two processes' worth of counters, one limit."""
    shared = tight(fresh, broker_url=redis_url, celery_prefix=celery_prefix)
    here, there = Rates(shared), Rates(shared)
    for rates in (here, there, here):
        rates.spend("read", "k")
    for rates in (here, there):
        with pytest.raises(RateLimited) as caught:
            rates.spend("read", "k")
        assert caught.value.problem.code == "rate_limited"
    here.spend("read", "another")


def test_without_its_redis_a_process_counts_alone(fresh: Settings) -> None:
    """Nobody is refused for it, and limits still hold."""
    rates = Rates(tight(fresh, broker_url="redis://127.0.0.1:1/0"))
    for _ in range(3):
        rates.spend("read", "k")
    with pytest.raises(RateLimited):
        rates.spend("read", "k")


def test_one_address_is_one_host() -> None:
    """An IPv6 host has a /64 to choose from; a Unix socket has no address."""
    assert neighbourhood("192.0.2.1") == "192.0.2.1"
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:1") != neighbourhood("2001:db8:0:1::1")
    assert neighbourhood(None) == neighbourhood("") == "local"
