"""POST /v1/plans: 202 while something is found out, 200 with every point, refusals as of a job."""

from typing import Any

from fastapi.testclient import TestClient

from jobs import service
from jobs.scope import Scope
from tests.api.conftest import database_of
from tests.jobs.test_plans import MEASURED, VERDICT

LENGTHS = {
    "train": {"sampled": 9, "mean": 20.0, "p50": 20, "p90": 30, "p99": 30, "longest": 30, "max_tokens": 512, "cut": 0}
}


def inputs(client: TestClient) -> dict[str, Any]:
    model = client.post("/v1/models", json={"files": [{"path": "config.json"}]}).json()["id"]
    client.put(f"/v1/models/{model}/files/config.json", content=b"{}")
    rows = [
        client.post("/v1/datasets", content=text, headers={"content-type": "text/csv"}).json()["id"]
        for text in (b"text,label\na,b\n", b"text,label\nc,d\n")
    ]
    return {"model": model, "data": dict(zip(("train", "eval"), rows, strict=True))}


def test_from_nothing_to_the_points(client: TestClient) -> None:
    body = {**inputs(client), "preset": "fast", "ladder": {"latency_ratio": [2.5, 5]}}
    first = client.post("/v1/plans", json=body)
    assert (first.status_code, first.json()["status"]) == (202, "inspecting")
    database = database_of(client)
    with database.sessions.begin() as s:
        held = service.claim_inspection(s, "test", 60)
        assert held is not None
        service.finish_inspection(s, held.inspection_id, held.fence, {**VERDICT, "lengths": LENGTHS})
    second = client.post("/v1/plans", json=body)
    assert (second.status_code, second.json()["status"]) == (202, "profiling")
    assert first.json()["estimate"] is None
    assert second.json()["estimate"]["cpu_s"] > 45
    job = client.get(f"/v1/jobs/{second.json()['job_id']}").json()
    assert job["dry_run"]
    with database.sessions.begin() as s:
        claim = service.claim(s, "test", 60)
        assert claim is not None
        service.keep_profile(s, claim.job_id, claim.fence, MEASURED.model_dump(mode="json"))
        service.publish(s, claim.job_id, claim.fence, None, [])
    done = client.post("/v1/plans", json=body)
    assert (done.status_code, done.json()["status"]) == (200, "done")
    assert [point["target"] for point in done.json()["points"]] == [{"latency_ratio": 2.5}, {"latency_ratio": 5.0}]
    assert all(point["latency_ratio"] >= point["target"]["latency_ratio"] for point in done.json()["points"])
    ended = client.get(f"/v1/jobs/{claim.job_id}").json()
    assert (ended["status"], ended["points"], ended["report"], ended["target_met"]) == ("succeeded", [], None, None)


def test_refusals_name_the_field(client: TestClient) -> None:
    body = inputs(client)
    steps = [{"method": "structured"}, {"method": "weighted_svd"}, {"method": "distill"}]
    cases = [
        ({**body, "preset": "fast", "target": {"latency_ratio": 0.5}}, "/target/latency_ratio"),
        ({**body, "preset": "fast", "ladder": {"latency_ratio": [4, 2]}}, "/ladder"),
        ({**body, "recipe": {"steps": steps}}, "/target"),
        ({**body, "preset": "fast", "metadata": {}}, "/metadata"),
        ({**body, "model": "model_absent", "preset": "fast"}, "/model"),
    ]
    for given, param in cases:
        answer = client.post("/v1/plans", json=given)
        assert answer.status_code in (404, 422), answer.text
        problem = answer.json()
        assert problem["param"] == param or any(one["param"] == param for one in problem["errors"]), (param, problem)


def test_another_project_finds_nothing(client: TestClient) -> None:
    body = {**inputs(client), "preset": "fast"}
    with database_of(client).sessions.begin() as s:
        assert service.find_profile(s, Scope().project_id, "0" * 64) is None
    assert client.post("/v1/plans", json={**body, "model": "model_" + "0" * 26}).status_code == 404
