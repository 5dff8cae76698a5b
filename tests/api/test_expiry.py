"""What goes by itself, and what is said of it; on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from jobs import expiry, service
from jobs.clock import db_now
from jobs.garbage import sweep
from jobs.local_store import LocalStore
from jobs.requests import PushRequest
from jobs.settings import Settings
from jobs.tables import Artifact, Audit, Dataset, Job, Model
from tests.api.problems import problem
from tests.api.results import finished, publish
from tests.jobs.world import World


@pytest.fixture(scope="module")
def settings(both_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data = tmp_path_factory.mktemp("data")
    return Settings(data_dir=data, database_url=both_url, inspect_wait_s=0, keep_uploads_s=3600)


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def due(world: World) -> None:
    """Let the time of everything that has one come, and the janitor by."""
    with world.db.sessions.begin() as s:
        for table in (Model, Dataset, Artifact):
            s.execute(update(table).where(table.expires_at.is_not(None)).values(expires_at=db_now() - 1))
    with world.db.readers() as s:
        gone = expiry.due(s, 40)
    for one in gone:
        with world.db.sessions.begin() as s:
            assert expiry.let_go(s, one)


def test_an_upload_goes_when_its_time_has_come_and_not_while_a_job_needs_it(client: TestClient, world: World) -> None:
    """The service's own age at first; a later time, or never, where the user says so."""
    csv = {"Content-Type": "text/csv"}
    short, kept = (client.post("/v1/datasets", content=f"text,label\n{n},1\n", headers=csv).json() for n in "ab")
    age = datetime.fromisoformat(short["expires_at"]) - datetime.fromisoformat(short["created_at"])
    assert abs(age.total_seconds() - 3600) < 5
    told = client.patch(f"/v1/datasets/{kept['id']}", json={"expires_at": None})
    assert (told.status_code, told.json()["expires_at"]) == (200, None)
    job = world.ready()
    for path in (f"/v1/models/{job.spec['model']}", f"/v1/datasets/{job.spec['data']['train']}"):
        assert client.patch(path, json={"expires_at": later(hours=1)}).json()["expires_at"] is not None
    due(world)
    problem(client.get(f"/v1/datasets/{short['id']}"), 404, "not_found")
    assert client.get(f"/v1/datasets/{kept['id']}").status_code == 200
    assert client.get(f"/v1/models/{job.spec['model']}").status_code == 200
    client.post(f"/v1/jobs/{job.id}/cancel")
    due(world)
    problem(client.get(f"/v1/models/{job.spec['model']}"), 404, "not_found")
    with world.db.readers() as s:
        gone = s.execute(select(Audit.who, Audit.action, Audit.object).where(Audit.who == expiry.JANITOR)).all()
    assert ("janitor", "dataset.delete", short["id"]) in gone


def test_the_files_of_an_artifact_go_and_its_figures_stay(client: TestClient, world: World) -> None:
    """By time or by DELETE: 410 for a file, nothing to push, the bytes leave the store, the job still has its point."""
    for way in ("time", "delete"):
        job, artifact = finished(world)
        path = f"/v1/artifacts/{artifact}"
        if way == "time":
            assert client.patch(path, json={"expires_at": later(hours=1)}).json()["expired_at"] is None
            due(world)
        else:
            assert client.delete(path).status_code == client.delete(path).status_code == 204
        shown = client.get(path).json()
        assert shown["files"] == []
        assert shown["expired_at"] is not None
        assert client.get(f"/v1/jobs/{job}").json()["points"][0]["retention"] == 0.989
        problem(client.get(f"{path}/files/model.onnx"), 410, "expired")
        problem(client.get(f"{path}/files/other"), 410, "expired")
        problem(client.patch(path, json={"expires_at": None}), 410, "expired")
        with pytest.raises(Exception, match="nothing is left"), world.db.sessions.begin() as s:
            service.request_push(s, world.scope, artifact, PushRequest(registry="hub", to="acme/x"))
        with world.db.readers() as s:
            assert sweep(s, LocalStore(world.settings.store_dir), grace_s=-1) > 0


def test_an_artifact_that_is_being_pushed_keeps_its_files(client: TestClient, world: World) -> None:
    _, artifact = finished(world)
    with world.db.sessions.begin() as s:
        service.request_push(s, world.scope, artifact, PushRequest(registry="hub", to="acme/x"))
    problem(client.delete(f"/v1/artifacts/{artifact}"), 409, "in_use")
    client.patch(f"/v1/artifacts/{artifact}", json={"expires_at": later(hours=1)})
    due(world)
    assert client.get(f"/v1/artifacts/{artifact}/files/model.onnx").status_code == 200


def test_artifacts_are_listed_by_job(client: TestClient, world: World) -> None:
    made = [finished(world) for _ in range(3)][::-1]
    listed = client.get("/v1/artifacts").json()
    assert [one["id"] for one in listed["data"]] == [artifact for _, artifact in made]
    job, artifact = made[1]
    (only,) = client.get(f"/v1/artifacts?job_id={job}").json()["data"]
    assert only == client.get(f"/v1/artifacts/{artifact}").json()
    assert len(only["files"]) == 2
    problem(client.get("/v1/artifacts?job_id=job_x"), 404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"expires_at": "2026-01-01"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": 5e9},
        {"expires_at": "5000000000"},
        {"x": 1},
    ],
    ids=str,
)
def test_a_time_that_is_none_or_has_passed_is_refused(
    client: TestClient, world: World, body: dict[str, object]
) -> None:
    problem(client.patch(f"/v1/models/{world.model()}", json=body), 422, "request_invalid")


def test_chatter_of_old_jobs_goes_and_readers_are_told(client: TestClient, world: World) -> None:
    """State and stage stay, in order; a page lists the gaps, a stream says them, curves shrink to what is left."""
    held = world.claimed()
    told = [("stage", {"stage": "distill"})]
    told += [("metric", {"name": "loss", "value": 1.0 / n, "step": n}) for n in range(1, 4)]
    with world.db.sessions.begin() as s:
        service.record(s, held.job_id, held.fence, told)
    path = f"/v1/jobs/{held.job_id}"
    (curve,) = client.get(f"{path}/metrics").json()["data"]
    assert (curve["name"], [point["step"] for point in curve["points"]]) == ("loss", [1, 2, 3])
    assert client.get(f"{path}/metrics?name=other").json()["data"] == []
    publish(world, held)
    whole = client.get(f"{path}/events").json()
    assert whole["gaps"] == []
    with world.db.sessions.begin() as s:
        assert expiry.forget_chatter(s, 60) == 0
        s.execute(update(Job).values(finished_at=db_now() - 61))
        assert expiry.forget_chatter(s, 60) == 3
    page = client.get(f"{path}/events").json()
    assert page["data"] == [event for event in whole["data"] if event["type"] != "metric"]
    missing = [event["seq"] for event in whole["data"] if event["type"] == "metric"]
    assert page["gaps"] == [{"first": missing[0], "last": missing[-1]}]
    stream = client.get(f"{path}/events", headers={"Accept": "text/event-stream"}).text
    blocks = [block.splitlines() for block in stream.split("\n\n") if "event: gap" in block]
    said = [line.removeprefix("data: ") for block in blocks for line in block if line.startswith("data: ")]
    assert [json.loads(one) for one in said] == page["gaps"]
    assert client.get(f"{path}/metrics").json()["data"] == []
