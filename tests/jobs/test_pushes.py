"""Pushes in the database: nothing is lost, nothing is made by two, nothing is tried for ever. On both databases."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select, update

from jobs import service
from jobs.clock import db_now
from jobs.problem import Problem
from jobs.requests import PushRequest
from jobs.service import PushClaim
from jobs.tables import Artifact, Audit, Push
from tests.jobs.world import POINT, World

ASKED = PushRequest(registry="hub", to="acme/small")
DOWN = Problem.of("registry_unreachable", "503", retryable=True)
REFUSED = Problem.of("registry_refused", "401")


def artifact(world: World) -> str:
    held = world.claimed()
    assert world.publish(held)
    with world.db.readers() as s:
        return s.scalars(select(Artifact.id).where(Artifact.job_id == held.job_id)).one()


def ask(world: World, artifact_id: str, asked: PushRequest = ASKED) -> tuple[str, bool]:
    with world.db.sessions.begin() as s:
        row, made = service.request_push(s, world.scope, artifact_id, asked)
        return row.id, made


def claim(world: World, lease_s: float = 60) -> PushClaim | None:
    with world.db.sessions.begin() as s:
        return service.claim_push(s, "pusher", lease_s, 3600)


def held(world: World) -> PushClaim:
    found = claim(world)
    assert found is not None
    return found


def row(world: World, push_id: str) -> Push:
    with world.db.readers() as s:
        return s.get_one(Push, push_id)


def put(world: World, **columns: Any) -> None:
    with world.db.sessions.begin() as s:
        s.execute(update(Push).values(**columns))


def fail(world: World, claimed: PushClaim, problem: Problem, give_up_s: float = 3600) -> bool:
    with world.db.sessions.begin() as s:
        return service.fail_push(s, claimed.push_id, claimed.fence, problem, retry_s=100, give_up_s=give_up_s)


def test_a_push_is_claimed_once_and_ends_with_its_result(world: World) -> None:
    push, made = ask(world, art := artifact(world))
    claimed = held(world)
    assert made
    assert (claimed.push_id, claimed.artifact_id, claimed.spec["to"]) == (push, art, "acme/small")
    assert claimed.files == [("model.onnx", 4, "a" * 64)]
    assert claim(world) is None
    result = {"url": "u", "commit": "c", "version": None, "unchanged": False}
    with world.db.sessions.begin() as s:
        assert service.finish_push(s, push, claimed.fence, result)
    done = row(world, push)
    assert (done.state, done.result, done.error, done.attempt) == ("succeeded", result, None, 1)
    assert done.finished_at is not None
    assert claim(world) is None


def test_the_same_request_is_one_push_until_it_has_ended(world: World) -> None:
    first, _ = ask(world, art := artifact(world))
    assert ask(world, art) == (first, False)
    claimed = held(world)
    assert ask(world, art) == (first, False)
    assert ask(world, art, PushRequest(registry="hub", to="acme/other"))[1]
    fail(world, claimed, REFUSED)
    again, made = ask(world, art)
    assert made
    assert again != first
    with world.db.readers() as s:
        said = s.scalars(select(Audit.object).where(Audit.action == "artifact.push")).all()
    assert len(said) == 3


def test_an_artifact_is_pushed_by_one_process_at_a_time(world: World) -> None:
    """Another artifact's push goes on meanwhile."""
    art = artifact(world)
    ask(world, art)
    first = held(world)
    ask(world, art, PushRequest(registry="hub", to="acme/other"))
    assert claim(world) is None
    free, _ = ask(world, artifact(world))
    assert held(world).push_id == free
    fail(world, first, REFUSED)
    assert held(world).artifact_id == art


def test_a_registry_that_is_away_is_asked_again_later_and_not_for_ever(world: World) -> None:
    push, _ = ask(world, artifact(world))
    assert fail(world, held(world), DOWN)
    waiting = row(world, push)
    assert (waiting.state, waiting.error) == ("queued", DOWN.as_dict())
    assert claim(world) is None  # not yet
    first_s = waiting.not_before - waiting.created_at
    put(world, not_before=db_now() - 1)
    assert fail(world, held(world), DOWN)
    assert row(world, push).not_before - waiting.created_at > first_s + 30  # twice as long, give or take a fifth
    put(world, not_before=db_now() - 1, created_at=db_now() - 3601)
    assert fail(world, held(world), DOWN)
    ended = row(world, push)
    assert (ended.state, ended.error, ended.attempt) == ("failed", DOWN.as_dict(), 3)
    assert claim(world) is None


def test_what_another_attempt_would_meet_again_fails_at_once(world: World) -> None:
    push, _ = ask(world, artifact(world))
    assert fail(world, held(world), REFUSED)
    ended = row(world, push)
    assert (ended.state, ended.attempt) == ("failed", 1)
    assert ended.finished_at is not None


def test_a_lost_pushers_push_is_made_again_and_its_own_words_count_no_more(world: World) -> None:
    push, _ = ask(world, artifact(world))
    lost = held(world)
    put(world, lease_until=db_now() - 1)
    second = held(world)
    assert (second.push_id, second.fence) == (push, lost.fence + 1)
    with world.db.sessions.begin() as s:
        assert not service.finish_push(s, push, lost.fence, {"url": "late"})
        assert not service.heartbeat_push(s, push, lost.fence, 60)
        assert service.heartbeat_push(s, push, second.fence, 60)
    assert not fail(world, lost, REFUSED)
    assert row(world, push).state == "running"


def test_a_push_that_ends_its_makers_is_given_up(world: World) -> None:
    """Lost while it is young it is made again, lost when it is old it has failed."""
    push, _ = ask(world, artifact(world))
    held(world)
    put(world, lease_until=db_now() - 1, created_at=db_now() - 3601)
    assert claim(world) is None
    ended = row(world, push)
    assert (ended.state, (ended.error or {})["code"], ended.attempt) == ("failed", "worker_lost", 1)


def test_a_drained_pusher_hands_back_and_no_attempt_is_counted(world: World) -> None:
    push, _ = ask(world, artifact(world))
    first = held(world)
    with world.db.sessions.begin() as s:
        assert service.release_push(s, push, first.fence)
    assert (row(world, push).state, row(world, push).attempt) == ("queued", 0)
    assert held(world).push_id == push


@pytest.mark.parametrize("how", ["push", "job"])
def test_a_push_that_is_deleted_under_its_pusher_is_noticed_by_it(world: World, how: str) -> None:
    """A job that is deleted takes its artifact's pushes along; neither waits for a registry that is away."""
    push, _ = ask(world, art := artifact(world))
    claimed = held(world)
    with world.db.sessions.begin() as s:
        if how == "push":
            service.delete_push(s, world.scope, push)
        else:
            service.delete_job(s, world.scope, s.get_one(Artifact, art).job_id)
    with world.db.sessions.begin() as s:
        assert not service.heartbeat_push(s, push, claimed.fence, 60)
    assert not fail(world, claimed, DOWN)
    assert claim(world) is None


def test_a_job_that_asks_for_it_is_pushed_as_it_is_published(world: World) -> None:
    """In one transaction: no artifact without its push, and no push of an artifact that nobody can see."""
    request = world.judged().model_copy(update={"push": ASKED})
    world.submit(request)
    claimed = world.claim()
    assert claimed is not None
    assert claim(world) is None
    with world.db.sessions() as s:
        assert service.publish(s, claimed.job_id, claimed.fence, {}, [POINT])
        s.rollback()
    assert claim(world) is None
    assert world.publish(claimed)
    push = held(world)
    assert (push.spec, push.files[0][0]) == (ASKED.model_dump(mode="json"), "model.onnx")
    assert fail(world, push, REFUSED)
    assert world.job(claimed.job_id).state.value == "succeeded"


@pytest.mark.parametrize("more", [{"ladder": {"parameter_ratio": [2, 4]}}, {"dry_run": True}])
def test_a_job_without_exactly_one_artifact_takes_no_push(world: World, more: dict[str, Any]) -> None:
    """Points of a ladder would take each other's place."""
    with pytest.raises(ValidationError, match="job of one artifact"):
        world.request(push=ASKED.model_dump(), **more)
