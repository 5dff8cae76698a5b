"""Claims: one winner, in a fair order; and the fence that takes every right from the others."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy.orm import Session

from jobs import service
from jobs.db import Database
from jobs.problem import Problem
from jobs.scope import get
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Event, Job
from tests.jobs.world import POINT, World, wipe


def test_many_claimers_take_every_job_once(world: World) -> None:
    """100 jobs, 8 threads that claim until nothing is left."""
    request = world.judged()
    jobs = {world.submit(request).id for _ in range(100)}
    start = threading.Barrier(8)

    def work(number: int) -> list[str]:
        start.wait()
        taken = []
        while (held := world.claim(f"worker{number}")) is not None:
            taken.append(held.job_id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [job_id for part in pool.map(work, range(8)) for job_id in part]
    assert Counter(taken) == Counter(jobs)


def test_two_claimers_of_one_job_have_one_winner(world: World) -> None:
    """Round after round, two threads start together on a single job."""
    request = world.judged()
    for _ in range(20):
        job = world.submit(request)
        start = threading.Barrier(2)

        def rush(worker: str, start: threading.Barrier = start) -> service.Claim | None:
            start.wait()
            return world.claim(worker)

        with ThreadPoolExecutor(2) as pool:
            won = [held for held in pool.map(rush, ["a", "b"]) if held is not None]
        assert [(held.job_id, held.fence) for held in won] == [(job.id, 1)]


def test_the_project_with_fewer_held_jobs_goes_first(world: World) -> None:
    """Ten jobs of one project, sent first, do not starve two of another."""
    other = world.other()
    mine, theirs = world.judged(), other.judged()
    for _ in range(10):
        world.submit(mine)
    for _ in range(2):
        other.submit(theirs)
    order = [held.project_id for _ in range(6) if (held := world.claim()) is not None]
    a, b = world.scope.project_id, other.scope.project_id
    assert order == [a, b, a, b, a, a]


def test_within_a_project_the_oldest_goes_first_unless_priority_says_otherwise(world: World) -> None:
    request = world.judged()
    first, second, urgent = (world.submit(request).id for _ in range(3))
    world.set(urgent, priority=1)
    assert [held.job_id for _ in range(3) if (held := world.claim()) is not None] == [urgent, first, second]


def test_a_worker_takes_only_devices_that_it_serves(world: World) -> None:
    request = world.judged()
    job = world.submit(request.model_validate({**request.model_dump(), "resources": {"device": "cuda"}}))
    assert world.claim(devices=("cpu", "auto")) is None
    held = world.claim(devices=("cuda", "auto"))
    assert held is not None
    assert held.job_id == job.id


def test_a_claim_passes_by_a_row_that_another_transaction_holds(shared_postgresql: Database, tmp_path: Path) -> None:
    """On PostgreSQL, where rows are locked one by one: a slow neighbour holds up nobody."""
    world = World(shared_postgresql, Settings(data_dir=tmp_path), itertools.count())
    request = world.judged()
    first, second = world.submit(request), world.submit(request)
    with world.db.sessions.begin() as s:
        get(s, world.scope, Job, first.id, lock=True)
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(world.claim).result(timeout=30)
    wipe(world.db)
    assert held is not None
    assert held.job_id == second.id


def test_an_order_names_the_bytes_of_every_input(world: World) -> None:
    """Model files by path, data by role with its format: all that a worker needs, without a query of its own."""
    held = world.claimed()
    with world.db.readers() as s:
        order = service.order(s, held.project_id, held.spec)
    assert [file.path for file in order.model] == ["model.safetensors"]
    assert set(order.data) == {"train", "eval"}
    assert {data.format for data in order.data.values()} == {"csv"}
    assert all(len(blob.sha256) == 64 for blob in (*order.model, *order.data.values()))
    assert order.spec["recipe"]["steps"]


Act = Callable[[Session, service.Claim], object]
ACTS: dict[str, Act] = {
    "heartbeat": lambda s, h: service.heartbeat(s, h.job_id, h.fence, 60),
    "control": lambda s, h: service.control(s, h.job_id, h.fence),
    "record": lambda s, h: service.record(s, h.job_id, h.fence, [("log", {"line": "still here"})]),
    "publish": lambda s, h: service.publish(s, h.job_id, h.fence, {}, [POINT]),
    "fail": lambda s, h: service.fail(s, h.job_id, h.fence, Problem.of("internal", "x")),
    "release as lost": lambda s, h: service.release(s, h.job_id, h.fence, "lost"),
    "release as drained": lambda s, h: service.release(s, h.job_id, h.fence, "drained"),
    "finish a cancel": lambda s, h: service.finish_cancel(s, h.job_id, h.fence),
}


def snapshot(world: World, job_id: str) -> tuple[object, ...]:
    job = world.job(job_id)
    return (*(getattr(job, column.key) for column in Job.__mapper__.column_attrs), len(world.events(job_id)))


def refused_all(world: World, stale: service.Claim) -> None:
    """Every act under this claim says no and leaves the row and its events as they are."""
    before = snapshot(world, stale.job_id)
    for name, act in ACTS.items():
        with world.db.sessions.begin() as s:
            assert not act(s, stale), name
        assert snapshot(world, stale.job_id) == before, name


def test_a_stale_holder_can_do_nothing(world: World) -> None:
    """Its lease ran out; while the job is queued the state forbids it, once another holds it the fence does."""
    stale = world.claimed()
    world.expire(stale.job_id)
    world.reconcile()
    refused_all(world, stale)
    held = world.claim("second")
    assert held is not None
    assert (held.job_id, held.fence) == (stale.job_id, stale.fence + 1)
    refused_all(world, stale)
    for state in (State.PAUSING, State.CANCELLING):
        world.set(held.job_id, state=state)
        refused_all(world, stale)
    world.set(held.job_id, state=State.RUNNING)
    assert world.publish(held)
    refused_all(world, stale)
    refused_all(world, held)


def test_a_heartbeat_brings_the_users_wish(world: World) -> None:
    held = world.claimed()
    for state, expected in (
        (State.RUNNING, service.Control(cancel=False, pause=False)),
        (State.PAUSING, service.Control(cancel=False, pause=True)),
        (State.CANCELLING, service.Control(cancel=True, pause=False)),
    ):
        world.set(held.job_id, state=state)
        with world.db.sessions.begin() as s:
            assert service.heartbeat(s, held.job_id, held.fence, 60) == expected
        with world.db.readers() as s:
            assert service.control(s, held.job_id, held.fence) == expected


def test_a_heartbeat_keeps_the_lease_on_the_databases_clock(world: World) -> None:
    """After the beat the reconciler leaves the job alone; without one it takes it."""
    held = world.claimed()
    world.expire(held.job_id)
    with world.db.sessions.begin() as s:
        assert service.heartbeat(s, held.job_id, held.fence, 60)
    world.reconcile()
    assert world.job(held.job_id).state is State.RUNNING


def test_events_have_no_gap_under_concurrent_writers(world: World) -> None:
    """Six threads write to one job while a reader follows: it never sees number n + 1 before n."""
    held = world.claimed()
    done = threading.Event()

    def write(number: int) -> None:
        for step in range(15):
            with world.db.sessions.begin() as s:
                events = [("log", {"line": f"{number}.{step}.{part}"}) for part in range(1 + step % 3)]
                assert service.record(s, held.job_id, held.fence, events)

    def follow() -> list[int]:
        seen: list[int] = []
        while True:
            last_look = done.is_set()
            with world.db.readers() as s:
                new = service.events_after(s, world.scope, held.job_id, seen[-1] if seen else 0, 1000)
            seen += [event.seq for event in new]
            if last_look:
                return seen

    with ThreadPoolExecutor(7) as pool:
        reader = pool.submit(follow)
        list(pool.map(write, range(6)))
        done.set()
        seen = reader.result()
    assert seen == list(range(1, world.job(held.job_id).event_seq + 1))
    assert len(seen) == 2 + 6 * 30


def test_progress_never_falls_even_in_a_second_attempt(world: World) -> None:
    held = world.claimed()

    def say(holder: service.Claim, fraction: float) -> float:
        with world.db.sessions.begin() as s:
            service.record(
                s, holder.job_id, holder.fence, [("progress", {"fraction": fraction, "step": 1, "steps": 9})]
            )
        progress = world.job(holder.job_id).progress
        assert progress is not None
        return float(progress["fraction"])

    assert [say(held, value) for value in (0.2, 0.6, 0.4, float("nan"), 7.0)] == [0.2, 0.6, 0.6, 0.6, 1.0]
    world.set(held.job_id, progress={"fraction": 0.6})
    world.expire(held.job_id)
    world.reconcile()
    again = world.claim()
    assert again is not None
    assert [say(again, value) for value in (0.1, 0.7)] == [0.6, 0.7]


def test_what_a_child_says_is_stored_whatever_it_holds(world: World) -> None:
    """NUL, lone surrogates, NaN and endless lines come from hostile files; neither database may choke on them."""
    held = world.claimed()
    hostile = {"line": "a\x00b\ud800" + "x" * 100_000, "value": float("inf"), "deep": {"\x00": [float("nan")]}}
    with world.db.sessions.begin() as s:
        assert service.record(s, held.job_id, held.fence, [("log", hostile), ("stage", {"stage": "te\x00acher"})])
    data = world.events(held.job_id)[-2].data
    assert data["line"].startswith("a\ufffdb?xxx")
    assert len(data["line"]) < 5_000
    assert data["value"] is None
    assert data["deep"] == {"\ufffd": [None]}
    assert world.job(held.job_id).stage == "te\ufffdacher"


def test_an_event_belongs_to_the_project_of_its_job(world: World) -> None:
    held = world.claimed()
    other = world.other()
    with world.db.readers() as s:
        assert {e.project_id for e in s.query(Event)} == {world.scope.project_id}
        assert service.transitions(s, other.scope, [held.job_id]) == {held.job_id: []}
        mine = service.transitions(s, world.scope, [held.job_id])[held.job_id]
    assert [event.data["state"] for event in mine if event.type == "state"] == ["queued", "running"]


def test_the_databases_clock_counts_seconds_since_1970(world: World) -> None:
    """Both databases mean the same by a time, and nearly what this machine means."""
    held = world.claimed()
    job = world.job(held.job_id)
    assert job.lease_until is not None
    assert job.heartbeat_at is not None
    assert 59 < job.lease_until - job.heartbeat_at < 61
    assert abs(job.created_at - time.time()) < 3600
