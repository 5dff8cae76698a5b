"""Nothing that a stranger sends is answered with a 5xx, and every refusal has the one shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jobs.settings import Settings
from tests.api.conftest import copy_of, local
from tests.api.live import Live
from tests.api.problems import problem
from tests.api.routes import filled, operations, parameters

JSON = {"content-type": "application/json"}
MAX_JSON = 20_000
BROKEN = {
    "NaN": b'{"seed": NaN}',
    "Infinity": b'{"seed": Infinity}',
    "-Infinity": b'{"target": {"bytes_ratio": -Infinity}}',
    "1e999": b'{"target": {"bytes_ratio": 1e999}}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "lone surrogate in a key": b'{"\\udc00": 1}',
    "NUL": b'{"name": "a\\u0000b"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "5,000 digits": b'{"seed": ' + b"9" * 5_000 + b"}",
    "minus 2**63 - 1": b'{"seed": -9223372036854775809}',
    "depth of 10,000": b"[" * 10_000,
    "closed depth of 9,000": b"[" * 9_000 + b"]" * 9_000,
    "equal keys": b'{"model": "a", "model": "b"}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\x80"}',
    "surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "UTF-16": '{"seed": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "truncated": b'{"name": "a',
    "two documents": b"{} {}",
    "comment": b"{} // x",
    "control character": b'{"name": "\x01"}',
    "half an escape": b'{"name": "\\u12"}',
}
WRONG = {
    "null": b"null",
    "number": b"1",
    "string": b'"x"',
    "array": b"[]",
    "object": b"{}",
    "wrong types": b'{"model": [], "data": 1, "files": {}, "seed": "x", "target": [], "recipe": 3, "metadata": 7}',
    "huge values": b'{"files": [{"path": "config.json", "size": 9223372036854775807, "sha256": "x"}], "seed": 1e308}',
    "steps of nothing": b'{"recipe": {"steps": [null, 1, "x", {}, {"method": null}, {"method": {"a": []}}]}}',
    "long strings": b'{"model": "' + b"x" * 9_000 + b'", "name": "' + b"y" * 9_000 + b'"}',
    "odd ids": '{"model": "💥\u202e", "data": {"train": "\u0001", "eval": ""}}'.encode(),
    "ids of nobody": b'{"model": "model_x", "data": {"train": "data_x", "eval": "data_y"}}',
    "unknown fields": b'{"__proto__": {}, "constructor": 1, "": 2, "a/b~c": 3}',
    "a thousand fields": b"{" + b",".join(b'"f%d":1' % i for i in range(1_000)) + b"}",
}
TEXTS = (
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF%FE",
    "%F0%9F%92%A5",
    "%0D%0AX-Evil:%201",
    "..%2F..%2Fetc%2Fpasswd",
    "%2E%2E",
    "%25s",
    "'%20OR%201=1--",
    "job_" + 26 * "0",
    "x" * 65,
    "x" * 5_000,
    "%",
    "%zz",
)
NUMBERS = ("", "-1", "0", "1e999", "NaN", "1.5", "0x10", "9223372036854775807", "9223372036854775808", "9" * 4_500, "٣")


@pytest.fixture(scope="module")
def settings(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small limit, so that the corpus may go beyond it."""
    folder, url = tmp_path_factory.mktemp("data"), copy_of(sqlite_template, tmp_path_factory)
    return Settings(data_dir=folder, database_url=url, inspect_wait_s=0, max_json_bytes=MAX_JSON)


@pytest.fixture(scope="module")
def hostile(both_url: str, settings: Settings) -> Iterator[TestClient]:
    """The app on each of the databases, as they refuse different things."""
    with local(settings.model_copy(update={"database_url": both_url})) as client:
        yield client


def test_hostile_bodies_are_refused_on_every_route_that_takes_one(client: TestClient) -> None:
    """Broken JSON is 400 even where the route takes no body; wrong JSON is some 4xx."""
    tried = 0
    for method, template, operation in operations(client):
        if method not in ("POST", "PUT", "PATCH"):
            continue
        path = filled(template, "x")
        takes_json = "application/json" in operation.get("requestBody", {}).get("content", {})
        takes_bytes = "requestBody" in operation and not takes_json
        for name, body in BROKEN.items():
            answer = client.request(method, path, content=body, headers=JSON)
            found = problem(answer)
            assert found["status"] == 400 or takes_bytes, (path, name, found)
            tried += 1
        for body in WRONG.values():
            problem(client.request(method, path, content=body, headers=JSON))
            tried += 1
    assert tried > 200


def test_bodies_of_another_kind_are_refused(client: TestClient) -> None:
    """415 for what is not plain JSON in UTF-8, 413 for what is too long, announced or not."""
    for kind in (
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/jsonp"},
        {"content-type": "x" * 3_000},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": b"\xff\xfe"},
    ):
        problem(client.post("/v1/jobs", content=b"{}", headers=kind), 415, "unsupported_media_type")
    huge = b'{"name": "' + b"x" * MAX_JSON + b'"}'
    problem(client.post("/v1/jobs", content=huge, headers=JSON), 413, "payload_too_large")
    problem(client.post("/v1/jobs", content=iter([huge[:9], huge[9:]]), headers=JSON), 413, "payload_too_large")
    problem(client.post("/v1/jobs", content=b"{}", headers={**JSON, "content-length": "9" * 30}), 413)
    problem(client.post("/v1/jobs", headers=JSON), 422, "request_invalid")


def test_hostile_paths_and_queries_are_refused_on_every_route(hostile: TestClient) -> None:
    """Values that PostgreSQL, SQLite, a file system or a header cannot hold; numbers that are none."""
    tried = 0
    for method, template, operation in operations(hostile):
        for value in TEXTS:
            if "{" in template:
                _not_our_fault(hostile, method, filled(template, value))
                tried += 1
        for kind, values in (("string", TEXTS), ("integer", NUMBERS)):
            for name, value in itertools.product(parameters(operation, kind), values):
                _not_our_fault(hostile, method, f"{filled(template, 'x')}?{name}={value}")
                tried += 1
    assert tried > 300


def test_numbers_out_of_range_are_named(client: TestClient) -> None:
    """A limit beyond int64 is a 422 that says which parameter and what is legal."""
    for value in ("0", "101", "9223372036854775808", "9" * 4_500, "NaN"):
        found = problem(client.get(f"/v1/jobs?limit={value}"), 422, "request_invalid")
        assert found["param"] == "query.limit"
        assert len(found["detail"]) < 700


def test_hostile_headers_are_refused_or_ignored(client: TestClient) -> None:
    """Each header that we read, with values that it must not have."""
    body = b'{"model": "model_x", "data": {"train": "data_x", "eval": "data_y"}}'
    for value in (b"\xff", b"", b"x" * 256, b"a b", b"\x7f"):
        answer = client.post("/v1/jobs", content=body, headers={**JSON, "idempotency-key": value})
        problem(answer, 400, "header_invalid")
    for value in ("x", "-1", "1.5", "9223372036854775808", "9" * 4_500, "٣".encode()):
        answer = client.get("/v1/jobs/x/events", headers={"last-event-id": value})
        problem(answer, 400, "header_invalid")
        answer = client.get("/v1/jobs/x/events", headers={"last-event-id": value, "accept": "text/event-stream"})
        problem(answer, 400, "header_invalid")
    for value in (b"\xff", "x" * 300, "a b", "<script>"):
        answer = client.get("/v1/me", headers={"x-request-id": value})
        assert len(answer.headers["x-request-id"]) == 32


def test_lies_about_the_length_do_no_harm(live: Live) -> None:
    """More announced than sent, two lengths, a length that is none: the server goes on to serve the next caller."""
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    assert live.raw(head + b"Content-Length: abc\r\n\r\n{}").startswith(b"HTTP/1.1 400")
    assert live.raw(head + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}").startswith(b"HTTP/1.1 400")
    assert b" 400 " in live.raw(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n").split(b"\r\n")[0]
    live.raw(head + b"Content-Length: 100\r\n\r\n{", until_closed=False)
    with live.client() as caller:
        assert caller.get("/healthz").status_code == 200


def _not_our_fault(client: TestClient, method: str, url: str) -> None:
    answer = client.request(method, url, headers=JSON)
    assert answer.status_code < 500, (method, url, answer.text)
    if answer.status_code >= 400:
        problem(answer)
