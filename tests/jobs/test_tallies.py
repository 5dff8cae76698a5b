"""Figures and lines about jobs: each once, by the commit that makes it true, for good."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import event

from jobs import gauges, origin, service, tallies
from jobs.problem import Problem
from jobs.states import State
from tests.jobs.world import World


def figures(world: World) -> dict[str, dict[str, float]]:
    """Counts by label; of a histogram, how many it has seen."""
    with world.db.readers() as s:
        found = tallies.totals(s)
    return {
        name: {label: sum(one.buckets) if one.buckets else one.value for label, one in totals.items()}
        for name, totals in found.items()
    }


def broken_commit(_connection: object) -> None:
    raise ZeroDivisionError


def level(world: World, name: str) -> dict[str, float]:
    with world.db.readers() as s:
        return gauges.read(s, world.settings.lease_s)[name]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("job_id", "state", "stage", "attempt", "fence", "worker", "request_id")
    found = [record for record in caplog.records if record.name == "ladapress.jobs"]
    return [{name: getattr(record, name) for name in names} for record in found]


def end(world: World, held: service.Claim, how: str) -> None:
    with world.db.sessions.begin() as s:
        if how == "succeeded":
            assert service.publish(s, held.job_id, held.fence, {}, [])
        elif how == "failed":
            assert service.fail(s, held.job_id, held.fence, Problem.of("out_of_memory", "x"))
        elif how == "cancelled":
            service.cancel(s, world.scope, held.job_id)
            assert service.finish_cancel(s, held.job_id, held.fence)
        else:
            assert service.release(s, held.job_id, held.fence, how)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "lost", "drained"])
def test_an_attempt_is_counted_once_however_it_ends(world: World, how: str) -> None:
    """With its wait, and each stage that it was in; a GPU's time only where it had one."""
    world.ready()
    held = world.claim(devices=("auto", "cuda"))
    assert held is not None
    for stage in ("teacher", "distill", "no such stage"):
        with world.db.sessions.begin() as s:
            assert service.record(s, held.job_id, held.fence, [("stage", {"stage": stage})])
    end(world, held, how)
    found = figures(world)
    assert found["attempts"] == {how: 1}
    assert found["claim_wait_seconds"] == {"auto": 1}
    assert found["stage_seconds"] == {"fetch": 1, "teacher": 1, "distill": 1, "other": 1}
    assert found["job_failures"] == ({"out_of_memory": 1} if how == "failed" else {})
    assert 0 < found["gpu_seconds"][""] < 60


def test_the_last_lost_attempt_is_lost_and_a_failure(world: World) -> None:
    """Three starts, three losses, one job that failed of them; a CPU's worker holds no GPU."""
    job = world.ready()
    for _ in range(3):
        assert world.claim() is not None
        world.expire(job.id)
        world.reconcile()
    assert world.job(job.id).state is State.FAILED
    found = figures(world)
    assert found["attempts"] == {"lost": 3}
    assert found["job_failures"] == {"worker_lost": 1}
    assert found["gpu_seconds"] == {"": 0}


def test_nothing_shrinks_when_a_job_is_deleted(world: World) -> None:
    held = world.claimed()
    end(world, held, "failed")
    before = figures(world)
    with world.db.sessions.begin() as s:
        service.delete_job(s, world.scope, held.job_id)
    assert figures(world) == before
    assert sum(level(world, "jobs").values()) == 0


def test_what_is_rolled_back_is_neither_counted_nor_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """And a job that nobody has held ends without an attempt."""
    caplog.set_level(logging.INFO, "ladapress.jobs")
    held = world.claimed()
    before, told = figures(world), len(lines(caplog))
    with pytest.raises(ZeroDivisionError), world.db.sessions.begin() as s:  # noqa: PT012
        service.fail(s, held.job_id, held.fence, Problem.of("internal", "x"))
        raise ZeroDivisionError
    with world.db.sessions() as s:  # a session that goes on after its rollback
        service.fail(s, held.job_id, held.fence, Problem.of("internal", "x"))
        s.rollback()
        s.commit()
    event.listen(world.db.engine, "commit", broken_commit)
    try:
        with pytest.raises(ZeroDivisionError), world.db.sessions.begin() as s:
            service.fail(s, held.job_id, held.fence, Problem.of("internal", "x"))
    finally:
        event.remove(world.db.engine, "commit", broken_commit)
    assert figures(world) == before
    assert len(lines(caplog)) == told
    waiting = world.ready()
    with world.db.sessions.begin() as s:
        service.cancel(s, world.scope, waiting.id)
    assert figures(world)["attempts"] == {}


def test_every_change_of_a_job_is_a_line_with_the_request_that_asked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """State, stage, attempt, fence, worker: what somebody needs who has only a log."""
    caplog.set_level(logging.INFO, "ladapress.jobs")
    origin.came_in("req-1")
    job = world.ready()
    origin.came_in("req-2")  # a later request, which did not make the job
    held = world.claim("host:1")
    assert held is not None
    assert held.request_id == "req-1"
    with world.db.sessions.begin() as s:
        service.record(s, job.id, held.fence, [("stage", {"stage": "distill"})])
    end(world, held, "succeeded")
    same = {"job_id": job.id, "request_id": "req-1"}
    assert lines(caplog) == [
        {**same, "state": "queued", "stage": None, "attempt": 0, "fence": 0, "worker": None},
        {**same, "state": "running", "stage": "fetch", "attempt": 1, "fence": 1, "worker": "host:1"},
        {**same, "state": "running", "stage": "distill", "attempt": 1, "fence": 1, "worker": "host:1"},
        {**same, "state": "succeeded", "stage": None, "attempt": 1, "fence": 1, "worker": "host:1"},
    ]


def test_levels_say_what_waits_runs_and_is_stuck(world: World) -> None:
    """Queues by the device that is asked for, workers by the one that they serve."""
    world.ready()
    held = world.claimed()
    with world.db.sessions.begin() as s:
        service.seen(s, "w", ["cpu", "cuda"])
    assert level(world, "queue_jobs") == {"auto": 1, "cpu": 0, "cuda": 0}
    assert level(world, "queue_age_seconds")["auto"] > 0
    assert level(world, "workers") == {"cpu": 1, "cuda": 1}
    assert level(world, "jobs_stalled") == {"": 0}
    world.set(held.job_id, heartbeat_at=0.0)
    assert level(world, "jobs_stalled") == {"": 1}
    assert {state for state, jobs in level(world, "jobs").items() if jobs} == {"queued", "running"}
