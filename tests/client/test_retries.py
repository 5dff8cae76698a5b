"""What is sent again, and what leaves with each request. Nothing is served: a handler stands for the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from ladapress import Client, LadapressError
from ladapress.backoff import SPREAD
from ladapress.download import fetch
from ladapress.modes import drive
from ladapress.types import Artifact, ArtifactFile


def test_a_busy_service_is_asked_again_when_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("ladapress.ports.time.sleep", waits.append)
    busy = httpx2.Response(503, headers={"retry-after": "3"}, content=b"busy")
    answers = iter([busy, httpx2.Response(200, json={"object": "list", "data": []})])
    with Client("http://service", handler=httpx2.MockTransport(lambda _: next(answers))) as client:
        assert client.presets().data == []
    (wait,) = waits
    assert 3 <= wait <= 3 * (1 + SPREAD)


def test_a_post_is_sent_again_under_the_key_of_its_first_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the service is still at work on the first one; another call has another key."""
    monkeypatch.setattr("ladapress.ports.time.sleep", lambda _: None)
    keys: list[str] = []
    in_flight = {"code": "idempotency_in_flight", "status": 409, "title": "The first request is under way"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx2.ReadError("cut")
        if len(keys) == 2:
            return httpx2.Response(409, headers={"retry-after": "1"}, json=in_flight)
        return httpx2.Response(404, json={"code": "not_found", "title": "No such object"})

    with Client("http://service", handler=httpx2.MockTransport(answer)) as client:
        for _ in range(2):
            with pytest.raises(LadapressError, match="No such object"):
                client.jobs.retry("job_1")
        with pytest.raises(LadapressError):
            client.jobs.retry("job_1", idempotency_key="mine")
    assert len(set(keys[:3])) == 1
    assert len({*keys}) == 3
    assert keys[-1] == "mine"


def test_what_was_deleted_by_a_try_whose_answer_was_lost_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never there is still an error."""
    monkeypatch.setattr("ladapress.ports.time.sleep", lambda _: None)
    cut: list[bool] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if not cut:
            cut.append(True)
            raise httpx2.ReadError("cut")
        return httpx2.Response(404, json={"code": "not_found", "title": "No such object"})

    with Client("http://service", handler=httpx2.MockTransport(answer)) as client:
        client.models.delete("mod_1")
        with pytest.raises(LadapressError, match="No such object"):
            client.models.delete("mod_1")


def test_a_file_that_lies_elsewhere_is_fetched_there_and_the_key_stays_here(tmp_path: Path) -> None:
    """A presigned address: another host must not see the key, and a cut download goes on there, too."""
    body = b"0123456789"
    file = {"path": "a.bin", "size": 10, "sha256": hashlib.sha256(body).hexdigest(), "media_type": "text/plain"}
    known = Artifact.model_construct(id="art_1", files=[ArtifactFile.model_validate(file)])
    at_store: list[httpx2.Headers] = []

    class Cut(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield body[:4]
            raise httpx2.ReadError("cut")

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "service":
            assert request.headers["authorization"] == "Bearer lp_secret"
            return httpx2.Response(307, headers={"location": "https://store.example/a?signature=1"})
        at_store.append(request.headers)
        if len(at_store) == 1:
            return httpx2.Response(200, stream=Cut())
        assert request.headers["range"] == "bytes=4-"
        return httpx2.Response(206, content=body[4:])

    with Client("http://service", "lp_secret", handler=httpx2.MockTransport(answer)) as client:
        drive(fetch(client._transport, known, tmp_path / "out", lambda _: None))
    assert (tmp_path / "out/a.bin").read_bytes() == body
    assert len(at_store) == 2
    assert all("authorization" not in headers for headers in at_store)


def test_an_answer_that_is_no_problem_is_still_one_error() -> None:
    page = httpx2.Response(502, content=b"<html>bad gateway</html>")
    client = Client("http://service", handler=httpx2.MockTransport(lambda _: page))
    with client, pytest.raises(LadapressError) as error:
        client.presets()
    assert (error.value.code, error.value.status) == ("protocol", 502)
    assert "bad gateway" in str(error.value)


def test_the_key_travels_as_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADAPRESS_API_KEY", "lp_secret")
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(200, content=json.dumps({"object": "list", "data": []}).encode())

    with Client("http://service", handler=httpx2.MockTransport(answer)) as client:
        client.presets()
    assert seen == ["Bearer lp_secret"]
