"""Submitting: validated, planned, written once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from core.recipe import Ladder
from jobs import service
from jobs.problem import Refused
from jobs.requests import JobRequest
from jobs.states import State
from jobs.tables import Inspection, Job
from tests.jobs.world import BAD, GOOD, World


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return str(caught.value.problem.code)


def count(world: World, table: type[Any]) -> int:
    with world.db.readers() as s:
        return s.scalars(select(func.count()).select_from(table)).one()


def test_a_job_without_a_verdict_waits_for_its_inspection(world: World) -> None:
    """Not claimable, stage inspecting; the good verdict lets it go."""
    job = world.submit()
    assert (job.state, job.stage, job.claimable) == (State.QUEUED, "inspecting", False)
    assert world.claim() is None
    world.judge()
    held = world.claim()
    assert held is not None
    assert (held.job_id, held.fence, held.attempt) == (job.id, 1, 1)


def test_the_spec_is_the_request_with_recipe_and_target_of_the_preset(world: World) -> None:
    """What a worker needs is in the row: no preset is looked up again later."""
    job = world.submit(world.request(preset="ladabert-2", target={"min_retention": 0.9}, seed=7, outputs=["openvino"]))
    assert job.spec["preset"] == "ladabert-2"
    assert job.spec["target"] == {"parameter_ratio": 3.3, "min_retention": 0.9}
    assert [step["method"] for step in job.spec["recipe"]["steps"]] == ["svd", "magnitude", "distill"]
    assert job.spec["recipe"]["steps"][0]["keep"] == "auto"
    assert job.spec["seed"] == 7
    assert job.spec["outputs"] == ["openvino"]


def test_neither_preset_nor_recipe_means_hybrid(world: World) -> None:
    request = world.request()
    assert JobRequest(model=request.model, data=request.data).resolved()[0] == "hybrid"


def test_every_rung_of_a_ladder_is_planned_and_the_impossible_one_is_named(world: World) -> None:
    fine = world.judged().model_copy(update={"ladder": Ladder(parameter_ratio=(1.5, 2.0))})
    assert _given(world.submit(fine).spec["ladder"]) == {"parameter_ratio": [1.5, 2.0]}
    steep = fine.model_copy(update={"ladder": Ladder(parameter_ratio=(1.5, 900.0))})
    with pytest.raises(Refused) as caught:
        world.submit(steep)
    assert (caught.value.problem.code, caught.value.problem.param) == ("target_impossible", "/ladder/parameter_ratio")


def test_a_ladder_stands_in_for_the_size_that_auto_needs(world: World) -> None:
    recipe = {"steps": [{"method": "svd"}]}
    with pytest.raises(Refused):
        world.submit(world.request(preset=None, recipe=recipe))
    world.submit(world.request(preset=None, recipe=recipe, ladder={"bytes_ratio": [1.2, 1.5]}))


@pytest.mark.parametrize(
    "ladder",
    [
        {"parameter_ratio": [5, 2]},
        {"parameter_ratio": [2, 2]},
        {"parameter_ratio": []},
        {"bytes_ratio": [0.5]},
        {"parameter_ratio": [2], "bytes_ratio": [2]},
    ],
)
def test_a_ladder_has_one_axis_that_rises(world: World, ladder: dict[str, list[float]]) -> None:
    with pytest.raises(ValidationError):
        world.request(ladder=ladder)


def test_both_preset_and_recipe_are_refused(world: World) -> None:
    recipe = {"steps": [{"method": "svd", "keep": 0.5}]}
    with pytest.raises(ValidationError, match="not both"):
        world.request(recipe=recipe)


def test_a_bad_verdict_fails_the_waiting_job_with_the_problem_of_a_later_submit(world: World) -> None:
    """One inspection serves both, and both users of it read the same words."""
    request = world.request()
    waiting = world.submit(request)
    world.judge(BAD)
    failed = world.job(waiting.id)
    assert failed.state is State.FAILED
    assert failed.error is not None
    with pytest.raises(Refused) as caught:
        world.submit(request)
    problem = caught.value.problem
    assert (problem.status, problem.code, problem.param) == (422, "data_invalid", "/data/train")
    assert failed.error == {**problem.as_dict(), "stage": "inspecting"}
    assert world.events(waiting.id)[-1].data["reason"] == "inspection_failed"
    assert count(world, Inspection) == 1
    assert count(world, Job) == 1


def test_a_target_beyond_the_model_is_refused_by_the_stored_shape(world: World) -> None:
    """No worker is asked, and no job is left."""
    request = world.judged()
    impossible = JobRequest.model_validate({**request.model_dump(), "target": {"parameter_ratio": 900}})
    assert code_of(world.submit, impossible) == "target_impossible"
    assert count(world, Job) == 0


def test_a_target_beyond_the_model_fails_the_waiting_job_when_the_verdict_comes(world: World) -> None:
    job = world.submit(world.request(target={"parameter_ratio": 900}))
    world.judge(GOOD)
    failed = world.job(job.id)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "target_impossible"
    assert failed.error["param"] == "/target/parameter_ratio"


def test_auto_without_a_size_is_refused_before_anything_runs(world: World) -> None:
    recipe = {"steps": [{"method": "svd"}, {"method": "distill"}]}
    request = world.request(preset=None, recipe=recipe, target={"min_retention": 0.9})
    assert code_of(world.submit, request) == "recipe_invalid"
    assert count(world, Inspection) == 0


def test_one_inspection_serves_every_recipe_and_target(world: World) -> None:
    """The key holds model, data, columns, task and metric, and nothing else."""
    first = world.request()
    world.submit(first)
    for fields in ({"preset": "ladabert-3"}, {"target": {"bytes_ratio": 3.0}}, {"seed": 5}, {"name": "again"}):
        world.submit(JobRequest.model_validate({**first.model_dump(), **fields}))
    assert count(world, Inspection) == 1
    for fields in ({"metric": "f1"}, {"data": {**first.data.model_dump(), "columns": {"text": "body"}}}):
        world.submit(JobRequest.model_validate({**first.model_dump(), **fields}))
    assert count(world, Inspection) == 3


def test_a_verdict_that_may_change_is_asked_for_again(world: World) -> None:
    """A lost worker says nothing about the data."""
    request = world.request()
    world.submit(request)
    world.judge({**BAD, "error": {**BAD["error"], "code": "worker_lost", "retryable": True}})
    again = world.submit(request)
    assert again.state is State.QUEUED
    world.judge(GOOD)
    assert world.claim() is not None


def test_an_unfinished_model_is_no_input(world: World) -> None:
    with world.db.sessions.begin() as s:
        model = service.create_model(s, world.scope, None, [service.DeclaredFile("config.json")]).id
    request = world.request(model=model, data={"train": world.dataset(), "eval": world.dataset()})
    assert code_of(world.submit, request) == "model_not_ready"


def test_the_same_key_and_body_is_the_same_job(world: World) -> None:
    request = world.request()
    assert world.submit(request, "k").id == world.submit(request, "k").id
    assert world.submit(request, "other").id != world.submit(request, "k").id
    assert world.submit(request).id != world.submit(request).id


def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    request = world.request()
    world.submit(request, "k")
    other = JobRequest.model_validate({**request.model_dump(), "seed": 1})
    assert code_of(world.submit, other, "k") == "idempotency_key_reused"


def test_two_projects_may_use_the_same_key(world: World) -> None:
    assert world.submit(key="k").id != world.other().submit(key="k").id


def test_a_race_for_one_key_makes_one_job(world: World) -> None:
    """Eight threads, each with a session of its own, on inputs nobody has inspected."""
    request = world.request()
    with ThreadPoolExecutor(8) as pool:
        ids = {job.id for job in pool.map(lambda _: world.submit(request, "k"), range(16))}
    assert len(ids) == 1
    assert count(world, Job) == 1
    assert count(world, Inspection) == 1


def _given(ladder: dict[str, object]) -> dict[str, object]:
    return {name: values for name, values in ladder.items() if values is not None}
