"""How a held job ends or goes back."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from jobs import service
from jobs.clock import db_now
from jobs.problem import Problem, Refused
from jobs.states import State
from jobs.tables import Artifact, ArtifactFile, Audit, Event, Job, JobInput
from tests.jobs.world import POINT, World


def artifacts(world: World, job_id: str) -> list[Artifact]:
    with world.db.readers() as s:
        return list(s.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.point)))


def test_a_publish_shows_state_report_artifacts_and_event_at_once(world: World) -> None:
    held = world.claimed()
    assert world.publish(held, points=2)
    job = world.job(held.job_id)
    assert job.state is State.SUCCEEDED
    assert job.report == {"target_met": True}
    assert job.finished_at is not None
    assert job.progress is not None
    assert job.progress["fraction"] == 1.0
    assert [artifact.point for artifact in artifacts(world, held.job_id)] == [0, 1]
    assert world.events(held.job_id)[-1].data["state"] == "succeeded"
    with world.db.readers() as s:
        files = s.scalars(select(ArtifactFile)).all()
    assert {(file.path, file.size, file.project_id) for file in files} == {("model.onnx", 4, world.scope.project_id)}


def test_a_publish_that_breaks_half_way_leaves_nothing(world: World) -> None:
    """The second point is broken: state, report and the first point are rolled back with it."""
    held = world.claimed()
    twice = service.PublishedPoint(files=[*POINT.files, *POINT.files], report={})
    with pytest.raises(IntegrityError), world.db.sessions.begin() as s:
        service.publish(s, held.job_id, held.fence, {}, [POINT, twice])
    assert world.job(held.job_id).state is State.RUNNING
    assert artifacts(world, held.job_id) == []
    assert world.publish(held)


def test_an_unknown_commit_is_answered_by_reading_again(world: World) -> None:
    """Only the holder whose publish was committed hears yes."""
    stale = world.claimed()
    world.expire(stale.job_id)
    world.reconcile()
    held = world.claim()
    assert held is not None
    with world.db.readers() as s:
        assert not service.published(s, held.job_id, held.fence)
    world.publish(held)
    with world.db.readers() as s:
        assert service.published(s, held.job_id, held.fence)
        assert not service.published(s, stale.job_id, stale.fence)


def test_a_report_with_nan_is_published_on_both_databases(world: World) -> None:
    held = world.claimed()
    report = {"metric": float("nan"), "note": "long " * 5_000, "rows": list(range(500))}
    with world.db.sessions.begin() as s:
        assert service.publish(s, held.job_id, held.fence, report, [])
    stored = world.job(held.job_id).report
    assert stored == {**report, "metric": None}


def test_a_job_that_is_being_cancelled_is_never_published(world: World) -> None:
    held = world.claimed()
    with world.db.sessions.begin() as s:
        assert service.cancel(s, world.scope, held.job_id).state is State.CANCELLING
    assert not world.publish(held)
    with world.db.sessions.begin() as s:
        assert not service.fail(s, held.job_id, held.fence, Problem.of("internal", "killed"))
        assert service.finish_cancel(s, held.job_id, held.fence)
    assert world.job(held.job_id).state is State.CANCELLED
    assert artifacts(world, held.job_id) == []


def test_a_failure_carries_the_problem_and_the_stage(world: World) -> None:
    held = world.claimed()
    with world.db.sessions.begin() as s:
        service.record(s, held.job_id, held.fence, [("stage", {"stage": "distill"})])
        problem = Problem.from_error({"code": "training_diverged", "detail": "loss is NaN at step 7"})
        assert service.fail(s, held.job_id, held.fence, problem)
    error = world.job(held.job_id).error
    assert error is not None
    assert (error["code"], error["stage"], error["status"]) == ("training_diverged", "distill", 500)


def test_a_lost_job_is_tried_three_times_and_says_why_it_failed(world: World) -> None:
    held = world.claimed()
    for attempt in (1, 2, 3):
        assert held is not None
        assert held.attempt == attempt
        with world.db.sessions.begin() as s:
            state = service.release(s, held.job_id, held.fence, "lost", detail="signal 9")
        assert state is (State.QUEUED if attempt < 3 else State.FAILED)
        held = world.claim() if attempt < 3 else held
    assert held is not None
    error = world.job(held.job_id).error
    assert error is not None
    assert error["code"] == "worker_lost"
    assert "signal 9" in error["detail"]
    assert world.claim() is None


def test_a_drain_burns_no_attempt_however_often_it_comes(world: World) -> None:
    held = world.claimed()
    for fence in range(1, 8):
        assert held is not None
        assert (held.attempt, held.fence) == (1, fence)
        with world.db.sessions.begin() as s:
            assert service.release(s, held.job_id, held.fence, "drained") is State.QUEUED
        held = world.claim()


@pytest.mark.parametrize("reason", ["lost", "drained"])
def test_a_wish_of_the_user_outlives_the_worker(world: World, reason: str) -> None:
    """Released while pausing it is paused, while cancelling it is cancelled; never queued again."""
    for wished, end in ((State.PAUSING, State.PAUSED), (State.CANCELLING, State.CANCELLED)):
        held = world.claimed()
        world.set(held.job_id, state=wished)
        with world.db.sessions.begin() as s:
            assert service.release(s, held.job_id, held.fence, "lost" if reason == "lost" else "drained") is end


def test_cancelling_what_nobody_holds_is_done_at_once(world: World) -> None:
    job = world.ready()
    for _ in range(2):  # asking again changes nothing
        with world.db.sessions.begin() as s:
            assert service.cancel(s, world.scope, job.id).state is State.CANCELLED
    assert world.claim() is None
    assert [event.data["state"] for event in world.events(job.id)].count("cancelled") == 1


def test_cancelling_twice_waits_for_the_child_all_the_same(world: World) -> None:
    """The second request must not end a job whose process group still runs."""
    held = world.claimed()
    for _ in range(2):
        with world.db.sessions.begin() as s:
            assert service.cancel(s, world.scope, held.job_id).state is State.CANCELLING


def test_what_has_ended_cannot_be_cancelled(world: World) -> None:
    held = world.claimed()
    world.publish(held)
    with pytest.raises(Refused) as caught, world.db.sessions.begin() as s:
        service.cancel(s, world.scope, held.job_id)
    assert (caught.value.problem.status, caught.value.problem.code) == (409, "job_finished")


def test_a_job_is_deleted_with_all_its_rows_once_it_has_ended(world: World) -> None:
    held = world.claimed()
    with pytest.raises(Refused) as caught, world.db.sessions.begin() as s:
        service.delete_job(s, world.scope, held.job_id)
    assert caught.value.problem.code == "job_not_finished"
    world.publish(held)
    with world.db.sessions.begin() as s:
        service.delete_job(s, world.scope, held.job_id)
    with world.db.readers() as s:
        for table in (Job, Event, Artifact, ArtifactFile, JobInput):
            assert s.scalars(select(table)).all() == []
        actions = s.scalars(select(Audit.action).where(Audit.object == held.job_id)).all()
    assert actions == ["job.delete"]


def test_time_used_is_summed_over_attempts_however_they_ended(world: World) -> None:
    """A holder that vanished counts until its last heartbeat; waiting for the reconciler is not its time."""
    job_id = world.ready().id
    first = world.claim()
    assert first is not None
    assert first.used_s == 0
    world.set(job_id, claimed_at=db_now() - 100)
    with world.db.sessions.begin() as s:
        service.release(s, job_id, first.fence, "drained")
    second = world.claim()
    assert second is not None
    assert second.used_s == pytest.approx(100, abs=5)
    world.set(job_id, claimed_at=db_now() - 500, heartbeat_at=db_now() - 470, lease_until=db_now() - 400)
    world.reconcile()
    third = world.claim()
    assert third is not None
    assert third.used_s == pytest.approx(130, abs=5)
