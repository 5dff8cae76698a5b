"""The wake-up queue: a message says that there is work. Nothing depends on its arrival."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from jobs.queue import BACKLOG, ENOUGH, TASKS, Kind, announce, celery_app, flush, queue_name
from jobs.settings import Settings


@pytest.fixture
def queued(redis_url: str, celery_prefix: str) -> Settings:
    return Settings(broker_url=redis_url, celery_prefix=celery_prefix)


@pytest.mark.parametrize("kind", TASKS)
def test_an_announcement_is_one_small_message_on_the_queue_of_its_kind(queued: Settings, kind: Kind) -> None:
    """It names the task and carries nothing: what to do stands in the table."""
    announce(queued, kind)
    assert flush(queued)
    key = queued.celery_prefix + queue_name(queued, kind)
    with Redis.from_url(str(queued.broker_url)) as client:
        (message,) = client.lrange(key, 0, -1)
    headers = json.loads(message)["headers"]
    assert (headers["task"], headers["argsrepr"], headers["kwargsrepr"]) == (TASKS[kind][0], "()", "{}")
    assert headers["ignore_result"] is True
    assert len(message) < 2_000


def test_every_key_holds_the_prefix(queued: Settings) -> None:
    """So that services can share a Redis."""
    with Redis.from_url(str(queued.broker_url)) as client:
        before = set(client.scan_iter("*"))
        announce(queued, "job")
        assert flush(queued)
        new = set(client.scan_iter("*")) - before
    assert new
    assert all(queued.celery_prefix.encode() in key for key in new)


def test_a_dead_broker_costs_a_caller_nothing() -> None:
    """Nobody listens; more announcements come than are kept; no caller hears of it, and none is kept for long."""
    dead = Settings(broker_url="redis://127.0.0.1:1", celery_prefix="dead-")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: announce(dead, "job"), range(BACKLOG * 3)))
    assert flush(dead, timeout_s=60)


def test_without_a_broker_there_is_nothing_to_do() -> None:
    announce(Settings(broker_url=None), "job")
    assert flush(Settings(broker_url=None))


def test_a_message_is_acknowledged_before_its_work_and_never_handed_out_twice() -> None:
    """Redis hands unacknowledged messages out again; the lease in the table is what brings lost work back."""
    conf = celery_app("redis://127.0.0.1:1", "p-").conf
    assert conf.task_acks_late is False
    assert conf.task_ignore_result is True
    assert conf.result_backend is None
    assert conf.accept_content == ["json"]
    assert (conf.worker_prefetch_multiplier, conf.worker_disable_prefetch) == (1, True)
    options = conf.broker_transport_options
    assert options["visibility_timeout"] >= 7 * 86_400
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (5, 2)
    assert options["socket_keepalive"] is True
    assert options["health_check_interval"] == 25


def test_announcements_do_not_pile_up_behind_long_jobs(queued: Settings) -> None:
    """A hundred waiting messages wake as many workers as a million do."""
    key = queued.celery_prefix + queue_name(queued, "job")
    for _ in range(3):
        for _ in range(ENOUGH // 2):
            announce(queued, "job")
        assert flush(queued)
    with Redis.from_url(str(queued.broker_url)) as client:
        assert client.llen(key) == ENOUGH
