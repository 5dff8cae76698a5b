"""Pause, resume, retry and results that were there already; on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from core.recipe import PRESETS
from jobs import service
from jobs.clock import db_now
from jobs.problem import Problem
from jobs.projects import set_quotas
from jobs.requests import JobRequest
from jobs.scope import DEFAULT_PROJECT
from jobs.settings import Settings
from jobs.tables import Worker
from tests.api.problems import problem
from tests.api.results import finished, publish
from tests.jobs.world import BAD, World


@pytest.fixture(scope="module")
def settings(both_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), database_url=both_url, inspect_wait_s=0)


def alive(world: World, engine: str = "e1", devices: tuple[str, ...] = ("cpu",)) -> None:
    """A worker that was seen just now."""
    with world.db.sessions.begin() as s:
        service.seen(s, "w", devices, engine)


def done_by(world: World, engine: str = "e1", request: JobRequest | None = None) -> tuple[str, str]:
    """(job, artifact) of a job that a worker with this engine finished."""
    job = world.submit(request or world.judged())
    held = world.claim(engine=engine)
    assert held is not None
    assert held.job_id == job.id
    return job.id, publish(world, held)


def again(world: World, job_id: str, **changes: Any) -> dict[str, Any]:
    """A body that asks for what a job asked for."""
    spec = world.job(job_id).spec
    return {"model": spec["model"], "data": spec["data"], "preset": "ladabert-1", **changes}


def test_a_job_is_paused_and_goes_on(client: TestClient, world: World) -> None:
    """Queued: at once. Running: when its holder has let go; nobody takes it meanwhile; no attempt is burnt."""
    job = world.ready().id
    for _ in range(2):
        answer = client.post(f"/v1/jobs/{job}/pause")
        assert (answer.status_code, answer.json()["status"]) == (202, "paused")
    assert world.claim() is None
    for _ in range(2):
        answer = client.post(f"/v1/jobs/{job}/resume")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    held = world.claim()
    assert held is not None
    assert client.post(f"/v1/jobs/{job}/pause").json()["status"] == "pausing"
    assert problem(client.post(f"/v1/jobs/{job}/resume"), 409, "job_not_paused")["retryable"]
    with world.db.sessions.begin() as s:
        assert service.control(s, job, held.fence) == service.Control(cancel=False, pause=True)
        service.release(s, job, held.fence, "drained")
    shown = client.get(f"/v1/jobs/{job}").json()
    assert (shown["status"], shown["attempt"]) == ("paused", 0)
    client.post(f"/v1/jobs/{job}/resume")
    held = world.claim()
    assert held is not None
    publish(world, held)
    for verb in ("pause", "resume"):
        problem(client.post(f"/v1/jobs/{job}/{verb}"), 409, "job_finished")


def test_a_verdict_that_came_while_the_job_was_paused_is_heard_when_it_goes_on(
    client: TestClient, world: World
) -> None:
    """A good one lets it be claimed, a bad one fails it."""
    for verdict, status in ((None, "queued"), (BAD, "failed")):
        job = world.submit().id
        client.post(f"/v1/jobs/{job}/pause")
        world.judge(verdict)
        assert client.get(f"/v1/jobs/{job}").json()["status"] == "paused"
        assert client.post(f"/v1/jobs/{job}/resume").json()["status"] == status
        assert (world.claim() is not None) == (verdict is None)


def test_a_failed_job_is_done_again_as_it_was(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new job that names the old one, with the recipe of then; limits may be wider; a key makes one."""
    request = world.judged().model_copy(update={"name": "n", "metadata": {"k": "v"}, "seed": 7})
    old = world.submit(request).id
    problem(client.post(f"/v1/jobs/{old}/retry"), 409, "job_not_finished")
    held = world.claim()
    assert held is not None
    with world.db.sessions.begin() as s:
        service.fail(s, old, held.fence, Problem.of("timeout", "x"))
    monkeypatch.setitem(PRESETS, "ladabert-1", PRESETS["ladabert-4"].model_copy(update={"name": "ladabert-1"}))
    body = {"limits": {"max_runtime_s": 900}}
    made = [client.post(f"/v1/jobs/{old}/retry", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[1].headers["idempotent-replayed"] == "true"
    before, after = client.get(f"/v1/jobs/{old}").json(), made[0].json()
    assert made[1].json()["id"] == after["id"] != old
    assert made[0].headers["location"] == f"/v1/jobs/{after['id']}"
    assert (after["parent_job_id"], after["status"], after["attempt"]) == (old, "queued", 0)
    assert after["limits"]["max_runtime_s"] == 900
    for same in (
        "name",
        "model",
        "data",
        "task",
        "metric",
        "preset",
        "recipe",
        "target",
        "seed",
        "metadata",
        "outputs",
    ):
        assert after[same] == before[same], same
    other = client.post(f"/v1/jobs/{old}/retry", headers={"Idempotency-Key": "k"})
    problem(other, 422, "idempotency_key_reused")
    assert client.post(f"/v1/jobs/{old}/retry").json()["id"] not in (old, after["id"])
    assert client.delete(f"/v1/jobs/{old}").status_code == 204
    replayed = client.post(f"/v1/jobs/{old}/retry", json=body, headers={"Idempotency-Key": "k"})
    assert replayed.json()["id"] == after["id"]
    problem(client.post(f"/v1/jobs/{old}/retry", headers={"Idempotency-Key": "new"}), 404, "not_found")


def test_what_cannot_be_retried_says_why(client: TestClient, world: World) -> None:
    """A success needs no retry; inputs that were deleted cannot be read again; limits have a legal form."""
    done, _ = finished(world)
    assert "bypass" in problem(client.post(f"/v1/jobs/{done}/retry"), 409, "job_succeeded")["detail"]
    job = world.ready()
    client.post(f"/v1/jobs/{job.id}/cancel")
    problem(client.post(f"/v1/jobs/{job.id}/retry", json={"limits": {"max_runtime_s": -1}}), 422)
    problem(client.post(f"/v1/jobs/{job.id}/retry", json={"seed": 1}), 422, "request_invalid")
    client.delete(f"/v1/models/{job.spec['model']}")
    assert problem(client.post(f"/v1/jobs/{job.id}/retry"), 404, "not_found")["param"] == "/model"


def test_a_result_that_is_there_is_given_at_once(client: TestClient, world: World) -> None:
    """Finished when it is answered: same figures, same files, an artifact of its own that outlives the first job."""
    alive(world)
    first, artifact = done_by(world)
    answer = client.post("/v1/jobs", json=again(world, first, name="second", metadata={"k": "v"}))
    job = answer.json()
    assert (answer.status_code, job["status"], job["cache_hit"], job["cached_from"]) == (201, "succeeded", True, first)
    assert [one["status"] for one in job["status_transitions"]] == ["queued", "succeeded"]
    assert job["status_transitions"][-1]["reason"] == "cache_hit"
    before = client.get(f"/v1/jobs/{first}").json()
    assert before["cache_hit"] is False
    assert job["report"] == before["report"]
    assert job["progress"]["fraction"] == 1.0
    (point,) = job["points"]
    assert point["artifact_id"] != artifact
    assert {**point, "artifact_id": artifact} == before["points"][0]
    assert client.delete(f"/v1/jobs/{first}").status_code == 204
    files = client.get(f"/v1/artifacts/{point['artifact_id']}").json()["files"]
    assert [file["path"] for file in files] == ["model.onnx", "pytorch/config.json"]
    got = client.get(f"/v1/artifacts/{point['artifact_id']}/files/model.onnx")
    assert got.status_code == 200
    assert world.claim() is None


def test_a_result_is_found_by_the_bytes_and_not_by_ids(client: TestClient, world: World) -> None:
    """The same files uploaded again are the same question."""
    alive(world)
    first, _ = done_by(world)
    spec = world.job(first).spec
    sent = client.get(f"/v1/models/{spec['model']}").json()["files"][0]
    with world.db.sessions.begin() as s:
        from jobs.store import Blob

        copy = service.create_model(s, world.scope, None, [service.DeclaredFile(sent["path"])]).id
        service.file_arrived(s, world.scope, copy, sent["path"], Blob(sent["sha256"], sent["size"]), 10**6)
    job = client.post("/v1/jobs", json=again(world, first, model=copy)).json()
    assert (job["cache_hit"], job["model"]) == (True, copy)


def test_a_result_that_is_there_takes_no_place_in_the_queue(client: TestClient, world: World) -> None:
    """Nor minutes: a project at its limit is given it all the same, but for bytes."""
    alive(world)
    first, _ = done_by(world)
    with world.db.sessions.begin() as s:
        set_quotas(s, DEFAULT_PROJECT, {"queued_jobs": 0})
    try:
        assert client.post("/v1/jobs", json=again(world, first)).json()["cache_hit"]
        problem(client.post("/v1/jobs", json=again(world, first, seed=1)))
    finally:
        with world.db.sessions.begin() as s:
            set_quotas(s, DEFAULT_PROJECT, {"queued_jobs": None})


@pytest.mark.parametrize(
    "changes",
    [
        {"cache": "bypass"},
        {"seed": 1},
        {"preset": "ladabert-2"},
        {"target": {"parameter_ratio": 2.6}},
        {"outputs": ["onnx-fp16"]},
        {"resources": {"device": "cuda"}},
        {"dry_run": True},
    ],
    ids=str,
)
def test_another_question_is_computed(client: TestClient, world: World, changes: dict[str, Any]) -> None:
    alive(world, devices=("cpu", "cuda"))
    first, _ = done_by(world)
    job = client.post("/v1/jobs", json=again(world, first, **changes)).json()
    assert (job["status"], job["cache_hit"], job["cached_from"]) == ("queued", False, None)


def test_only_a_result_as_a_living_worker_would_make_it_counts(client: TestClient, world: World) -> None:
    """No worker, another engine, or files that went: computed. Another project's result is never seen."""
    first, artifact = done_by(world)

    def hit() -> bool:
        made = client.post("/v1/jobs", json=again(world, first)).json()
        client.post(f"/v1/jobs/{made['id']}/cancel")  # one that is computed is in nobody's way
        return bool(made["cache_hit"])

    assert not hit()
    alive(world, engine="e2")
    assert not hit()
    alive(world, engine="e1")
    assert hit()
    with world.db.sessions.begin() as s:
        s.execute(update(Worker).values(seen_at=db_now() - 120))
    assert not hit()
    alive(world, engine="e1")
    foreign = world.other()
    theirs = done_by(foreign)[0]
    problem(client.post("/v1/jobs", json=again(foreign, theirs)), 404, "not_found")
    assert hit()
    for row in client.get("/v1/artifacts").json()["data"]:
        assert client.delete(f"/v1/artifacts/{row['id']}").status_code == 204
    assert not hit()
    assert client.get(f"/v1/artifacts/{artifact}").json()["files"] == []
