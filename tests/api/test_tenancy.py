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
from jobs.settings import Settings
from jobs.staging import Staging
from tests.api.conftest import database_of, local
from tests.api.problems import problem
from tests.api.results import finished
from tests.api.routes import filled, operations
from tests.jobs.world import World

ABSENT = {
    "model": "model_",
    "dataset": "data_",
    "inspection": "insp_",
    "job": "job_",
    "artifact": "art_",
    "push": "push_",
    "upload": "upl_",
}
# What a route of uploads looks at before the id.
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}


@pytest.fixture
def both(fresh: Settings) -> Iterator[tuple[TestClient, World, dict[str, str]]]:
    """Somebody else's world, full of things, and our own key."""
    with local(fresh) as client:
        theirs = World(database_of(client), fresh, itertools.count(1)).other()
        with theirs.db.sessions.begin() as s:
            token = create_key(s, theirs.other().scope, "ours")[1]
        yield client, theirs, {"Authorization": f"Bearer {token}"}


def ids(world: World) -> dict[str, str]:
    """One of each kind, in use or finished."""
    job, artifact = finished(world)
    row = world.job(job)
    with world.db.sessions.begin() as s:
        push = service.request_push(s, world.scope, artifact, PushRequest(registry="hub", to="acme/x"))[0].id
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
        "upload": upload,
    }


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
            if method == "PATCH":
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
    assert tried >= 24
    assert theirs.job(found["job"]).state.value == "succeeded"


def _body(method: str, url: str) -> dict[str, Any]:
    if url.endswith("/push"):
        return {"json": {"registry": "hub", "to": "acme/x"}}
    return {"content": b""} if method in ("PUT", "PATCH") else {}


def test_a_reference_to_a_foreign_object_is_like_one_to_an_absent_one(
    both: tuple[TestClient, World, dict[str, str]],
) -> None:
    """Nobody compresses a model, or reads a dataset, that is not his."""
    client, theirs, key = both
    found = ids(theirs)
    ours = {"data": {"train": "data_x", "eval": "data_y"}, "model": "model_x"}
    for path in ("/v1/jobs", "/v1/inspections"):
        for body in (
            {**ours, "model": found["model"]},
            {**ours, "data": {"train": found["dataset"], "eval": found["dataset"]}},
        ):
            problem(client.post(path, json=body, headers=key), 404, "not_found")


def test_lists_hold_ones_own_objects_only(both: tuple[TestClient, World, dict[str, str]]) -> None:
    """Also where the cursor is a foreign id."""
    client, theirs, key = both
    found = ids(theirs)
    for path, kind in (
        ("/v1/models", "model"),
        ("/v1/datasets", "dataset"),
        ("/v1/jobs", "job"),
        ("/v1/pushes", "push"),
        ("/v1/uploads", "upload"),
    ):
        for url in (path, f"{path}?after={found[kind]}", f"{path}?after={ABSENT[kind]}zzz"):
            listed: dict[str, Any] = client.get(url, headers=key).json()
            assert (listed["data"], listed["has_more"]) == ([], False)
    problem(client.get(f"/v1/pushes?artifact_id={found['artifact']}", headers=key), 404, "not_found")


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
