"""`GET /metrics`: who gets it, what it tells, and that board and alerts ask for nothing else."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from api.app import create_app
from api.metrics import _Jobs
from jobs.keys import create_key
from jobs.scope import Scope
from jobs.settings import Settings
from tests.api.conftest import LOCAL, database_of, local
from tests.api.live import Live
from tests.api.problems import problem
from tests.api.results import finished
from tests.jobs.world import World

ROOT = Path(__file__).parents[2]
BOARD, ALERTS = ROOT / "docs/grafana/ladapress.json", ROOT / "docs/grafana/alerts.yml"


@pytest.fixture(autouse=True)
def read_at_every_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.metrics.FRESH_S", 0.0)


def scrape(client: Any, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) -> value."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_requests_are_counted_by_template_and_nothing_is_named(client: TestClient, world: World) -> None:
    """An id, an unknown path or an invented method makes no series of its own, and no project is to be seen."""
    job, artifact = finished(world)
    asked = {"method": "GET", "route": "/v1/jobs/{job_id}"}
    before = scrape(client)
    client.get(f"/v1/jobs/{job}")
    client.get("/v1/jobs/job_nobody")
    for number in range(5):
        client.get(f"/nowhere/{number}")
        client.request(f"ODD{number}", "/v1/jobs")
    client.post("/v1/jobs", content=b"{nan", headers={"content-type": "application/json"})
    client.get(f"/v1/artifacts/{artifact}/files/model.onnx")
    after = scrape(client)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("ladapress_http_request_seconds_count", **asked, status="200") == 1
    assert more("ladapress_http_request_seconds_count", **asked, status="404") == 1
    assert more("ladapress_http_request_seconds_count", method="GET", route="other", status="404") == 5
    assert more("ladapress_http_request_seconds_count", method="other", route="/v1/jobs", status="405") == 5
    assert more("ladapress_http_request_seconds_count", method="POST", route="/v1/jobs", status="400") == 1
    assert more("ladapress_http_received_bytes_total", route="/v1/jobs") == 4
    assert more("ladapress_http_sent_bytes_total", route="/v1/artifacts/{artifact_id}/files/{path}") > 100_000
    text = client.get("/metrics").text
    for secret in (job, artifact, world.scope.project_id, "ODD", "nowhere", "local"):
        assert secret not in text, secret


def test_jobs_are_counted_wherever_they_ran(client: TestClient, world: World) -> None:
    """This process did none of the work: the figures come from the database."""
    before = scrape(client)
    finished(world)
    world.ready()
    after = scrape(client)
    name = "ladapress_attempts_total"
    assert value(after, name, outcome="succeeded") - value(before, name, outcome="succeeded") == 1
    assert value(after, "ladapress_jobs", state="succeeded") == 1
    assert value(after, "ladapress_queue_jobs", device="auto") == 1
    assert value(after, "ladapress_stage_seconds_count", stage="fetch") >= 1
    infinite = value(after, "ladapress_stage_seconds_bucket", stage="fetch", le="+Inf")
    assert infinite == value(after, "ladapress_stage_seconds_count", stage="fetch")


def test_an_outage_of_the_database_is_a_figure(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the scrape is whole."""

    def away(*_: object) -> None:
        raise OperationalError("", {}, Exception("away"))

    assert value(scrape(client), "ladapress_database_up") == 1
    monkeypatch.setattr("jobs.gauges.read", away)
    found = scrape(client)
    assert value(found, "ladapress_database_up") == 0
    assert ("ladapress_sse_streams", frozenset()) in found


def test_many_scrapes_at_once_are_one_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.metrics.FRESH_S", 60.0)
    looks = []
    collector = _Jobs(world.db, 60)
    read = collector._read
    monkeypatch.setattr(collector, "_read", lambda: looks.append(1) or read())
    threads = [threading.Thread(target=collector.collect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1


def test_open_streams_are_counted_while_they_are_open(live: Live) -> None:
    held = live.world.claimed()
    with live.client() as client:
        assert value(scrape(client), "ladapress_sse_streams") == 0
        with client.stream("GET", f"/v1/jobs/{held.job_id}/events", headers={"accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()  # kept: a generator that is dropped closes the stream
            next(lines)
            assert value(scrape(client), "ladapress_sse_streams") == 1
            live.world.publish(held)
            list(lines)
        while value(scrape(client), "ladapress_sse_streams"):
            pass


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "ladapress.example"},
        {"x-forwarded-for": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"forwarded": "for=1.2.3.4"},
    ],
)
def test_without_a_token_only_this_machine_is_told(fresh: Settings, headers: dict[str, str]) -> None:
    """Neither another machine, nor whoever comes through a proxy on this one; keys are for projects."""
    with local(fresh) as client:
        with database_of(client).sessions.begin() as s:
            _, token = create_key(s, Scope(), "k", ["read", "write", "admin"])
        assert client.get("/metrics").status_code == 200
        problem(client.get("/metrics", headers=headers), 403, "origin_refused")
        other = TestClient(client.app, base_url=LOCAL, client=("192.0.2.7", 50_000))
        problem(other.get("/metrics", headers={"authorization": f"Bearer {token}"}), 403, "origin_refused")


@pytest.fixture
def with_token(fresh: Settings, tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    file = tmp_path / "metrics-token"
    file.write_text("first-token\n")
    app = create_app(fresh.model_copy(update={"metrics_token_file": file}))
    with TestClient(app, base_url="http://api.example", client=("192.0.2.7", 50_000)) as client:
        yield client, file


def test_with_a_token_whoever_knows_it_is_told(with_token: tuple[TestClient, Path]) -> None:
    """From anywhere, and this machine needs it, too; a new token needs no restart; a key of a project is none."""
    client, file = with_token
    assert scrape(client, authorization="Bearer first-token")
    for sent in ({}, {"authorization": "Bearer other"}, {"authorization": "Basic first-token"}):
        problem(client.get("/metrics", headers=sent), 401, "unauthorized")
    problem(TestClient(client.app, base_url=LOCAL).get("/metrics"), 401, "unauthorized")
    file.write_text("second")
    problem(client.get("/metrics", headers={"authorization": "Bearer first-token"}), 401, "unauthorized")
    assert scrape(client, authorization="Bearer second")
    file.write_text("\n")
    problem(client.get("/metrics", headers={"authorization": "Bearer "}), 503, "unavailable")


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of the board and of the alerts."""
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$job", "ladapress")
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


@pytest.fixture(scope="module")
def offered(app_client: TestClient) -> set[str]:
    """The names of all series that there may be."""
    endings = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}
    with pytest.MonkeyPatch.context() as patch:  # what was read while another test had the database away is no answer
        patch.setattr("api.metrics.FRESH_S", 0.0)
        families = list(text_string_to_metric_families(app_client.get("/metrics").text))
    return {family.name + ending for family in families for ending in endings.get(family.type, ("",))}


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda value: value[:40])
def test_board_and_alerts_ask_for_what_there_is(offered: set[str], where: str, expression: str) -> None:
    """Each expression is PromQL, and every series in it is on /metrics."""
    promql_parser.parse(expression)
    asked = set(re.findall(r"\bladapress_\w+", expression))
    assert asked, where
    assert asked <= offered, f"{where}: {asked - offered}"


def test_every_figure_is_on_the_board(offered: set[str]) -> None:
    """What nobody looks at need not be measured."""
    text = " ".join(expression for _, expression in expressions())
    for name in offered:
        assert re.sub("_(bucket|count|sum)$", "", name) in text, name
