"""`ladapress push` and `client.pushes`: what they ask for, how long they stay, how they end. A hand is the pusher."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ladapress import Client
from ladapress.errors import LadapressError

from jobs import service as jobs_service
from jobs.db import connect
from jobs.problem import Problem
from tests.client.command import Captured, call
from tests.client.conftest import Service, Uploaded
from tests.client.hand import SUCCEED, TWO_POINTS

DOWN = Problem.of("registry_unreachable", "the registry answered 503", retryable=True)
REFUSED = Problem.of("registry_refused", "the registry answered 401")
PUSHED = {"url": "https://hub.example/acme/small/tree/1", "commit": "1", "version": None, "unchanged": False}
TO = ("--registry", "hub", "--to", "acme/small")


@pytest.fixture(autouse=True)
def nothing_queued(service: Service) -> None:
    """What another file has left in the queue would take the outcomes of ours."""
    database = connect(service.settings)
    with database.sessions.begin() as s:
        while (held := jobs_service.claim_push(s, "hand", 60, 3600)) is not None:
            jobs_service.finish_push(s, held.push_id, held.fence, PUSHED)
    database.dispose()


@contextmanager
def pusher(service: Service, *outcomes: Problem | dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Ends the pushes that come, one outcome for each attempt; yields what was asked for."""
    asked: list[dict[str, Any]] = []
    database, stop, waiting = connect(service.settings), threading.Event(), list(outcomes)

    def work() -> None:
        while waiting and not stop.wait(0.02):
            with database.sessions.begin() as s:
                held = jobs_service.claim_push(s, "hand", 60, 3600)
                if held is None:
                    continue
                asked.append(held.spec)
                push, fence = held.push_id, held.fence
                if isinstance(outcome := waiting.pop(0), Problem):
                    jobs_service.fail_push(s, push, fence, outcome, retry_s=1e-6, give_up_s=60)
                else:
                    jobs_service.finish_push(s, push, fence, outcome)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield asked
        thread.join(30)
    finally:
        stop.set()
        thread.join(30)
        database.dispose()


def finished(client: Client, up: Uploaded, seed: int) -> Any:
    job = client.jobs.create(model=up.model, train=up.train, eval=up.eval, preset="ladabert-1", seed=seed)
    return client.jobs.wait(job.id)


def test_push_stays_until_the_artifact_is_there_and_prints_where(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, service: Service, client: Client, uploaded: Uploaded
) -> None:
    """Through an outage of the registry, which it tells; of a job with one artifact by the job's id."""
    job = finished(client, uploaded, SUCCEED)
    with pusher(service, DOWN, PUSHED) as asked:
        assert call(monkeypatch, service.url, "push", job.id, *TO, "--revision", "v1") == 0
    said = capsys.readouterr()
    assert said.out == PUSHED["url"] + "\n"
    assert "it goes on without this command" in said.err
    assert asked == 2 * [{"registry": "hub", "to": "acme/small", "revision": "v1", "alias": None}]


def test_json_is_the_push_and_a_repetition_says_that_nothing_was_added(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, service: Service, client: Client, uploaded: Uploaded
) -> None:
    artifact = finished(client, uploaded, SUCCEED).points[0].artifact_id
    with pusher(service, {**PUSHED, "unchanged": True}):
        assert call(monkeypatch, service.url, "push", artifact, *TO, "--json") == 0
    said = capsys.readouterr()
    push = json.loads(said.out)
    assert (push["artifact_id"], push["status"], push["result"]["unchanged"]) == (artifact, "succeeded", True)
    assert "nothing was added" in said.err
    assert client.pushes.get(push["id"]).status == "succeeded"
    client.pushes.delete(push["id"])
    assert push["id"] not in {one.id for one in client.pushes.list(limit=100).data}


def test_no_wait_leaves_it_to_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, service: Service, client: Client, uploaded: Uploaded
) -> None:
    artifact = finished(client, uploaded, SUCCEED).points[0].artifact_id
    assert call(monkeypatch, service.url, "push", artifact, *TO, "--no-wait") == 0
    push = capsys.readouterr().out.strip()
    assert client.pushes.get(push).status == "queued"
    with pytest.raises(LadapressError) as late:
        client.pushes.wait(push, timeout_s=0)
    assert late.value.code == "timeout"
    with pusher(service, PUSHED):
        assert client.pushes.wait(push).status == "succeeded"


def test_a_refused_push_ends_with_1_and_the_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, service: Service, client: Client, uploaded: Uploaded
) -> None:
    artifact = finished(client, uploaded, SUCCEED).points[0].artifact_id
    with pusher(service, REFUSED):
        assert call(monkeypatch, service.url, "push", artifact, *TO) == 1
    said = capsys.readouterr()
    assert (said.out, "the registry answered 401" in said.err) == ("", True)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (("--registry", "absent", "--to", "acme/x"), "legal: hub, models"),
        (("--registry", "hub", "--to", "evil/x"), "beginning with acme/"),
        (("--registry", "hub", "--to", "acme/x", "--alias", "champion"), "no alias"),
    ],
)
def test_the_services_refusal_names_what_is_legal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    service: Service,
    client: Client,
    uploaded: Uploaded,
    to: tuple[str, ...],
    said: str,
) -> None:
    artifact = finished(client, uploaded, SUCCEED).points[0].artifact_id
    assert call(monkeypatch, service.url, "push", artifact, *to) == 1
    assert said in capsys.readouterr().err


def test_a_job_of_several_artifacts_must_be_told_which(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, service: Service, client: Client, uploaded: Uploaded
) -> None:
    job = finished(client, uploaded, TWO_POINTS)
    assert call(monkeypatch, service.url, "push", job.id, *TO) == 1
    said = capsys.readouterr().err
    assert all(point.artifact_id in said for point in job.points)
    assert call(monkeypatch, service.url, "push", "model_1", *TO) == 2


def test_registries_are_listed(client: Client) -> None:
    assert [(one.name, one.kind, one.prefixes) for one in client.pushes.registries().data] == [
        ("hub", "huggingface", ["acme/"]), ("models", "mlflow", []),
    ]  # fmt: skip
