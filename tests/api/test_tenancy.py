"""Another project's objects are not there: not by id, not by reference, not in lists."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs import service
from jobs.keys import create_key
from jobs.requests import PushRequest
from jobs.scope import ROLES, page
from jobs.settings import Settings
from jobs.staging import Staging
from jobs.tables import Audit
from jobs.webhooks.addresses import Guard
from jobs.webhooks.requests import EndpointCreate
from tests.api.conftest import database_of, local
from tests.api.problems import problem
from tests.api.results import finished
from tests.api.routes import OPEN, filled, operations
from tests.jobs.world import World

ABSENT = {
    "model": "model_",
    "dataset": "data_",
    "inspection": "insp_",
    "job": "job_",
    "artifact": "art_",
    "push": "push_",
    "endpoint": "hook_",
    "key": "key_",
    "upload": "upl_",
}
# What a route of uploads looks at before the id.
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
LISTS = {
    "/v1/models": "model",
    "/v1/datasets": "dataset",
    "/v1/jobs": "job",
    "/v1/pushes": "push",
    "/v1/artifacts": "artifact",
    "/v1/uploads": "upload",
    "/v1/webhook_endpoints": "endpoint",
    "/v1/api_keys": "key",
    "/v1/audit": "audit",
}
REFERRING = ("/v1/jobs", "/v1/inspections", "/v1/plans")  # POSTs whose body names objects
OF_NOBODY = (*OPEN, "/v1/methods", "/v1/presets")  # the same for every project
# Tested by name below, or in test_pushes (registries).
OF_THE_CALLER = (
    "/v1/me",
    "/v1/usage",
    "/v1/registries",
    "POST /v1/models",
    "POST /v1/datasets",
    "POST /v1/api_keys",
    "POST /v1/webhook_endpoints",
    "POST /v1/uploads",
)


@pytest.fixture
def both(fresh: Settings) -> Iterator[tuple[TestClient, World, dict[str, str]]]:
    """Somebody else's world, full of things, and our own key."""
    with local(fresh) as client:
        theirs = World(database_of(client), fresh, itertools.count(1)).other()
        with theirs.db.sessions.begin() as s:
            token = create_key(s, theirs.other().scope, "ours", ROLES)[1]
        yield client, theirs, {"Authorization": f"Bearer {token}"}


def ids(world: World) -> dict[str, str]:
    """One of each kind, in use or finished."""
    job, artifact = finished(world)
    row = world.job(job)
    with world.db.sessions.begin() as s:
        push = service.request_push(s, world.scope, artifact, PushRequest(registry="hub", to="acme/x"))[0].id
        asked = EndpointCreate(url="https://hooks.example/")
        settings = world.settings
        endpoint = service.create_endpoint(s, world.scope, asked, Guard.of(settings), settings.webhook_key_file)[0].id
        key = create_key(s, world.scope, "theirs")[0].id
        log = page(s, world.scope, Audit)[0][0].id
        wanted = service.Wanted("dataset", {"name": None, "format": "csv"}, 9, "0" * 64)
        place = Staging(world.settings.upload_dir).create
        upload = service.start_upload(s, world.scope, wanted, ttl_s=60, most=9, place=place).id
    assert row.inspection_id is not None
    return {
        "model": row.spec["model"],
        "dataset": row.spec["data"]["train"],
        "inspection": row.inspection_id,
        "job": job,
        "artifact": artifact,
        "push": push,
        "endpoint": endpoint,
        "key": key,
        "audit": log,
        "upload": upload,
    }


def test_every_route_has_its_test_of_tenancy(both: tuple[TestClient, World, dict[str, str]]) -> None:
    """A new route fails here until one of the lists above, and so a test below, knows whose things it shows."""
    for method, path, _ in operations(both[0]):
        by_id = any(f"{{{kind}_id}}" in path for kind in ABSENT)
        listed = path in LISTS and method == "GET"
        known = by_id or listed or (method == "POST" and path in REFERRING)
        assert known or path in OF_NOBODY or {path, f"{method} {path}"} & set(OF_THE_CALLER), f"{method} {path}"


def test_a_foreign_id_is_answered_like_an_absent_one_on_every_route(
    both: tuple[TestClient, World, dict[str, str]],
) -> None:
    """404, and but for the request's own id the same bytes, HEAD and stream included."""
    client, theirs, key = both
    found = ids(theirs)
    tried = 0
    for method, path, _ in operations(client):
        kind = next((kind for kind in found if f"{{{kind}_id}}" in path), None)
        if kind is None:
            continue
        for accept in ("application/json", "text/event-stream"):
            headers = {**key, "Accept": accept, "X-Request-Id": "r", **TUS}
            if method == "PATCH" and "/uploads/" in path:
                headers["Content-Type"] = "application/offset+octet-stream"
            name = "model.safetensors" if method == "PUT" else "model.onnx"
            url = path.replace("{path}", name)
            answers = [
                client.request(method, filled(url, id_), headers=headers, **_body(method, url))
                for id_ in (found[kind], ABSENT[kind] + 26 * "0")
            ]
            problem(answers[0], 404)
            assert answers[0].content == answers[1].content, (method, path)
            tried += 1
    assert tried >= 30
    assert theirs.job(found["job"]).state.value == "succeeded"


def _body(method: str, url: str) -> dict[str, Any]:
    if url.endswith("/push"):
        return {"json": {"registry": "hub", "to": "acme/x"}}
    if method == "PATCH" and "/uploads/" in url:
        return {"content": b""}
    if method == "PATCH" and "webhook" not in url:
        return {"json": {"expires_at": None}}
    if url.endswith(("/rotate", "/rotate_secret")) or method == "PATCH":
        return {"json": {}}
    return {"content": b""} if method == "PUT" else {}


def test_a_reference_to_a_foreign_object_is_like_one_to_an_absent_one(
    both: tuple[TestClient, World, dict[str, str]],
) -> None:
    """Nobody compresses a model, or reads a dataset, that is not his."""
    client, theirs, key = both
    found = ids(theirs)
    ours = {"data": {"train": "data_x", "eval": "data_y"}, "model": "model_x"}
    for path in REFERRING:
        for body in (
            {**ours, "model": found["model"]},
            {**ours, "data": {"train": found["dataset"], "eval": found["dataset"]}},
        ):
            problem(client.post(path, json=body, headers=key), 404, "not_found")


def test_lists_hold_ones_own_objects_only(both: tuple[TestClient, World, dict[str, str]]) -> None:
    """Also where the cursor is a foreign id."""
    client, theirs, key = both
    found = ids(theirs)
    ours = {client.get("/v1/me", headers=key).json()["who"], client.get("/v1/audit", headers=key).json()["last_id"]}
    for path, kind in LISTS.items():
        for url in (path, f"{path}?after={found[kind]}", f"{path}?after={ABSENT.get(kind, 'aud_')}zzz"):
            listed: dict[str, Any] = client.get(url, headers=key).json()
            foreign = [one for one in listed["data"] if one["id"] not in ours]
            assert (foreign, listed["has_more"]) == ([], False)
    problem(client.get(f"/v1/pushes?artifact_id={found['artifact']}", headers=key), 404, "not_found")


def test_what_is_told_of_the_caller_is_of_his_project(both: tuple[TestClient, World, dict[str, str]]) -> None:
    """Who he is, what his project has, and the key that he makes."""
    client, theirs, key = both
    ids(theirs)
    project = client.get("/v1/me", headers=key).json()["project_id"]
    assert project != theirs.scope.project_id
    told = client.get("/v1/usage", headers=key).json()
    assert (told["project_id"], told["jobs"], told["stored_bytes"]["total"], told["cpu_s"]) == (project, {}, 0, 0)
    made = client.post("/v1/api_keys", json={"name": "x"}, headers=key).json()["token"]
    assert client.get("/v1/me", headers={"Authorization": f"Bearer {made}"}).json()["project_id"] == project


def test_an_idempotency_key_belongs_to_its_project(both: tuple[TestClient, World, dict[str, str]]) -> None:
    """The same key in another project finds nothing."""
    client, theirs, key = both
    theirs.submit(key="k")
    body = {"model": "model_x", "data": {"train": "data_x", "eval": "data_y"}}
    problem(client.post("/v1/jobs", json=body, headers={**key, "Idempotency-Key": "k"}), 404, "not_found")


def test_the_same_bytes_in_two_projects_are_two_blobs(both: tuple[TestClient, World, dict[str, str]]) -> None:
    """Having a file tells nobody that another project has it too; deleting it takes nothing from them."""
    client, theirs, key = both
    csv = {**key, "Content-Type": "text/csv"}
    answer = client.post("/v1/datasets", content=b"text,label\n", headers=csv)
    assert answer.status_code == 201
    project = client.get("/v1/me", headers=key).json()["project_id"]
    store = theirs.settings.store_dir
    assert [path.parent.parent.name for path in store.rglob(answer.json()["sha256"])] == [project]
