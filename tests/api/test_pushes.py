"""Pushes over HTTP: what is asked for, what is told, and that a request holds a name where an address could stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from jobs import service
from jobs.problem import Problem
from jobs.settings import Settings
from jobs.tables import Artifact, Push
from tests.api.conftest import copy_of
from tests.api.problems import problem
from tests.api.results import finished
from tests.jobs.world import World

FILE = """
[hub]
kind = "huggingface"
url = "https://hub.example"
token_file = "/absent/token"
prefixes = ["acme/"]

[theirs]
kind = "mlflow"
url = "http://mlflow.example:5000"
projects = ["proj_11111111111111111111111111"]
"""
ASKED = {"registry": "hub", "to": "acme/small"}


@pytest.fixture(scope="module")
def settings(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("data")
    (folder / "registries.toml").write_text(FILE)
    url = copy_of(sqlite_template, tmp_path_factory)
    return Settings(data_dir=folder, database_url=url, registries_file=folder / "registries.toml", inspect_wait_s=0)


def test_a_push_is_made_polled_listed_and_forgotten(client: TestClient, world: World) -> None:
    """The api opens no token: the file that is named does not even exist."""
    _, artifact = finished(world)
    made = client.post(f"/v1/artifacts/{artifact}/push", json={**ASKED, "revision": "v1"})
    assert made.status_code == 201, made.text
    push = made.json()
    assert made.headers["location"] == f"/v1/pushes/{push['id']}"
    assert push == {
        **ASKED, "id": push["id"], "object": "push", "artifact_id": artifact, "revision": "v1", "alias": None,
        "status": "queued", "attempt": 0, "result": None, "error": None, "created_at": push["created_at"],
        "finished_at": None,
    }  # fmt: skip
    again = client.post(f"/v1/artifacts/{artifact}/push", json={**ASKED, "revision": "v1"})
    assert (again.status_code, again.json()) == (200, push)
    assert client.get(f"/v1/pushes/{push['id']}").json() == push
    assert client.get(f"/v1/pushes?artifact_id={artifact}").json()["data"] == [push]
    assert client.delete(f"/v1/pushes/{push['id']}").status_code == 204
    problem(client.get(f"/v1/pushes/{push['id']}"), 404, "not_found")
    assert client.get("/v1/pushes").json()["data"] == []


def test_a_push_tells_its_problem_and_its_result(client: TestClient, world: World) -> None:
    _, artifact = finished(world)
    push = client.post(f"/v1/artifacts/{artifact}/push", json=ASKED).json()["id"]
    for outcome in (Problem.of("registry_unreachable", "503", retryable=True), {"url": "u", "unchanged": True}):
        with world.db.sessions.begin() as s:
            held = service.claim_push(s, "test", 60, 3600)
            assert held is not None
            if isinstance(outcome, dict):
                done = {"commit": None, "version": "3", **outcome}
                assert service.finish_push(s, push, held.fence, done)
            else:
                assert service.fail_push(s, push, held.fence, outcome, retry_s=1e-9, give_up_s=60)
        seen = client.get(f"/v1/pushes/{push}").json()
        if isinstance(outcome, Problem):
            assert (seen["status"], seen["attempt"]) == ("queued", 1)
            assert seen["error"]["code"] == "registry_unreachable"
        else:
            assert (seen["status"], seen["error"], seen["result"]) == ("succeeded", None, done)


def test_registries_of_other_projects_are_not_there(client: TestClient, world: World) -> None:
    (only,) = client.get("/v1/registries").json()["data"]
    assert only == {
        "name": "hub", "object": "registry", "kind": "huggingface", "url": "https://hub.example", "prefixes": ["acme/"],
    }  # fmt: skip
    _, artifact = finished(world)
    for name in ("theirs", "absent"):
        said = problem(
            client.post(f"/v1/artifacts/{artifact}/push", json={"registry": name, "to": "x"}), 422, "registry_unknown"
        )
        assert (said["param"], said["detail"].rpartition("legal: ")[2]) == ("/registry", "hub")


@pytest.mark.parametrize(
    "body",
    [
        {"registry": "https://169.254.169.254/", "to": "acme/x"},
        {**ASKED, "url": "http://127.0.0.1:1"},
        {**ASKED, "token": "mine"},
        {**ASKED, "to": "evil/small"},
        {**ASKED, "alias": "champion"},
        {"registry": "hub"},
    ],
)
def test_no_address_no_token_and_no_foreign_name_gets_in(
    client: TestClient, world: World, body: dict[str, str]
) -> None:
    _, artifact = finished(world)
    problem(client.post(f"/v1/artifacts/{artifact}/push", json=body), 422)
    with world.db.readers() as s:
        assert s.scalars(select(func.count()).select_from(Push)).one() == 0
        assert s.scalars(select(func.count()).select_from(Artifact)).one() == 1


def test_a_job_names_its_registry_when_it_is_submitted(client: TestClient, world: World) -> None:
    """A name that is refused later would cost the whole job's time."""
    asked = world.judged().model_dump(mode="json", exclude={"recipe"})
    made = client.post("/v1/jobs", json={**asked, "push": ASKED})
    assert made.status_code == 201, made.text
    assert made.json()["push"] == {**ASKED, "revision": None, "alias": None}
    for push, code, param in (
        ({**ASKED, "registry": "theirs"}, "registry_unknown", "/push/registry"),
        ({**ASKED, "to": "evil/x"}, "request_invalid", "/push/to"),
    ):
        assert problem(client.post("/v1/jobs", json={**asked, "push": push}), 422, code)["param"] == param
