"""Webhooks in the database: what is committed is told, once to each; nobody is tried for ever. On both databases."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from jobs import service
from jobs.clock import db_now
from jobs.problem import Problem, Refused
from jobs.requests import JobWebhook, PushRequest
from jobs.states import State
from jobs.tables import Artifact, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from jobs.webhooks.deliveries import PER_ENDPOINT
from tests.jobs.hooked import (
    BAD,
    GONE,
    GOOD,
    all_due,
    change,
    claim,
    deliveries,
    endpoint,
    finish,
    ping,
    pinged,
    put,
    row,
    told,
)
from tests.jobs.world import World

MOVES = ["job.running", "job.succeeded"]


def test_each_move_of_a_job_is_told_to_whom_it_concerns(world: World) -> None:
    """And to nobody else: other types, the disabled, other projects."""
    everything, some, none = (endpoint(world, events=events)[0] for events in (("*",), ("job.succeeded",), ()))
    off = endpoint(world, enabled=False)[0]
    foreign = endpoint(world.other())[0]
    held = world.claimed()
    assert world.publish(held)
    assert told(world, everything) == [(kind, held.job_id) for kind in MOVES]
    assert told(world, some) == [("job.succeeded", held.job_id)]
    assert [told(world, each) for each in (none, off, foreign)] == [[], [], []]
    for delivery in deliveries(world, everything):
        body = json.loads(delivery.body)
        assert set(body) == {"type", "timestamp", "data"}
        (event,) = [event for event in world.events(held.job_id) if event.seq == body["data"]["seq"]]
        assert f"job.{event.data['state']}" == body["type"]
        assert body["timestamp"].endswith("Z")


def test_every_ending_and_a_pause_have_their_type(world: World) -> None:
    told_of, _ = endpoint(world)
    cancelled = world.ready().id
    with world.db.sessions.begin() as s:
        service.cancel(s, world.scope, cancelled)
    failed = world.claimed()
    with world.db.sessions.begin() as s:
        assert service.fail(s, failed.job_id, failed.fence, Problem.of("internal", "x"))
    paused = world.claimed()
    world.set(paused.job_id, state=State.PAUSING)
    with world.db.sessions.begin() as s:
        assert service.release(s, paused.job_id, paused.fence, "drained") is State.PAUSED
    expected = [("cancelled", cancelled), ("running", failed.job_id), ("failed", failed.job_id)]
    expected += [("running", paused.job_id), ("paused", paused.job_id)]
    assert told(world, told_of) == [(f"job.{state}", job) for state, job in expected]


def test_what_is_rolled_back_is_not_told(world: World) -> None:
    told_of, _ = endpoint(world)
    held = world.claimed()
    with suppress(ZeroDivisionError), world.db.sessions.begin() as s:
        assert service.publish(s, held.job_id, held.fence, {}, [])
        raise ZeroDivisionError
    assert told(world, told_of) == [("job.running", held.job_id)]


def test_a_job_names_an_endpoint_of_its_own(world: World) -> None:
    """One that is told of other things too, or of nothing else; never twice of one thing; never somebody else's."""
    quiet, loud = endpoint(world, events=())[0], endpoint(world)[0]
    asked = world.judged()
    for chosen in (quiet, loud):
        chosen_by_it = JobWebhook(endpoint=chosen, events=("job.succeeded",))
        job = world.submit(asked.model_copy(update={"webhook": chosen_by_it})).id
        held = world.claim()
        assert held is not None
        assert world.publish(held)
        assert told(world, loud)[-2:] == [(kind, job) for kind in MOVES]
        assert [kind for kind, id_ in told(world, quiet) if id_ == job] == ["job.succeeded"] * (chosen == quiet)
    with pytest.raises(Refused) as refused:
        world.submit(world.request(webhook={"endpoint": endpoint(world.other())[0]}))
    assert (refused.value.problem.code, refused.value.problem.param) == ("not_found", "/webhook/endpoint")
    with pytest.raises(ValidationError):
        world.request(webhook={"endpoint": quiet, "url": "https://hooks.example/"})


def test_the_end_of_a_push_is_told(world: World) -> None:
    held = world.claimed()
    assert world.publish(held)
    told_of, _ = endpoint(world, events=("push.succeeded", "push.failed"))
    for outcome in ("succeeded", "failed"):
        with world.db.sessions.begin() as s:
            artifact = s.scalars(select(Artifact.id).where(Artifact.job_id == held.job_id)).one()
            push = service.request_push(s, world.scope, artifact, PushRequest(registry="hub", to=f"acme/{outcome}"))[0]
        with world.db.sessions.begin() as s:
            taken = service.claim_push(s, "pusher", 60, 3600)
            assert taken is not None
            if outcome == "succeeded":
                assert service.finish_push(s, push.id, taken.fence, {"url": "u"})
            else:
                problem = Problem.of("registry_refused", "401")
                assert service.fail_push(s, push.id, taken.fence, problem, retry_s=1, give_up_s=60)
        assert told(world, told_of)[-1] == (f"push.{outcome}", push.id)
        assert json.loads(deliveries(world, told_of)[-1].body)["data"]["artifact_id"] == artifact


def test_a_failure_is_tried_again_by_the_schedule_and_then_given_up(world: World) -> None:
    """Each pause within a tenth of what is set; a success in between ends it."""
    schedule = (5.0, 300.0, 7200.0)
    endpoint_id, delivery = pinged(world, BAD, webhook_retry_s=schedule)
    for pause_s in schedule:
        with world.db.readers() as s:
            left = s.scalars(select(WebhookDelivery.not_before - db_now())).one()
        assert pause_s * 0.9 - 5 < left <= pause_s * 1.1
        assert row(world, delivery).state == "queued"
        assert claim(world) == []
        all_due(world)
        (held,) = claim(world)
        assert held.delivery_id == delivery
        assert finish(world, held, BAD, webhook_retry_s=schedule)
    assert row(world, delivery).state == "failed"
    assert row(world, delivery).finished_at is not None
    assert row(world, endpoint_id).enabled
    with world.db.readers() as s:
        tried = service.attempts(s, world.scope, delivery)
    assert [(one.status_code, one.error) for one in tried] == [(500, "answered 500")] * 4
    all_due(world)
    assert claim(world) == []


def test_gone_disables_and_enabling_sends_what_waits(world: World) -> None:
    endpoint_id, delivery = pinged(world, BAD)
    waiting = ping(world, endpoint_id)
    all_due(world)
    held = claim(world)
    assert len(held) == 1, "one that fails is tried with one message at a time"
    assert finish(world, held[0], GONE)
    gone = row(world, endpoint_id)
    assert (gone.enabled, gone.disabled_reason) == (False, "It answered 410 Gone.")
    assert row(world, held[0].delivery_id).state == "failed"
    assert claim(world) == []
    (other,) = {delivery, waiting} - {held[0].delivery_id}
    for refused in (lambda: ping(world, endpoint_id), lambda: replay(world, endpoint_id, delivery)):
        with pytest.raises(Refused, match="410 Gone"):
            refused()
    change(world, endpoint_id, enabled=True)
    again = row(world, endpoint_id)
    assert (again.enabled, again.disabled_reason, again.failing_since) == (True, None, None)
    assert [each.delivery_id for each in claim(world)] == [other]


def replay(world: World, endpoint_id: str, delivery: str) -> WebhookDelivery:
    with world.db.sessions.begin() as s:
        return service.replay_delivery(s, world.scope, endpoint_id, delivery)


def test_an_endpoint_that_fails_for_days_is_disabled_and_one_success_saves_it(world: World) -> None:
    day_s = 86_400
    for saved in (True, False):
        endpoint_id, _ = pinged(world, BAD)
        put(world, WebhookEndpoint, failing_since=db_now() - 6 * day_s)
        if saved:
            all_due(world)
            (held,) = claim(world)
            assert finish(world, held, GOOD)
            assert row(world, endpoint_id).failing_since is None
        ping(world, endpoint_id)
        all_due(world)
        for held in claim(world):
            assert finish(world, held, BAD)
        found = row(world, endpoint_id)
        assert found.enabled is saved
        if not saved:
            assert found.disabled_reason == "No message got through for 5 days; the last attempt: answered 500"
        change(world, endpoint_id, enabled=False)
        assert row(world, endpoint_id).disabled_reason is None


def test_a_lost_holder_is_followed_under_the_same_id_and_may_write_nothing(world: World) -> None:
    endpoint_id, _ = endpoint(world)
    delivery = ping(world, endpoint_id)
    (stale,) = claim(world, lease_s=-1)
    (held,) = claim(world)
    assert (stale.delivery_id, held.delivery_id, stale.body) == (delivery, delivery, held.body)
    assert not finish(world, stale, GONE)
    assert row(world, endpoint_id).enabled
    assert finish(world, held, GOOD)
    assert not finish(world, held, BAD)
    with world.db.readers() as s:
        assert len(service.attempts(s, world.scope, delivery)) == 1
    assert row(world, delivery).state == "succeeded"


def test_a_delivery_that_cannot_be_signed_here_burns_no_attempt(world: World) -> None:
    ping(world, endpoint(world)[0])
    (held,) = claim(world)
    with world.db.sessions.begin() as s:
        assert service.postpone_delivery(s, held, 60)
    assert claim(world) == []
    all_due(world)
    (again,) = claim(world)
    assert row(world, again.delivery_id).tries == 1
    with world.db.sessions.begin() as s:
        assert not service.postpone_delivery(s, held, 60)


def test_nobody_has_more_than_his_share_under_way(world: World) -> None:
    """A full queue of one endpoint leaves room for the others, whose first messages come before its fifth."""
    slow, quick = endpoint(world)[0], endpoint(world)[0]
    for _ in range(PER_ENDPOINT + 3):
        ping(world, slow)
    assert [each.endpoint_id for each in claim(world)] == [slow] * PER_ENDPOINT
    late = ping(world, quick)
    assert [each.delivery_id for each in claim(world)] == [late]
    assert claim(world) == []


def test_a_failing_endpoint_at_its_limit_hides_nobody(world: World) -> None:
    """Its queue would come first, having fewer under way; it may take none, and a claim of one finds the other's."""
    failing, _ = pinged(world, BAD)
    healthy, _ = endpoint(world)
    for _ in range(3):
        ping(world, failing)
    all_due(world)
    assert len(claim(world)) == 1
    for _ in range(3):
        ping(world, healthy)
        all_due(world)
        assert [each.endpoint_id for each in claim(world, most=1)] == [healthy]


def test_a_replay_is_the_same_message_with_a_fresh_schedule(world: World) -> None:
    endpoint_id, delivery = pinged(world, GOOD)
    before = row(world, delivery)
    replay(world, endpoint_id, delivery)
    (held,) = claim(world)
    assert (held.delivery_id, held.body) == (delivery, before.body)
    assert replay(world, endpoint_id, delivery).state == "running"
    assert finish(world, held, BAD)
    assert row(world, delivery).tries == 1
    with pytest.raises(Refused, match="of this endpoint"):
        replay(world, endpoint(world)[0], delivery)


def test_deleting_an_endpoint_takes_its_deliveries_along_and_old_ones_are_forgotten(world: World) -> None:
    gone, kept = pinged(world, BAD)[0], pinged(world, GOOD)[0]
    with world.db.sessions.begin() as s:
        service.delete_endpoint(s, world.scope, gone)
    assert deliveries(world, gone) == []
    assert len(deliveries(world, kept)) == 1
    with world.db.sessions.begin() as s:
        assert service.forget_deliveries(s, 3600) == 0
        assert service.forget_deliveries(s, -1) == 1
        left = [s.scalars(select(func.count()).select_from(each)).one() for each in (WebhookDelivery, WebhookAttempt)]
    assert left == [0, 0]
