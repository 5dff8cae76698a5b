"""Refusals name field, value and legal form; failures of ours say nothing of the inside."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from api.app import create_app
from jobs.db import connect
from jobs.settings import Settings
from jobs.tables import Inspection
from tests.api.conftest import LOCAL, database_of, local
from tests.api.problems import problem


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"preset": "nope"}, "/preset", "ladabert-1"),
        ({"target": {"parameter_ratio": 0.5}}, "/target/parameter_ratio", "greater than 1"),
        ({"target": {"speed": 2}}, "/target/speed", "bytes_ratio"),
        ({"recipe": {"steps": [{"method": "svd", "keep": 2}]}}, "/recipe/steps/0/keep", "less than or equal to 1"),
        ({"recipe": {"steps": [{"method": "svd", "kep": 1}]}}, "/recipe/steps/0/kep", "method, keep"),
        ({"recipe": {"steps": [{"method": "zip"}]}}, "/recipe/steps/0/method", "'svd'"),
        ({"recipe": {"steps": [{}]}}, "/recipe/steps/0/method", "required"),
        ({"recipe": {"steps": []}}, "/recipe/steps", "at least 1"),
        ({"metric": "speed"}, "/metric", "'accuracy'"),
        ({"data": {"train": "x"}}, "/data/eval", "required"),
        ({"data": {"train": "x", "eval": "y", "columns": {"txt": "a"}}}, "/data/columns/txt", "text_pair, label"),
        ({"limits": {"max_runtime_s": -1}}, "/limits/max_runtime_s", "greater than 0"),
        ({"seed": 2**40}, "/seed", "less than"),
        ({"metadata": {"k": 1}}, "/metadata/k", "string"),
        ({"preset": "ladabert", "recipe": {"steps": [{"method": "svd", "keep": 0.5}]}}, "", "not both"),
        ({"outputs": ["gguf"]}, "/outputs/0", "'onnx-fp16', 'onnx-int8', 'openvino' or 'torch-export'"),
        ({"outputs": ["openvino", "openvino"]}, "/outputs", "openvino twice: each of onnx-fp16, onnx-int8, openvino"),
        ({"outputs": "openvino"}, "/outputs", "tuple"),
        ({"colour": "red"}, "/colour", "model, data, task"),
    ],
)
def test_a_request_off_the_schema_names_field_value_and_legal_form(
    client: TestClient, fields: dict[str, Any], param: str, words: str
) -> None:
    """422 before anything is stored, also of the inspection."""
    request = {"model": "m", "data": {"train": "t", "eval": "e"}, **fields}
    found = problem(client.post("/v1/jobs", json=request), 422, "request_invalid")
    with database_of(client).readers() as s:
        assert s.scalars(select(func.count()).select_from(Inspection)).one() == 0
    assert param in [found["param"], *(error["param"] for error in found["errors"])], found
    assert any(words in error["detail"] for error in found["errors"]), found


def test_values_are_quoted_short(client: TestClient) -> None:
    """A megabyte in a field is not a megabyte in the answer."""
    answer = client.post("/v1/jobs", json={"model": "x" * 500_000, "data": {"k" * 100_000: 1}})
    problem(answer, 422, "request_invalid")
    assert len(answer.content) < 5_000


def test_a_thousand_wrong_fields_make_a_short_answer(client: TestClient) -> None:
    """The first findings are enough."""
    answer = client.post("/v1/jobs", json={f"f{i}": 1 for i in range(1_000)})
    assert len(problem(answer, 422, "request_invalid")["errors"]) <= 20


def test_an_unexpected_error_tells_the_log_and_not_the_caller(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """500, blank but for the request id, under which the log has the cause."""
    app = create_app(settings)

    @app.get("/boom")
    def boom() -> None:
        raise ZeroDivisionError("secret /etc/passwd")

    with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
        caplog.set_level(logging.ERROR)
        answer = client.get("/boom", headers={"X-Request-Id": "r-1"})
    found = problem(answer, 500, "internal")
    assert found["request_id"] == "r-1"
    assert "secret" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert any("r-1" in record.getMessage() and record.exc_info for record in caplog.records)


def test_a_database_that_is_away_is_a_503_that_asks_to_come_back(settings: Settings, tmp_path: Path) -> None:
    """On every route that needs it, and over as soon as it is back."""
    with local(settings) as client:
        made = client.post("/v1/models", json={"files": [{"path": "config.json"}]}).json()
        context = client.app.state.context  # type: ignore[attr-defined]
        there = context.database
        for url in ("postgresql://127.0.0.1:1/nobody", f"sqlite:///{tmp_path}"):
            context.database = connect(settings.model_copy(update={"database_url": url}))
            for method, path in (("GET", "/v1/jobs"), ("GET", "/readyz"), ("DELETE", f"/v1/models/{made['id']}")):
                answer = client.request(method, path)
                assert problem(answer, 503, "unavailable")["retryable"] is True
                assert int(answer.headers["retry-after"]) > 0
            assert client.get("/healthz").status_code == 200
        context.database = there
        assert client.get("/readyz").status_code == 200
        assert client.get(f"/v1/models/{made['id']}").json() == made


def test_a_store_that_cannot_be_written_is_not_ready(settings: Settings, tmp_path: Path) -> None:
    """503, so that nobody sends uploads here; the process itself is alive."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with local(settings.model_copy(update={"store_dir": blocked / "store"})) as client:
        problem(client.get("/readyz"), 503, "unavailable")
        assert client.get("/healthz").status_code == 200


def test_unknown_routes_and_methods_are_problems(client: TestClient) -> None:
    """404 and 405; Allow names every method of the path."""
    for path in ("/", "/v1", "/v1/nope", "/v1/jobs/", "/docs", "/v1/jobs/x/y"):
        problem(client.get(path), 404, "not_found")
    for method, path, allow in (
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("PUT", "/v1/models/x", "DELETE, GET, PATCH"),
        ("POST", "/v1/artifacts/x/files/y", "GET, HEAD"),
        ("HEAD", "/v1/jobs", "GET, POST"),
    ):
        answer = client.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allow


def test_the_request_id_of_the_caller_is_kept(client: TestClient) -> None:
    """Echoed where it is plain, replaced where it is not, on answers of every kind."""
    for path in ("/healthz", "/v1/me", "/nope", "/v1/jobs?limit=0"):
        assert client.get(path, headers={"X-Request-Id": "a.b-c_1"}).headers["x-request-id"] == "a.b-c_1"
        ids = {client.get(path).headers["x-request-id"] for _ in range(2)}
        assert len(ids) == 2
