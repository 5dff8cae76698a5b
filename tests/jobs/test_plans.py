"""A plan stands on an inspection and, where the recipe asks for it, on a profile that one dry run measures for all."""

import pytest
from sqlalchemy import select, update

from core.forecast import Forecast, forecast
from core.profile import Profile as Measured
from core.recipe import Target
from jobs import service
from jobs.finish import fail
from jobs.problem import Problem, Refused
from jobs.requests import PlanRequest
from jobs.states import State
from jobs.store import Blob
from jobs.tables import ModelFile, Profile
from tests.core.test_hasten import minilm, profile
from tests.jobs.world import GOOD, World

VERDICT = {**GOOD, "shape": minilm().model_dump(mode="json")}
MEASURED = profile(minilm(), [1.0, 3.0])
FAST = {"preset": "fast", "ladder": {"latency_ratio": [2.5, 5.0]}}


def asked(world: World, **fields: object) -> PlanRequest:
    """A plan's request on uploads of its own."""
    whole = world.request(**{**FAST, **fields}).model_dump(mode="json")
    return PlanRequest.model_validate({name: whole[name] for name in PlanRequest.model_fields})


def plan(world: World, request: PlanRequest) -> service.Planned:
    with world.db.sessions.begin() as s:
        return service.plan(s, world.scope, request)


def points(found: service.Planned) -> tuple[Forecast, ...]:
    assert found.known is not None
    return found.known.points()


def held_dry_run(world: World, request: PlanRequest) -> service.Claim:
    """The dry run that this plan waits for, at work."""
    plan(world, request)
    world.judge(VERDICT)
    plan(world, request)
    held = world.claim()
    assert held is not None
    return held


def measured(world: World, request: PlanRequest) -> str:
    """Everything that this plan waits for, done; the dry run's id."""
    plan(world, request)
    world.judge(VERDICT)
    making = plan(world, request).making
    assert making is not None
    held = world.claim()
    assert held is not None
    assert held.job_id == making.id
    body = MEASURED.model_dump(mode="json")
    with world.db.sessions.begin() as s:
        assert service.keep_profile(s, held.job_id, held.fence, body)
        assert service.publish(s, held.job_id, held.fence, None, [])
    return making.id


def test_it_waits_for_the_inspection_then_for_the_profile_then_it_is_done(world: World) -> None:
    request = asked(world)
    first = plan(world, request)
    assert (first.making, first.known, first.inspection.state) == (None, None, "queued")
    job = measured(world, request)
    done = plan(world, request)
    assert done.making is None
    expected = [forecast(*request.resolved()[1:2], Target(latency_ratio=r), minilm(), MEASURED) for r in (2.5, 5.0)]
    assert list(points(done)) == expected
    assert all(point.target_met for point in points(done))
    row = world.job(job)
    assert (row.dry_run, row.state, row.report) == (True, State.SUCCEEDED, None)


def test_asking_again_starts_nothing_twice(world: World) -> None:
    request = asked(world)
    plan(world, request)
    world.judge(VERDICT)
    first, second = (plan(world, request).making for _ in range(2))
    other = plan(world, request.model_copy(update={"ladder": None})).making  # another target, the same profile
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.id == second.id == other.id


def test_the_same_bytes_under_other_ids_find_the_profile_and_another_project_does_not(world: World) -> None:
    request = asked(world)
    measured(world, request)
    with world.db.sessions.begin() as s:
        copy = service.create_model(s, world.scope, None, [service.DeclaredFile("model.safetensors")])
        original = s.scalars(select(ModelFile).where(ModelFile.model_id == request.model)).one()
        service.file_arrived(s, world.scope, copy.id, "model.safetensors", Blob(original.sha256 or "", 1), 9)
    other = request.model_copy(update={"model": copy.id})
    plan(world, other)
    world.judge(VERDICT)
    assert points(plan(world, other))
    key, elsewhere = world.submit(world.request(**request.model_dump(mode="json"))).profile_key, world.other()
    with world.db.readers() as s:
        assert service.find_profile(s, world.scope.project_id, key) == MEASURED
        assert service.find_profile(s, elsewhere.scope.project_id, key) is None


def test_a_job_of_the_same_question_gets_the_profile(world: World) -> None:
    request = asked(world)
    measured(world, request)
    world.submit(world.request(**request.model_dump(mode="json")))
    held = world.claim()
    assert held is not None
    with world.db.readers() as s:
        assert service.find_profile(s, held.project_id, held.profile_key) == MEASURED


def test_without_anything_open_no_profile_is_needed(world: World) -> None:
    request = asked(world, preset="ladabert", ladder=None, target={"parameter_ratio": 5})
    plan(world, request)
    world.judge(VERDICT)
    (point,) = points(plan(world, request))
    assert point.parameter_ratio >= 5
    assert point.latency_ms is None
    assert '"auto"' not in point.recipe.model_dump_json()


def test_a_dry_run_that_failed_says_why_and_one_that_was_lost_is_tried_again(world: World) -> None:
    request = asked(world)
    held = held_dry_run(world, request)
    with world.db.sessions.begin() as s:
        assert fail(s, held.job_id, held.fence, Problem.of("worker_lost", "gone", retryable=True))
    again = plan(world, request).making
    assert again is not None
    assert again.id != held.job_id
    held = world.claim()
    assert held is not None
    with world.db.sessions.begin() as s:
        assert fail(s, held.job_id, held.fence, Problem.of("model_invalid", "weights hold NaN"))
    with pytest.raises(Refused, match="NaN"):
        plan(world, request)


def test_a_profile_of_an_older_form_is_measured_again(world: World) -> None:
    request = asked(world)
    measured(world, request)
    with world.db.sessions.begin() as s:
        s.execute(update(Profile).values(body={"curves": "nonsense"}))
    assert plan(world, request).making is not None


def test_deleting_the_model_forgets_its_profiles(world: World) -> None:
    request = asked(world)
    key = world.job(measured(world, request)).profile_key
    with world.db.sessions.begin() as s:
        service.delete_model(s, world.scope, request.model)
        assert service.find_profile(s, world.scope.project_id, key) is None


def test_what_cannot_be_planned_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="parameter_ratio") as refused:
        plan(
            world, asked(world, preset=None, recipe={"steps": [{"method": "obs"}, {"method": "distill"}]}, ladder=None)
        )
    assert refused.value.problem.code == "recipe_invalid"
    empty = forecast(asked(world).resolved()[1], Target(latency_ratio=3), minilm(), MEASURED)
    assert empty.latency_ratio is not None
    assert empty.latency_ratio >= 3
    with pytest.raises(Exception, match="latency table"):
        forecast(asked(world).resolved()[1], Target(latency_ratio=3), minilm(), Measured())


def test_only_the_holder_of_a_job_stores_what_it_measured(world: World) -> None:
    request = asked(world)
    held = held_dry_run(world, request)
    body = MEASURED.model_dump(mode="json")
    with world.db.sessions.begin() as s:
        assert not service.keep_profile(s, held.job_id, held.fence - 1, body)
        assert service.find_profile(s, held.project_id, held.profile_key) is None
        assert service.keep_profile(s, held.job_id, held.fence, body)
        assert service.find_profile(s, held.project_id, held.profile_key) == MEASURED
        other = MEASURED.model_copy(update={"int8": 9.0})  # another machine's, in its place
        assert service.keep_profile(s, held.job_id, held.fence, other.model_dump(mode="json"))
        assert service.find_profile(s, held.project_id, held.profile_key) == other
