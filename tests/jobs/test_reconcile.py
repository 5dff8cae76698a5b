"""The reconciler: what crashes leave behind is put right, by one tick or by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

from sqlalchemy import select, update

from jobs import service
from jobs.clock import db_now
from jobs.states import State
from jobs.tables import Inspection
from tests.jobs.world import GOOD, World


def test_a_lost_lease_queues_the_job_and_at_the_last_attempt_fails_it(world: World) -> None:
    job_id = world.ready().id
    for _ in range(3):
        held = world.claim()
        assert held is not None
        world.reconcile()
        assert world.job(job_id).state is State.RUNNING  # a living lease is left alone
        world.expire(job_id)
        world.reconcile()
    job = world.job(job_id)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "worker_lost"


def test_a_lost_lease_ends_what_was_being_cancelled_and_pauses_what_was_being_paused(world: World) -> None:
    for wished, end in ((State.CANCELLING, State.CANCELLED), (State.PAUSING, State.PAUSED)):
        held = world.claimed()
        world.set(held.job_id, state=wished)
        world.expire(held.job_id)
        world.reconcile()
        assert world.job(held.job_id).state is end


def test_a_job_that_waits_too_long_fails(world: World) -> None:
    """Also one whose inspection never ends; a held one is not waiting."""
    request = world.judged()
    limited = request.model_validate({**request.model_dump(), "limits": {"max_pending_s": 100}})
    held, fresh, late = (world.submit(limited) for _ in range(3))
    uninspected = world.submit(world.request(limits={"max_pending_s": 100}))
    assert world.claim() is not None
    for job in (held, late, uninspected):
        world.set(job.id, queued_at=job.queued_at - 101)
    world.reconcile()
    assert world.job(held.id).state is State.RUNNING
    assert world.job(fresh.id).state is State.QUEUED
    for job in (late, uninspected):
        failed = world.job(job.id)
        assert failed.state is State.FAILED
        assert failed.error is not None
        assert failed.error["code"] == "pending_timeout"


def test_waiting_work_is_hinted_at_once_and_again_when_the_hint_is_old(world: World) -> None:
    """Not while the hint is fresh, and only what a worker can take."""
    job = world.ready()
    world.submit()
    (inspection,) = (hint.id for hint in world.reconcile() if hint.kind == "inspection")
    assert world.reconcile() == []
    with world.db.sessions.begin() as s:
        s.execute(update(Inspection).values(hinted_at=db_now() - 31))
    world.set(job.id, hinted_at=job.created_at - 31)
    assert {(hint.kind, hint.id) for hint in world.reconcile()} == {("job", job.id), ("inspection", inspection)}
    world.claim()
    with world.db.sessions.begin() as s:
        service.claim_inspection(s, "judge", 60)
    assert world.reconcile(hint_after_s=1e-9) == []


def test_many_reconcilers_at_once_lose_each_lease_once(world: World) -> None:
    """Eight ticks in parallel over twelve lost jobs: each goes back once, by one event."""
    request = world.judged()
    jobs = [world.submit(request).id for _ in range(12)]
    for job_id in jobs:
        assert world.claim() is not None
        world.expire(job_id)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: world.reconcile(), range(8)))
    world.reconcile()
    for job_id in jobs:
        assert world.job(job_id).state is State.QUEUED
        assert [event.data["state"] for event in world.events(job_id)] == ["queued", "running", "queued"]


def test_a_lost_inspection_is_tried_again_and_then_given_up(world: World) -> None:
    """The user reads that a worker was lost, not that the data is bad."""
    job = world.submit()
    for attempt in (1, 2, 3):
        with world.db.sessions.begin() as s:
            held = service.claim_inspection(s, "judge", 60)
        assert held is not None
        assert (held.attempt, held.fence) == (attempt, attempt)
        world.expire(held.inspection_id)
        world.reconcile()
    failed = world.job(job.id)
    assert failed.error is not None
    assert (failed.error["code"], failed.error["retryable"]) == ("worker_lost", True)


def test_a_stale_inspector_can_do_nothing(world: World) -> None:
    job = world.submit()
    with world.db.sessions.begin() as s:
        stale = service.claim_inspection(s, "judge", 60)
    assert stale is not None
    world.expire(stale.inspection_id)
    world.reconcile()
    for again in (False, True):
        if again:
            with world.db.sessions.begin() as s:
                assert service.claim_inspection(s, "second", 60) is not None
        with world.db.sessions.begin() as s:
            assert not service.heartbeat_inspection(s, stale.inspection_id, stale.fence, 60)
            assert not service.finish_inspection(s, stale.inspection_id, stale.fence, GOOD)
            assert not service.release_inspection(s, stale.inspection_id, stale.fence)
    assert not world.job(job.id).claimable


def test_a_drained_inspection_burns_no_attempt(world: World) -> None:
    world.submit()
    for fence in range(1, 6):
        with world.db.sessions.begin() as s:
            held = service.claim_inspection(s, "judge", 60)
            assert held is not None
            assert (held.attempt, held.fence) == (1, fence)
            assert service.heartbeat_inspection(s, held.inspection_id, held.fence, 60)
            assert service.release_inspection(s, held.inspection_id, held.fence)


def test_many_inspectors_take_each_inspection_once(world: World) -> None:
    for _ in range(6):
        world.submit()

    def take(_: int) -> str | None:
        with world.db.sessions.begin() as s:
            held = service.claim_inspection(s, "judge", 60)
        return held.inspection_id if held is not None else None

    with ThreadPoolExecutor(8) as pool:
        taken = [found for found in pool.map(take, range(24)) if found is not None]
    assert len(taken) == len(set(taken)) == 6


def test_a_verdict_that_was_not_passed_on_is_found(world: World) -> None:
    """As after a restored backup: the inspection is done, its job still waits."""
    job = world.submit()
    with world.db.sessions.begin() as s:
        row = s.scalars(select(Inspection)).one()
        row.state, row.verdict = "done", GOOD
    world.reconcile()
    assert world.job(job.id).claimable


def test_a_verdict_races_with_submits_and_no_job_is_left_waiting(world: World) -> None:
    """While jobs come in, the verdict arrives: whoever commits second sees the other."""
    request = world.request()
    world.submit(request)
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(world.submit, request) for _ in range(10)]
        verdict = pool.submit(world.judge)
        jobs += [pool.submit(world.submit, request) for _ in range(10)]
        verdict.result()
        ids = [job.result().id for job in jobs]
    assert all(world.job(job_id).claimable for job_id in ids)


def test_a_verdict_waits_for_a_submit_that_has_looked_already(world: World) -> None:
    """The submit saw "running" and is about to commit a waiting job; the verdict must find that job."""
    request = world.request()
    world.submit(request)
    with world.db.sessions.begin() as s:
        held = service.claim_inspection(s, "judge", 60)
    assert held is not None

    def finish() -> bool:
        with world.db.sessions.begin() as s:
            return service.finish_inspection(s, held.inspection_id, held.fence, GOOD)

    with ThreadPoolExecutor(1) as pool:
        with world.db.sessions.begin() as s:
            job = service.submit(s, world.scope, request, None)
            verdict = pool.submit(finish)
            wait([verdict], timeout=0.5)  # time enough to overtake, if nothing held it back
        assert verdict.result()
    assert world.job(job.id).claimable


def test_an_inspector_waits_for_a_submit_that_holds_the_only_row(world: World) -> None:
    """Going home with nothing would leave the user waiting for the next look."""
    request = world.request()
    world.submit(request)

    def take() -> service.InspectionClaim | None:
        with world.db.sessions.begin() as s:
            return service.claim_inspection(s, "judge", 60)

    with ThreadPoolExecutor(1) as pool:
        with world.db.sessions.begin() as s:
            service.request_inspection(s, world.scope, request.inspection())
            taken = pool.submit(take)
            wait([taken], timeout=0.5)
        assert taken.result() is not None


def test_nonsense_from_an_inspecting_child_is_no_verdict(world: World) -> None:
    """It has read hostile files; the job fails with words of ours and nothing breaks."""
    for nonsense in ({}, {"ok": True}, {"ok": True, "shape": {"family": 1}}, {"ok": False, "error": {"errors": 3}}):
        job = world.submit()
        world.judge({"warnings": [], **nonsense})
        error = world.job(job.id).error
        assert error is not None
        assert (error["code"], error["retryable"]) == ("internal", True)
