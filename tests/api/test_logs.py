"""The API's log, read from the process that an operator starts."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url, text

from jobs.db import connect
from jobs.keys import new_token
from jobs.settings import Settings
from tests.api.results import finished
from tests.api.test_serve import process
from tests.client.conftest import free_port
from tests.jobs.world import World

WEBHOOK = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PASSWORD = "correct-horse/battery"


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("method", "route", "status", "project", "key")
    found = [record for record in caplog.records if record.name == "ladapress.request"]
    return [{name: getattr(record, name) for name in names} for record in found]


def test_every_request_is_one_line_of_templates(
    client: TestClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked for what, and how it went; no id, no query value, no body. Probes are not told at this level."""
    caplog.set_level(logging.INFO, "ladapress.request")
    job, _ = finished(world)
    client.get(f"/v1/jobs/{job}")
    client.get("/v1/jobs?after=private-value")
    client.post("/v1/jobs", json={"model": "private-value"})
    client.get("/private-value")
    client.get("/healthz")
    me = {"project": world.scope.project_id, "key": "local"}
    assert requests(caplog) == [
        {"method": "GET", "route": "/v1/jobs/{job_id}", "status": 200, **me},
        {"method": "GET", "route": "/v1/jobs", "status": 200, **me},
        {"method": "POST", "route": "/v1/jobs", "status": 422, **me},
        {"method": "GET", "route": "other", "status": 404, "project": None, "key": None},
    ]
    assert "private-value" not in " ".join(str(vars(record)) for record in caplog.records if "ladapress" in record.name)


def test_a_failing_request_leaves_no_secret_in_the_log(postgresql_url: str, tmp_path: Path) -> None:
    """Key, webhook secret, database password, what the user typed: the database breaks, and the log tells how."""
    port, token = free_port(), new_token()
    (tmp_path / "key").write_text(token)
    url = make_url(postgresql_url).set(password=PASSWORD).render_as_string(hide_password=False)
    given = {"port": str(port), "database_url": url, "bootstrap_key_file": str(tmp_path / "key")}
    with process(tmp_path / "data", **given) as server:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.get("/readyz")
                    break
                except httpx2.TransportError:
                    assert server.poll() is None, server.communicate()[0]
                    assert time.monotonic() < deadline, "the server did not answer"
                    time.sleep(0.1)
            database = connect(Settings(database_url=postgresql_url))
            with database.sessions.begin() as s:
                s.execute(text("ALTER TABLE dataset RENAME COLUMN name TO name_is_gone"))
            database.dispose()
            headers = {"authorization": f"Bearer {token}", "x-request-id": "r-42"}
            sent = {"params": {"name": f"private-name {WEBHOOK}.csv"}, "content": b"text,label\na,b\n"}
            answer = client.post("/v1/datasets", headers={**headers, "content-type": "text/csv"}, **sent)
            assert (answer.status_code, answer.json()["code"]) == (500, "internal")
            refused = client.get("/v1/jobs", headers={"authorization": f"Bearer {new_token()}"})
            assert refused.status_code == 401
        server.terminate()
        output, _ = server.communicate(timeout=60)
    for secret in (token[30:], WEBHOOK.removeprefix("whsec_"), "private-name", PASSWORD, "correct-horse%2Fbattery"):
        assert secret not in output, secret
    lines = [json.loads(line) for line in output.splitlines()]  # uvicorn's, too
    assert all({"timestamp", "level", "event", "logger"} <= set(line) for line in lines)
    assert {"uvicorn.error", "ladapress.request", "ladapress.api"} <= {line["logger"] for line in lines}
    mine = [line for line in lines if line.get("request_id") == "r-42"]
    (request,) = [line for line in mine if line["event"] == "request"]
    assert (request["route"], request["status"], request["key"]) == ("/v1/datasets", 500, f"key_{token[3:29]}")
    assert any("Traceback" in line.get("exception", "") and "name_is_gone" not in line["event"] for line in mine)
