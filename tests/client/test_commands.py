"""`ladapress jobs | models | datasets ...` and the options that order a job: what they print, how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ladapress import Client, ports

from tests.client.command import Captured, call, compress
from tests.client.conftest import Inputs, Service, Uploaded
from tests.client.hand import LAST, SUCCEED

Patch = pytest.MonkeyPatch


def create(client: Client, uploaded: Uploaded, **options: Any) -> str:
    options = {"seed": SUCCEED, "preset": "ladabert-1", **options}
    return client.jobs.create(model=uploaded.model, train=uploaded.train, eval=uploaded.eval, **options).id


def said(capsys: Captured) -> Any:
    """The JSON of the last line on stdout."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_jobs_are_listed_over_pages_and_shown(
    service: Service, client: Client, uploaded: Uploaded, monkeypatch: Patch, capsys: Captured
) -> None:
    ids = [create(client, uploaded, name=f"job {number}", metadata={"n": str(number)}) for number in range(3)]
    client.jobs.wait(ids[-1])
    monkeypatch.setattr("ladapress.listed.LONGEST_PAGE", 2)
    for command in (["jobs"], ["jobs", "list"]):
        assert call(monkeypatch, service.url, *command, "--limit", 3, "--json") == 0
        page = said(capsys)
        assert [job["id"] for job in page["data"]] == ids[::-1]
        assert page["object"] == "list"
    assert call(monkeypatch, service.url, "jobs", "list", "--limit", 1, "--after", ids[1]) == 0
    table = capsys.readouterr().out
    assert ids[0] in table
    assert ids[1] not in table
    assert call(monkeypatch, service.url, "jobs", "show", ids[0]) == 0
    assert "job 0" in capsys.readouterr().out
    assert call(monkeypatch, service.url, "jobs", "show", ids[0], "--json") == 0
    assert said(capsys)["metadata"] == {"n": "0"}


def test_a_job_is_cancelled_watched_and_deleted(
    service: Service, client: Client, uploaded: Uploaded, monkeypatch: Patch, capsys: Captured
) -> None:
    job_id = create(client, uploaded, seed=LAST)
    assert call(monkeypatch, service.url, "jobs", "cancel", job_id, "--json") == 0
    assert said(capsys)["status"] in ("cancelling", "cancelled")
    assert call(monkeypatch, service.url, "jobs", "watch", job_id) == 130
    capsys.readouterr()
    assert call(monkeypatch, service.url, "jobs", "delete", job_id, "--json") == 0
    assert said(capsys) == {"id": job_id, "deleted": True}
    assert call(monkeypatch, service.url, "jobs", "show", job_id) == 1
    assert "no job has this id" in capsys.readouterr().err


def test_a_download_tells_its_folders(
    service: Service, client: Client, uploaded: Uploaded, tmp_path: Path, monkeypatch: Patch, capsys: Captured
) -> None:
    job_id = create(client, uploaded)
    client.jobs.wait(job_id)
    assert call(monkeypatch, service.url, "jobs", "download", job_id, "--out", tmp_path / "out", "--json") == 0
    assert said(capsys) == {"folders": [str(tmp_path / "out")]}


@pytest.mark.parametrize(("kind", "named"), [("models", "model"), ("datasets", "train.csv")])
def test_inputs_are_listed_shown_and_deleted(
    service: Service, uploaded: Uploaded, monkeypatch: Patch, capsys: Captured, kind: str, named: str
) -> None:
    object_id = uploaded.model if kind == "models" else uploaded.train
    assert call(monkeypatch, service.url, kind, "--limit", 3) == 0
    assert object_id in capsys.readouterr().out
    assert call(monkeypatch, service.url, kind, "list", "--json") == 0
    assert object_id in [one["id"] for one in said(capsys)["data"]]
    assert call(monkeypatch, service.url, kind, "show", object_id, "--json") == 0
    assert said(capsys)["name"] == named
    assert call(monkeypatch, service.url, kind, "delete", object_id) == 0
    assert capsys.readouterr().out.strip() == object_id
    assert call(monkeypatch, service.url, kind, "show", object_id) == 1


@pytest.mark.parametrize(
    ("arguments", "legal"),
    [
        (("list", "--status", "done"), "queued, running"),
        (("list", "--metadata", "team"), "KEY=VALUE"),
        (("list", "--created-after", "yesterday"), "2026-11-28"),
        (("list", "--limit", "0"), "greater than or equal to 1"),
        (("nosuch",), "nosuch"),
    ],
)
def test_bad_filters_are_code_2(monkeypatch: Patch, capsys: Captured, arguments: tuple[str, ...], legal: str) -> None:
    assert call(monkeypatch, "http://127.0.0.1:9", "jobs", *arguments) == 2
    assert legal in capsys.readouterr().err


class Played:
    """Records what is asked; answers as a service that knows more than the one of this tree."""

    def __init__(self, real: dict[str, Any]) -> None:
        self.real = real
        self.asked: list[tuple[str, dict[str, str]]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append((f"{request.method} {request.url.path}", dict(request.url.params)))
        if request.url.path == "/v1/jobs":
            return httpx2.Response(200, json={"data": [self.real], "has_more": False})
        change = {"pause": "pausing", "resume": "queued"}.get(request.url.path.rpartition("/")[2], "queued")
        return httpx2.Response(202, json={**self.real, "status": change})


@pytest.fixture
def played(client: Client, uploaded: Uploaded, monkeypatch: Patch) -> Played:
    """Instead of the network, for every client that the command makes."""
    job = client.jobs.wait(create(client, uploaded))
    service = Played(job.model_dump(mode="json"))
    made = ports.Blocking.__init__
    monkeypatch.setattr(
        ports.Blocking, "__init__", lambda port, _, **options: made(port, httpx2.MockTransport(service), **options)
    )
    return service


@pytest.mark.parametrize(("verb", "said"), [("pause", "pausing"), ("resume", "queued"), ("retry", "job_")])
def test_pause_resume_and_retry_are_asked_for(
    played: Played, monkeypatch: Patch, capsys: Captured, verb: str, said: str
) -> None:
    assert call(monkeypatch, "http://service", "jobs", verb, "job_1") == 0
    assert capsys.readouterr().out.startswith(said)
    assert call(monkeypatch, "http://service", "jobs", verb, "job_1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["object"] == "job"
    assert played.asked == [(f"POST /v1/jobs/job_1/{verb}", {})] * 2


def test_filters_are_told_to_the_service(played: Played, monkeypatch: Patch, capsys: Captured) -> None:
    filters = ("--status", "failed", "--name", "mine", "--metadata", "team=a=b", "--created-after", "2026-11-28T10:00Z")
    assert call(monkeypatch, "http://service", "jobs", "list", *filters, "--before", "job_9") == 0
    ((asked, query),) = played.asked
    assert asked == "GET /v1/jobs"
    assert query == {
        "status": "failed", "name": "mine", "metadata[team]": "a=b", "created_after": "2026-11-28T10:00:00+00:00",
        "before": "job_9", "limit": "20",
    }  # fmt: skip


def test_compress_orders_the_job_as_it_is_told(
    service: Service, client: Client, inputs: Inputs, tmp_path: Path, monkeypatch: Patch, capsys: Captured
) -> None:
    more = ("--name", "nightly", "--metadata", "team=search", "--metadata", "run=7", "--push", "models=small-bert")
    assert call(monkeypatch, service.url, *compress(inputs, tmp_path / "out", SUCCEED, "--json", *more)) == 0
    job = client.jobs.get(said(capsys)["job_id"])
    assert (job.name, job.metadata) == ("nightly", {"team": "search", "run": "7"})
    assert job.push is not None
    assert (job.push.registry, job.push.to) == ("models", "small-bert")


def test_no_cache_and_the_key_go_with_the_request(
    service: Service, inputs: Inputs, tmp_path: Path, monkeypatch: Patch, capsys: Captured
) -> None:
    """`cache` is sent only where it is refused; under a key of the user's the uploads have keys, too."""
    posted: list[tuple[str, str, bytes]] = []

    class Watched(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                body = b"" if request.url.path == "/v1/datasets" else request.content
                posted.append((request.url.path, request.headers["idempotency-key"], body))
            if request.url.path == "/v1/jobs" and b'"cache"' in body:
                return httpx2.Response(422, json={"code": "request_invalid", "title": "not here"})
            return super().handle_request(request)

    made = ports.Blocking.__init__
    monkeypatch.setattr(ports.Blocking, "__init__", lambda port, _, **options: made(port, Watched(), **options))
    order = compress(inputs, tmp_path / "out", SUCCEED)
    assert call(monkeypatch, service.url, *order) == 0
    assert b"cache" not in posted[-1][2]
    posted.clear()
    assert call(monkeypatch, service.url, *order, "--no-cache", "--idempotency-key", "mine") == 1
    assert [(path, key) for path, key, _ in posted] == [
        ("/v1/models", "mine.model"), ("/v1/datasets", "mine.train"), ("/v1/datasets", "mine.eval"),
        ("/v1/jobs", "mine"),
    ]  # fmt: skip
    assert json.loads(posted[-1][2])["cache"] == "bypass"


@pytest.mark.parametrize(
    ("change", "legal"),
    [
        (("--push", "hub"), "REGISTRY=NAME"),
        (("--push", "nosuch=a/b"), "must be one of hub, models"),
        (("--metadata", "a=1", "--metadata", "a=2"), "each KEY once"),
        (("--metadata", "=1"), "KEY=VALUE"),
    ],
)
def test_bad_options_of_a_job_are_code_2(
    service: Service, inputs: Inputs, tmp_path: Path, monkeypatch: Patch, capsys: Captured,
    change: tuple[str, ...], legal: str,
) -> None:  # fmt: skip
    assert call(monkeypatch, service.url, *compress(inputs, tmp_path / "out", SUCCEED, *change)) == 2
    assert legal in capsys.readouterr().err


def test_webhooks_are_added_changed_asked_about_and_forgotten(
    service: Service, monkeypatch: Patch, capsys: Captured
) -> None:
    """The secret is in what adding and rotating print, and nowhere else."""

    def told(*command: object) -> Any:
        assert call(monkeypatch, service.url, "webhooks", *command, "--json") == 0
        return said(capsys)

    made = told("add", "https://93.184.216.34/hook", "--event", "job.failed", "--event", "job.succeeded")
    assert made["secret"].startswith("whsec_")
    changed = told("update", made["id"], "--disable", "--description", "on call")
    assert (changed["enabled"], changed["description"]) == (False, "on call")
    assert changed["events"] == made["events"] == ["job.failed", "job.succeeded"]
    assert "secret" not in told("show", made["id"])
    assert told("rotate", made["id"], "--grace-s", 0)["secret"] != made["secret"]
    assert made["id"] in [one["id"] for one in told("list")["data"]]
    assert told("deliveries", made["id"], "--status", "failed")["data"] == []
    assert call(monkeypatch, service.url, "webhooks") == 0
    assert made["id"] in capsys.readouterr().out
    assert call(monkeypatch, service.url, "webhooks", "replay", made["id"], "msg_0") == 1
    assert told("delete", made["id"]) == {"id": made["id"], "deleted": True}
    assert call(monkeypatch, service.url, "webhooks", "show", made["id"]) == 1


def test_usage_tells_seconds_bytes_and_quotas(
    service: Service, uploaded: Uploaded, monkeypatch: Patch, capsys: Captured
) -> None:
    assert uploaded
    assert call(monkeypatch, service.url, "usage", "--json") == 0
    found = said(capsys)
    assert (found["object"], found["cpu_s"] >= 0) == ("usage", True)
    assert found["stored_bytes"]["datasets"] > 0
    assert call(monkeypatch, service.url, "usage", "--month", "2026-01") == 0
    assert "2026-01" in capsys.readouterr().out
    assert call(monkeypatch, service.url, "usage", "--month", "yesterday") == 1
