"""Keys, usage and the audit log over HTTP: what a project's admin can do without the operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from jobs.keys import create_key
from jobs.projects import set_quotas
from jobs.scope import DEFAULT_PROJECT, SCOPES, Scope
from jobs.settings import QUOTAS, Settings
from jobs.tables import ApiKey
from tests.api.conftest import copy_of, database_of, empty, local
from tests.api.problems import problem
from tests.api.results import finished
from tests.jobs.world import World


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def keyed(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Settings]]:
    """A service of its own for the tests that make keys: an app that has seen one never forgets it."""
    url = copy_of(sqlite_template, tmp_path_factory)
    settings = Settings(data_dir=tmp_path_factory.mktemp("keyed"), database_url=url, inspect_wait_s=0)
    with local(settings) as client:
        yield client, settings


@pytest.fixture
def admin(keyed: tuple[TestClient, Settings]) -> tuple[TestClient, dict[str, str]]:
    """A service with one key, of an admin who may do nothing else."""
    client, settings = keyed
    empty(database_of(client), settings)
    with database_of(client).sessions.begin() as s:
        token = create_key(s, Scope(), "admin", ["admin"])[1]
    return client, bearer(token)


def status(client: TestClient, token: str) -> int:
    return client.get("/v1/me", headers=bearer(token)).status_code


def test_a_key_is_made_shown_once_listed_and_revoked(admin: tuple[TestClient, dict[str, str]]) -> None:
    client, key = admin
    made = client.post("/v1/api_keys", json={"name": "ci", "scopes": ["jobs:write", "read"]}, headers=key)
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    body = made.json()
    token = body.pop("token")
    assert made.headers["location"] == f"/v1/api_keys/{body['id']}"
    assert (body["scopes"], body["expires_at"], body["last_used_at"]) == (["read", "jobs:write"], None, None)
    assert client.get(f"/v1/api_keys/{body['id']}", headers=key).json() == body
    me = client.get("/v1/me", headers=bearer(token)).json()
    assert (me["who"], me["project_name"], me["quotas"]) == (body["id"], "default", dict.fromkeys(QUOTAS))
    listed = client.get("/v1/api_keys", headers=key)
    assert [one["name"] for one in listed.json()["data"]] == ["ci", "admin"]
    assert listed.json()["data"][0]["last_used_at"] is not None
    assert token.rpartition("_")[2] not in listed.text
    for _ in range(2):
        assert client.delete(f"/v1/api_keys/{body['id']}", headers=key).status_code == 204
    assert status(client, token) == 401
    assert client.get(f"/v1/api_keys/{body['id']}", headers=key).json()["revoked_at"] is not None
    problem(client.post(f"/v1/api_keys/{body['id']}/rotate", json={}, headers=key), 409, "key_ended")
    actions = [one["action"] for one in client.get("/v1/audit?action=key", headers=key).json()["data"]]
    assert actions == ["key.revoke", "key.create", "key.create"]


def test_a_rotated_key_has_two_secrets_until_the_grace_ends(admin: tuple[TestClient, dict[str, str]]) -> None:
    """Then one; and with no grace the old one is out at once."""
    client, key = admin
    made = client.post("/v1/api_keys", json={"name": "ci"}, headers=key).json()
    url, first = f"/v1/api_keys/{made['id']}", made["token"]
    second = client.post(f"{url}/rotate", json={"grace_s": 3600}, headers=key).json()["token"]
    assert (status(client, first), status(client, second)) == (200, 200)
    third = client.post(f"{url}/rotate", json={}, headers=key).json()["token"]
    assert [status(client, each) for each in (first, second, third)] == [401, 200, 200]
    with database_of(client).sessions.begin() as s:
        s.execute(update(ApiKey).where(ApiKey.id == made["id"]).values(previous_until=1.0))
    assert [status(client, each) for each in (second, third)] == [401, 200]
    fourth = client.post(f"{url}/rotate", json={"grace_s": 0}, headers=key).json()["token"]
    assert [status(client, each) for each in (third, fourth)] == [401, 200]


def test_a_key_ends_when_it_was_to_end(admin: tuple[TestClient, dict[str, str]]) -> None:
    client, key = admin
    soon = datetime.now(UTC) + timedelta(days=1)
    made = client.post("/v1/api_keys", json={"name": "x", "expires_at": soon.isoformat()}, headers=key).json()
    assert datetime.fromisoformat(made["expires_at"]) == soon
    assert status(client, made["token"]) == 200
    with database_of(client).sessions.begin() as s:
        s.execute(update(ApiKey).where(ApiKey.id == made["id"]).values(expires_at=1.0))
    assert status(client, made["token"]) == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x", "scopes": []}, "/scopes"),
        ({"name": "x", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"name": "x", "expires_at": "2101-01-01T00:00:00"}, "/expires_at"),
        ({"name": "x", "expires_at": 4e9}, "/expires_at"),
        ({"name": "x", "project_id": "proj_x"}, "/project_id"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(
    admin: tuple[TestClient, dict[str, str]], body: dict[str, object], param: str
) -> None:
    client, key = admin
    said = problem(client.post("/v1/api_keys", json=body, headers=key), 422)
    assert said["param"] == param


def test_nobody_but_an_admin_sees_keys_or_the_log(admin: tuple[TestClient, dict[str, str]]) -> None:
    """Not even with every other scope."""
    client, _ = admin
    with database_of(client).sessions.begin() as s:
        token = create_key(s, Scope(), "k", [one for one in SCOPES if one != "admin"])[1]
    for url in ("/v1/api_keys", "/v1/audit"):
        problem(client.get(url, headers=bearer(token)), 403, "forbidden")
    problem(client.post("/v1/api_keys", json={"name": "x"}, headers=bearer(token)), 403, "forbidden")


def test_the_use_of_a_key_is_noted_once_a_minute(admin: tuple[TestClient, dict[str, str]]) -> None:
    """However often it asks; and again when the minute is over."""
    client, key = admin
    who = client.get("/v1/me", headers=key).json()["who"]

    def noted() -> float | None:
        with database_of(client).readers() as s:
            return s.get_one(ApiKey, who).last_used_at

    first = noted()
    client.get("/v1/me", headers=key)
    assert first is not None
    assert noted() == first
    with database_of(client).sessions.begin() as s:
        s.execute(update(ApiKey).values(last_used_at=first - 61))
    client.get("/v1/me", headers=key)
    assert noted() == first - 61  # this process has noted it a moment ago
    client.app.state.context.touched.clear()  # type: ignore[attr-defined]
    client.get("/v1/me", headers=key)
    assert (noted() or 0) >= first


def test_usage_adds_up(client: TestClient, world: World) -> None:
    """Of a finished job and its uploads: bytes by kind, jobs by status, seconds, quotas."""
    finished(world)
    world.submit()
    with world.db.sessions.begin() as s:
        set_quotas(s, DEFAULT_PROJECT, {"queued_jobs": 7})
    told = client.get("/v1/usage").json()
    kinds = told["stored_bytes"]
    assert kinds["total"] == kinds["models"] + kinds["datasets"] + kinds["artifacts"]
    assert kinds["artifacts"] == 256 * 700 + 2
    assert told["jobs"] == {"succeeded": 1, "queued": 1}
    assert told["cpu_s"] > 0
    assert told["gpu_s"] == 0
    states = {one["name"]: one for one in told["quotas"]}
    assert set(states) == set(QUOTAS)
    assert (states["queued_jobs"]["used"], states["queued_jobs"]["limit"]) == (1, 7)
    assert states["stored_bytes"] == {"name": "stored_bytes", "limit": None, "used": kinds["total"]}
    assert client.get("/v1/me").json()["quotas"]["queued_jobs"] == 7
    assert client.get("/v1/usage?month=2001-02").json()["cpu_s"] == 0
    problem(client.get("/v1/usage?month=2001-13"), 422)


def test_a_quota_over_http_is_a_problem_that_tells_when_to_come_back(client: TestClient, world: World) -> None:
    request = json.loads(world.judged().model_dump_json(exclude={"recipe"}))
    with world.db.sessions.begin() as s:
        set_quotas(s, DEFAULT_PROJECT, {"queued_jobs": 1})
    assert client.post("/v1/jobs", json=request).status_code == 201
    answer = client.post("/v1/jobs", json=request)
    said = problem(answer, 429, "quota_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert said["retryable"]
    assert {"quota": "queued_jobs", "limit": 1, "used": 1}.items() <= said["errors"][0].items()


def test_an_upload_beyond_the_quota_is_refused(client: TestClient, world: World) -> None:
    with world.db.sessions.begin() as s:
        set_quotas(s, DEFAULT_PROJECT, {"stored_bytes": 20})
    csv = {"Content-Type": "text/csv"}
    assert client.post("/v1/datasets", content=b"text,label\na,b\n", headers=csv).status_code == 201
    for body in (b"text,label\n", iter([b"text,label\n"])):  # announced: before it is read; in chunks: after
        problem(client.post("/v1/datasets", content=body, headers=csv), 403, "quota_used_up")
    model = client.post("/v1/models", json={"files": [{"path": "config.json", "size": 900}]}).json()["id"]
    problem(client.put(f"/v1/models/{model}/files/config.json", content=b" " * 900), 403, "quota_used_up")
    assert len(client.get("/v1/datasets").json()["data"]) == 1
    assert client.get("/v1/usage").json()["stored_bytes"]["total"] == 15


def test_the_log_is_paged_and_filtered(client: TestClient, world: World) -> None:
    """By action or its first part, object, person and time."""
    made = [world.dataset() for _ in range(3)]
    world.model()
    entries = client.get("/v1/audit").json()["data"]
    assert [one["action"] for one in entries] == ["model.create", *["dataset.create"] * 3]
    first = client.get("/v1/audit?limit=3").json()
    rest = client.get(f"/v1/audit?after={first['last_id']}").json()
    assert (first["data"] + rest["data"], first["has_more"], rest["has_more"]) == (entries, True, False)
    by = {
        "action=dataset": 3, "action=dataset.create": 3, "action=data": 0, "action=%25": 0,
        f"object_id={made[0]}": 1, "who=local": 4, "who=key_x": 0,
        "created_after=2001-01-01T00:00:00Z": 4, "created_before=2001-01-01T00:00:00Z": 0,
    }  # fmt: skip
    for query, count in by.items():
        assert len(client.get(f"/v1/audit?{query}").json()["data"]) == count, query
    problem(client.get("/v1/audit?created_after=2001-01-01T00:00:00"), 422)  # of which time zone?
