"""Jobs over HTTP, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from jobs import service
from jobs.problem import Problem
from jobs.settings import Settings
from jobs.tables import Job
from tests.api.conftest import local
from tests.api.problems import problem
from tests.api.results import finished, inspector, point, publish
from tests.jobs.world import BAD, World


@pytest.fixture(scope="module")
def settings(both_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Patient enough for an inspector in a thread."""
    return Settings(data_dir=tmp_path_factory.mktemp("data"), database_url=both_url, inspect_wait_s=10)


@pytest.fixture(scope="module")
def hasty(settings: Settings) -> Iterator[TestClient]:
    """An app that does not wait for verdicts."""
    with local(settings.model_copy(update={"inspect_wait_s": 0})) as client:
        yield client


def body(world: World, **fields: Any) -> dict[str, Any]:
    """A request on fresh uploads."""
    return {
        "model": world.model(),
        "data": {"train": world.dataset(), "eval": world.dataset()},
        "preset": "ladabert-1",
        **fields,
    }


def rows(world: World, table: type[Any]) -> int:
    with world.db.readers() as s:
        return s.scalars(select(func.count()).select_from(table)).one()


def test_a_job_that_is_judged_in_time_may_be_claimed_when_the_answer_comes(client: TestClient, world: World) -> None:
    """201, Location, the job as GET gives it, and a worker that looks now finds it."""
    with inspector(world):
        answer = client.post("/v1/jobs", json=body(world, name="n", seed=3, metadata={"k": "v"}, outputs=["openvino"]))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{made['id']}"
    assert client.get(answer.headers["location"]).json() == made
    assert (made["object"], made["status"], made["stage"]) == ("job", "queued", None)
    assert made["outputs"] == ["openvino"]
    assert (made["name"], made["seed"], made["metadata"]) == ("n", 3, {"k": "v"})
    assert (made["preset"], made["target"]["parameter_ratio"]) == ("ladabert-1", 2.5)
    assert [step["method"] for step in made["recipe"]["steps"]] == ["svd", "magnitude", "distill"]
    assert (made["error"], made["report"], made["target_met"], made["points"]) == (None, None, None, [])
    assert datetime.fromisoformat(made["created_at"]).utcoffset() is not None
    held = world.claim()
    assert held is not None
    assert held.job_id == made["id"]


def test_a_job_whose_inspection_is_slow_is_queued_in_stage_inspecting(hasty: TestClient, world: World) -> None:
    """201 at once; a bad verdict that comes later fails it with the problem that would have been the 422."""
    answer = hasty.post("/v1/jobs", json=body(world))
    assert (answer.status_code, answer.json()["stage"]) == (201, "inspecting")
    assert world.claim() is None
    world.judge(BAD)
    job = hasty.get(answer.headers["location"]).json()
    assert job["status"] == "failed"
    assert job["status_transitions"][-1]["reason"] == "inspection_failed"
    assert (job["error"]["code"], job["error"]["param"]) == ("data_invalid", "/data/train")
    again = hasty.post("/v1/jobs", json={**_inputs(job), "preset": "ladabert-1"})
    refused = problem(again, 422, "data_invalid")
    same = ("type", "title", "status", "detail", "code", "param", "errors", "retryable")
    assert {name: refused[name] for name in same} == {name: job["error"][name] for name in same}


def test_a_bad_verdict_in_time_is_a_422_and_leaves_no_job(client: TestClient, world: World) -> None:
    """The caller sees what the inspection found, where, and there is nothing to clean up."""
    request = body(world)
    with inspector(world, BAD):
        found = problem(client.post("/v1/jobs", json=request), 422, "data_invalid")
    assert found["param"] == "/data/train"
    assert "row 3" in found["detail"]
    assert rows(world, Job) == 0


def test_an_impossible_target_is_a_422_and_leaves_no_job(client: TestClient, world: World) -> None:
    """A ratio that no setting reaches on this model is found by planning on its shape."""
    with inspector(world):
        answer = client.post("/v1/jobs", json=body(world, target={"parameter_ratio": 900}))
    assert problem(answer, 422)["param"].startswith("/target")
    assert rows(world, Job) == 0


def _inputs(job: dict[str, Any]) -> dict[str, Any]:
    return {"model": job["model"], "data": job["data"]}


def test_inputs_that_are_not_there_are_404_and_unfinished_ones_409(hasty: TestClient, world: World) -> None:
    """The pointer says which of them."""
    with world.db.sessions.begin() as s:
        unfinished = service.create_model(s, world.scope, None, [service.DeclaredFile("config.json")]).id
    request = body(world)
    found = problem(hasty.post("/v1/jobs", json={**request, "model": "model_x"}), 404, "not_found")
    assert found["param"] == "/model"
    data = {**request["data"], "eval": "data_x"}
    found = problem(hasty.post("/v1/jobs", json={**request, "data": data}), 404, "not_found")
    assert found["param"] == "/data/eval"
    problem(hasty.post("/v1/jobs", json={**request, "model": unfinished}), 409, "model_not_ready")
    assert rows(world, Job) == 0


def test_the_same_idempotency_key_gives_the_same_job_also_under_a_race(hasty: TestClient, world: World) -> None:
    """One job for eight callers at once; another body under the key is refused."""
    request = body(world)
    headers = {"Idempotency-Key": "k-1"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: hasty.post("/v1/jobs", json=request, headers=headers), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert rows(world, Job) == 1
    replayed = hasty.post("/v1/jobs", json=request, headers=headers)
    assert replayed.headers["idempotent-replayed"] == "true"
    problem(hasty.post("/v1/jobs", json={**request, "seed": 1}, headers=headers), 422, "idempotency_key_reused")
    assert rows(world, Job) == 1
    assert hasty.post("/v1/jobs", json=request, headers={"Idempotency-Key": "k-2"}).json()["id"] not in {
        answers[0].json()["id"]
    }


def test_lists_walk_through_all_jobs_newest_first_without_a_gap(hasty: TestClient, world: World) -> None:
    """Pages by cursor: new jobs that come in between move nothing."""
    ids = [world.ready().id for _ in range(5)]
    seen: list[str] = []
    url = "/v1/jobs?limit=2"
    while True:
        page = hasty.get(url).json()
        seen += [job["id"] for job in page["data"]]
        assert (page["object"], page["first_id"], page["last_id"]) == ("list", page["data"][0]["id"], seen[-1])
        if not page["has_more"]:
            break
        world.ready()
        url = f"/v1/jobs?limit=2&after={page['last_id']}"
    assert seen == sorted(ids, reverse=True)
    hasty.post(f"/v1/jobs/{ids[0]}/cancel")
    assert [job["id"] for job in hasty.get("/v1/jobs?status=cancelled").json()["data"]] == [ids[0]]
    problem(hasty.get("/v1/jobs?status=done"), 422, "request_invalid")


def test_a_finished_job_shows_its_history_its_points_and_its_report(hasty: TestClient, world: World) -> None:
    """Stages with their seconds, the target, and where to fetch the files."""
    held = world.claimed()
    with world.db.sessions.begin() as s:
        service.record(s, held.job_id, held.fence, [("stage", {"stage": "distill"})])
        service.record(
            s, held.job_id, held.fence, [("progress", {"stage": "distill", "fraction": 0.5, "step": 1, "steps": 2})]
        )
    running = hasty.get(f"/v1/jobs/{held.job_id}").json()
    assert (running["status"], running["stage"], running["attempt"]) == ("running", "distill", 1)
    assert (running["progress"]["fraction"], running["stalled"]) == (0.5, False)
    artifact = publish(world, held, point(target_met=False, shortfall={"parameter_ratio": 2.4}))
    job = hasty.get(f"/v1/jobs/{held.job_id}").json()
    assert (job["status"], job["stage"], job["progress"]["fraction"]) == ("succeeded", None, 1.0)
    assert [one["status"] for one in job["status_transitions"]] == ["queued", "running", "succeeded"]
    assert set(job["stage_seconds"]) == {"fetch", "distill"}
    assert min(job["stage_seconds"].values()) >= 0
    assert job["target_met"] is False
    (delivered,) = job["points"]
    assert (delivered["artifact_id"], delivered["shortfall"]) == (artifact, {"parameter_ratio": 2.4})
    assert job["report"]["stages"][0]["name"] == "distill"
    assert hasty.get(f"/v1/artifacts/{artifact}").json()["job_id"] == job["id"]


def test_a_silent_worker_is_shown_as_stalled(hasty: TestClient, world: World) -> None:
    """The job still runs by the table; the reader is told that nothing has been heard."""
    held = world.claimed()
    world.set(held.job_id, heartbeat_at=Job.heartbeat_at - world.settings.lease_s * 0.6)
    assert hasty.get(f"/v1/jobs/{held.job_id}").json()["stalled"] is True


def test_cancel_is_202_and_may_be_said_twice(hasty: TestClient, world: World) -> None:
    """Queued: cancelled at once. Running: cancelling until its processes are gone. Ended: 409."""
    queued = world.ready().id
    for _ in range(2):
        answer = hasty.post(f"/v1/jobs/{queued}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    held = world.claimed()
    for _ in range(2):
        answer = hasty.post(f"/v1/jobs/{held.job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    done, _ = finished(world)
    problem(hasty.post(f"/v1/jobs/{done}/cancel"), 409, "job_finished")


def test_deleting_waits_for_the_end_and_keeps_what_is_needed(hasty: TestClient, world: World) -> None:
    """409 while a job runs, for the job and for its inputs; 204 after, and then nothing is found."""
    held = world.claimed()
    job = hasty.get(f"/v1/jobs/{held.job_id}").json()
    problem(hasty.delete(f"/v1/jobs/{held.job_id}"), 409, "job_not_finished")
    problem(hasty.delete(f"/v1/models/{job['model']}"), 409, "in_use")
    problem(hasty.delete(f"/v1/datasets/{job['data']['train']}"), 409, "in_use")
    artifact = publish(world, held)
    for path in (
        f"/v1/models/{job['model']}",
        f"/v1/datasets/{job['data']['train']}",
        f"/v1/jobs/{held.job_id}",
    ):
        answer = hasty.delete(path)
        assert (answer.status_code, answer.content) == (204, b""), answer.text
        problem(hasty.get(path), 404, "not_found")
        problem(hasty.delete(path), 404, "not_found")
    problem(hasty.get(f"/v1/artifacts/{artifact}"), 404, "not_found")


def test_a_failed_job_carries_its_problem(hasty: TestClient, world: World) -> None:
    """The same object that a refusal would be, with the stage where it happened."""
    held = world.claimed()
    with world.db.sessions.begin() as s:
        assert service.fail(s, held.job_id, held.fence, Problem.of("training_diverged", "the loss became NaN"))
    job = hasty.get(f"/v1/jobs/{held.job_id}").json()
    assert Problem.model_validate(job["error"]).stage == "fetch"
    assert (job["status"], job["error"]["code"], job["target_met"]) == ("failed", "training_diverged", None)


def test_an_inspection_answers_202_until_it_is_done_and_200_after(
    client: TestClient, hasty: TestClient, world: World
) -> None:
    """The verdict is kept: asking again gives the same one, bad ones too."""
    request = {name: value for name, value in body(world).items() if name != "preset"}
    waiting = hasty.post("/v1/inspections", json=request)
    assert (waiting.status_code, waiting.json()["status"], waiting.json()["ok"]) == (202, "queued", None)
    with inspector(world):
        done = client.post("/v1/inspections", json=request)
    assert (done.status_code, done.json()["ok"], done.json()["rows"]) == (200, True, {"train": 9, "eval": 3})
    assert client.get(done.headers["location"]).json() == done.json()
    assert done.json()["id"] == waiting.json()["id"]
    bad = {**request, "metric": "mcc"}
    with inspector(world, BAD):
        refused = client.post("/v1/inspections", json=bad)
    assert (refused.status_code, refused.json()["ok"]) == (200, False)
    assert refused.json()["error"]["param"] == "/data/train"
    assert hasty.post("/v1/inspections", json=bad).json() == refused.json()
