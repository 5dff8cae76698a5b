"""The client against /openapi.json: every operation has a call, every call is an operation, both clients make the same.

Nothing is served here but refusals; what counts is what was asked.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ladapress import AsyncClient, Client, JobHandle, LadapressError, resumable
from ladapress.modes import operation, stream
from ladapress.pages import listing

from api.app import create_app
from jobs.settings import Settings
from tests.client.hand import point

NOT_CALLED = {
    "download_archive": "download takes the files one by one: checked, and resumed where they were cut",
    "get_health": "for whoever restarts the process; a client finds out by asking for what it wants",
    "get_readiness": "for load balancers",
}
ASKED: dict[str, Any] = {"model": "mod_1", "data": {"train": "ds_1", "eval": "ds_2"}}
SINCE = datetime(2026, 11, 28, 10, tzinfo=UTC)
CREATED = {"created_at": "2026-01-01T00:00:00Z"}
OPEN: dict[str, Any] = {"name": None, "status": "open", "size_bytes": 0, "files": [], "missing": ["config.json"]}
MODEL = {"id": "mod_1", "expires_at": None, **OPEN, **CREATED}
FILE = {"path": "a/b.json", "size": 2, "sha256": "0" * 64, "media_type": "application/json"}
REPORT = {"artifact_id": "art_1", **point(met=True, retention=0.9).model_dump(mode="json")}
ENDS = {"expires_at": None, "expired_at": None}
ARTIFACT = {"id": "art_1", "job_id": "job_1", "point": 0, "report": REPORT, "files": [FILE], **ENDS, **CREATED}
FILES: dict[str, Any] = {"DATA": Path("never.csv"), "MODEL": Path("never"), "OUT": Path("never")}


def job(client: Any) -> Any:
    """A handle on a job with one artifact."""
    found = JobHandle.model_construct(id="job_1", points=[type("Point", (), {"artifact_id": "art_1"})()])
    found._transport = client._transport
    return found


CALLS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "methods": (lambda c: c.methods(), ["list_methods"]),
    "presets": (lambda c: c.presets(), ["list_presets"]),
    "me": (lambda c: c.me(), ["get_me"]),
    "usage": (lambda c: c.usage(month="2026-11"), ["get_usage"]),
    "audit": (lambda c: c.audit(action="key", object_id="key_1", who="key_2", limit=5), ["list_audit"]),
    "signing_keys": (lambda c: c.signing_keys(), ["list_signing_keys"]),
    "models.upload": (
        lambda c: c.models.upload(FILES["MODEL"]),
        ["create_model", "put_model_file", "delete_model"],  # refused, so taken back
    ),
    "models.create": (lambda c: c.models.create(source="s3://models/bert", name="mine"), ["create_model"]),
    "models.keep": (lambda c: c.models.keep("mod_1", expires_at=None), ["keep_model"]),
    "models.get": (lambda c: c.models.get("mod_1"), ["get_model"]),
    "models.list": (lambda c: c.models.list(created_after=SINCE, before="mod_2"), ["list_models"]),
    "models.delete": (lambda c: c.models.delete("mod_1"), ["delete_model"]),
    "datasets.upload": (lambda c: c.datasets.upload(FILES["DATA"]), ["create_dataset"]),
    "datasets.create": (lambda c: c.datasets.create(source="/data/rows.csv"), ["create_dataset"]),
    "datasets.keep": (lambda c: c.datasets.keep("ds_1", expires_at=SINCE), ["keep_dataset"]),
    "datasets.get": (lambda c: c.datasets.get("ds_1"), ["get_dataset"]),
    "datasets.list": (lambda c: c.datasets.list(limit=5), ["list_datasets"]),
    "datasets.delete": (lambda c: c.datasets.delete("ds_1"), ["delete_dataset"]),
    "inspections.create": (lambda c: c.inspections.create(ASKED), ["create_inspection"]),
    "inspections.get": (lambda c: c.inspections.get("ins_1"), ["get_inspection"]),
    "inspections.make": (lambda c: c.inspections.make(ASKED), ["create_inspection"]),
    "plans.ask": (lambda c: c.plans.ask(ASKED), ["create_plan"]),
    "plans.make": (lambda c: c.plans.make(ASKED), ["create_plan"]),
    "jobs.create": (lambda c: c.jobs.create(model="mod_1", train="ds_1", eval="ds_2", seed=3), ["create_job"]),
    "jobs.submit": (lambda c: c.jobs.submit({**ASKED, "target": None}), ["create_job"]),
    "jobs.get": (lambda c: c.jobs.get("job_1"), ["get_job"]),
    "jobs.list": (lambda c: c.jobs.list(status=["failed", "paused"], model="mod_1"), ["list_jobs"]),
    "jobs.cancel": (lambda c: c.jobs.cancel("job_1"), ["cancel_job"]),
    "jobs.pause": (lambda c: c.jobs.pause("job_1"), ["pause_job"]),
    "jobs.resume": (lambda c: c.jobs.resume("job_1"), ["resume_job"]),
    "jobs.retry": (lambda c: c.jobs.retry("job_1", limits={"max_runtime_s": 60}), ["retry_job"]),
    "jobs.metrics": (lambda c: c.jobs.metrics("job_1", name="loss"), ["list_metrics"]),
    "jobs.delete": (lambda c: c.jobs.delete("job_1"), ["delete_job"]),
    "jobs.events": (lambda c: c.jobs.events("job_1", after=3), ["list_events"]),
    "jobs.wait": (lambda c: c.jobs.wait("job_1"), ["list_events"]),
    "artifacts.get": (lambda c: c.artifacts.get("art_2"), ["get_artifact"]),
    "artifacts.list": (lambda c: c.artifacts.list(job_id="job_1"), ["list_artifacts"]),
    "artifacts.keep": (lambda c: c.artifacts.keep("art_2", expires_at=SINCE), ["keep_artifact"]),
    "artifacts.delete": (lambda c: c.artifacts.delete("art_2"), ["delete_artifact"]),
    "artifacts.download": (lambda c: c.artifacts.download("art_1", FILES["OUT"]), ["get_artifact", "download_file"]),
    "pushes.registries": (lambda c: c.pushes.registries(), ["list_registries"]),
    "pushes.create": (lambda c: c.pushes.create("art_1", registry="hub", to="a/b"), ["push_artifact"]),
    "pushes.get": (lambda c: c.pushes.get("push_1"), ["get_push"]),
    "pushes.list": (lambda c: c.pushes.list(artifact_id="art_1"), ["list_pushes"]),
    "pushes.delete": (lambda c: c.pushes.delete("push_1"), ["delete_push"]),
    "pushes.wait": (lambda c: c.pushes.wait("push_1"), ["get_push"]),
    "uploads.get": (lambda c: c.uploads.get("up_1"), ["get_upload"]),
    "uploads.list": (lambda c: c.uploads.list(limit=5), ["list_uploads"]),
    "uploads.delete": (lambda c: c.uploads.delete("up_1"), ["delete_upload"]),
    "webhooks.create": (
        lambda c: c.webhooks.create(url="https://a.example/b", events=["job.failed"]),
        ["create_webhook_endpoint"],
    ),
    "webhooks.get": (lambda c: c.webhooks.get("we_1"), ["get_webhook_endpoint"]),
    "webhooks.list": (lambda c: c.webhooks.list(limit=5), ["list_webhook_endpoints"]),
    "webhooks.update": (lambda c: c.webhooks.update("we_1", enabled=False), ["update_webhook_endpoint"]),
    "webhooks.delete": (lambda c: c.webhooks.delete("we_1"), ["delete_webhook_endpoint"]),
    "webhooks.rotate_secret": (lambda c: c.webhooks.rotate_secret("we_1", grace_s=60), ["rotate_webhook_secret"]),
    "webhooks.test": (lambda c: c.webhooks.test("we_1"), ["send_webhook_ping"]),
    "webhooks.deliveries": (lambda c: c.webhooks.deliveries("we_1", status="failed"), ["list_webhook_deliveries"]),
    "webhooks.delivery": (lambda c: c.webhooks.delivery("we_1", "wd_1"), ["get_webhook_delivery"]),
    "webhooks.replay": (lambda c: c.webhooks.replay("we_1", "wd_1"), ["replay_webhook_delivery"]),
    "api_keys.create": (lambda c: c.api_keys.create(name="ci", expires_at=SINCE), ["create_api_key"]),
    "api_keys.get": (lambda c: c.api_keys.get("key_1"), ["get_api_key"]),
    "api_keys.list": (lambda c: c.api_keys.list(limit=5), ["list_api_keys"]),
    "api_keys.rotate": (lambda c: c.api_keys.rotate("key_1", grace_s=60), ["rotate_api_key"]),
    "api_keys.revoke": (lambda c: c.api_keys.revoke("key_1"), ["revoke_api_key"]),
    "job.refresh": (lambda c: job(c).refresh(), ["get_job"]),
    "job.wait": (lambda c: job(c).wait(), ["list_events"]),
    "job.events": (lambda c: job(c).events(after=3), ["list_events"]),
    "job.cancel": (lambda c: job(c).cancel(), ["cancel_job"]),
    "job.pause": (lambda c: job(c).pause(), ["pause_job"]),
    "job.resume": (lambda c: job(c).resume(), ["resume_job"]),
    "job.metrics": (lambda c: job(c).metrics(), ["list_metrics"]),
    "job.retry": (lambda c: job(c).retry(), ["retry_job"]),
    "job.delete": (lambda c: job(c).delete(), ["delete_job"]),
    "job.download": (lambda c: job(c).download(FILES["OUT"]), ["get_artifact", "download_file"]),
}
LARGE = {  # what is too large for one request goes in pieces; the first is refused, so the upload is taken back
    "models.upload": ["create_model", "create_upload", "append_to_upload", "delete_upload", "delete_model"],
    "datasets.upload": ["create_upload", "append_to_upload", "delete_upload"],
}


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, re.Pattern[str]]]:
    """Operation id -> method and what its paths look like."""
    schema = create_app(Settings(data_dir=tmp_path_factory.mktemp("data"))).openapi()
    return {
        one["operationId"]: (method.upper(), re.compile(re.sub(r"\{(\w+)\}", _any, path)))
        for path, methods in schema["paths"].items()
        for method, one in methods.items()
    }


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something to upload, somewhere to put a download."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")
    (tmp_path / "rows.csv").write_text("text,label\na,0\n")
    for name, path in {"MODEL": "model", "DATA": "rows.csv", "OUT": "out"}.items():
        monkeypatch.setitem(FILES, name, tmp_path / path)


def test_every_operation_of_the_api_has_a_call_or_a_reason(operations: dict[str, Any]) -> None:
    called = {name for asked in (*(asked for _, asked in CALLS.values()), *LARGE.values()) for name in asked}
    assert called | set(NOT_CALLED) == set(operations)
    assert not called & set(NOT_CALLED)


def test_every_call_of_the_client_is_in_the_table() -> None:
    """What is not would be tested by nothing below."""
    with Client("http://service") as client:
        resources = {f"{name}.": one for name, one in vars(client).items() if not name.startswith("_")}
        found = {f"{prefix}{name}" for prefix, one in {**resources, "": client}.items() for name in calls(type(one))}
        found |= {f"job.{name}" for name in calls(JobHandle)}
    assert found - {"close"} == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_asks_for_what_the_api_has_and_the_async_client_asks_the_same(
    name: str, operations: dict[str, tuple[str, re.Pattern[str]]]
) -> None:
    both_ask(*CALLS[name], operations)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_asks_for_what_the_api_has(
    name: str, operations: dict[str, tuple[str, re.Pattern[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "FROM_BYTES", 0)
    both_ask(CALLS[name][0], LARGE[name], operations)


def both_ask(
    call: Callable[[Any], Any], expected: list[str], operations: dict[str, tuple[str, re.Pattern[str]]]
) -> None:
    """Either client makes these requests until it is refused, byte for byte the same."""
    asked = Recorder()
    with Client("http://service", handler=httpx2.MockTransport(asked), patience_s=0) as client:
        with pytest.raises(LadapressError) as refused:
            finish(call(client))
        assert refused.value.code == "not_found"
    assert [asked.operation(request, operations) for request in asked.requests] == expected
    awaited = Recorder()

    async def again() -> None:
        async with AsyncClient("http://service", handler=httpx2.MockTransport(awaited), patience_s=0) as client:
            with pytest.raises(LadapressError) as refused:
                await finish_async(call(client))
            assert refused.value.code == "not_found"

    asyncio.run(again())
    assert awaited.told == asked.told


@pytest.mark.parametrize("name", CALLS)
def test_a_call_tells_its_signature_and_what_it_does(name: str) -> None:
    """As an editor or `help` asks: no `self`, and a docstring."""
    holder, _, method = name.rpartition(".")
    with Client("http://service") as client:
        call = getattr(job(client) if holder == "job" else getattr(client, holder) if holder else client, method)
    assert "self" not in inspect.signature(call).parameters
    assert call.__doc__


class Recorder:
    """Answers what a call needs to go on, and refuses what it came for."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.told: list[tuple[Any, ...]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        ours = {k: v for k, v in request.headers.items() if k in ("content-type", "accept", "range", "last-event-id")}
        keyed = "idempotency-key" in request.headers
        assert keyed == (request.method == "POST")
        self.told.append((request.method, str(request.url), ours, request.content))
        where = (request.method, request.url.path)
        if where == ("POST", "/v1/models") and b"source" not in request.content:
            return httpx2.Response(201, json=MODEL)
        if where == ("POST", "/v1/uploads"):
            return httpx2.Response(201, headers={"location": "/v1/uploads/up_1"})
        if where == ("GET", "/v1/artifacts/art_1"):
            return httpx2.Response(200, json=ARTIFACT)
        if where == ("DELETE", "/v1/models/mod_1") and len(self.requests) > 1:
            return httpx2.Response(204)
        return httpx2.Response(404, json={"code": "not_found", "title": "No such object", "status": 404})

    @staticmethod
    def operation(request: httpx2.Request, operations: dict[str, tuple[str, re.Pattern[str]]]) -> str:
        (found,) = [
            name
            for name, (method, path) in operations.items()
            if method == request.method and path.fullmatch(request.url.path)
        ]
        return found


def _any(part: re.Match[str]) -> str:
    return ".+" if part[1] == "path" else "[^/]+"


def calls(kind: type) -> list[str]:
    """Names of a class's calls."""
    return [
        name
        for name in dir(kind)
        if not name.startswith("_") and isinstance(inspect.getattr_static(kind, name), operation | stream | listing)
    ]


def finish(result: object) -> None:
    """Have a generator begin."""
    if isinstance(result, Iterator):
        next(result)


async def finish_async(result: Any) -> None:
    """Have a generator begin, anything else end."""
    await (anext(result) if isinstance(result, AsyncIterator) else result)
