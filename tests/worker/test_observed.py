"""One job seen from outside: one trace from the request to the child's stages, and one request id in every log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobs import tallies
from jobs.states import State
from tests.api.test_serve import process
from tests.client.conftest import free_port
from tests.worker.collector import Collector, Span, collecting
from tests.worker.conftest import MakeScene
from tests.worker.scene import Scene, until, worker

REQUEST = "req-of-the-caller"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Seen:
    """What was left behind by one job that ran and one whose child died."""

    collector: Collector
    scene: Scene
    job: dict[str, Any]
    lost: dict[str, Any]
    api: list[dict[str, Any]]
    worker: list[dict[str, Any]]

    def spans(self, name: str) -> list[Span]:
        mine = [one for one in self.collector.spans if one.trace == PARENT.split("-")[1]]
        return [one for one in mine if one.name == name]


@pytest.fixture(scope="module")
def seen(make_scene: MakeScene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    scene = make_scene("embedded", max_attempts=1)
    port, log = free_port(), tmp_path_factory.mktemp("log") / "worker"
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with process(scene.settings.data_dir, port=str(port), inspect_wait_s="0") as server:
            with log.open("wb") as file, worker(scene, stderr=file):
                client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
                until(lambda: ready(client, server), 240)
                headers = {"x-request-id": REQUEST, "traceparent": PARENT}
                job = submit(client, {"steps": 2}, headers)
                lost = submit(client, {"steps": 3, "die_at": 1}, {"x-request-id": "another"})
                scene.wait(job, within_s=200)
                scene.wait(lost, within_s=200)
                told = [client.get(f"/v1/jobs/{one}").json() for one in (job, lost)]
                client.get("/v1/jobs", params={"after": "private-value"})
                client.close()
            server.terminate()
            output, _ = server.communicate(timeout=60)
        api, at_work = (lines(text) for text in (output, log.read_text()))
    return Seen(collector, scene, *told, api, at_work)


def ready(client: httpx2.Client, server: subprocess.Popen[str]) -> bool:
    assert server.poll() is None, server.communicate()[0]
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.TransportError:
        time.sleep(0.1)
        return False


def submit(client: httpx2.Client, wish: dict[str, Any], headers: dict[str, str]) -> str:
    """Upload files of its own that tell the fake engine what to do, and ask for a job."""
    model = client.post("/v1/models", json={"files": [{"path": "config.json"}]}).json()["id"]
    client.put(f"/v1/models/{model}/files/config.json", content=b"{}").raise_for_status()
    sent = json.dumps(wish).encode()
    data = client.post("/v1/datasets", content=sent, headers={"content-type": "text/csv"}).json()["id"]
    body = {"model": model, "data": {"train": data, "eval": data}, "preset": "ladabert-1"}
    answer = client.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_trace_leads_from_the_request_to_the_stages(seen: Seen) -> None:
    """It goes on where the caller's ends; every span lies within its parent's trace, in the process that did it."""
    (request,) = seen.spans("POST /v1/jobs")
    assert (request.service, request.parent) == ("ladapress-api", PARENT.split("-")[2])
    (submitted,) = seen.spans("job submit")
    assert submitted.service == "ladapress-api"
    (attempt,) = seen.spans("job attempt")
    (inspection,) = seen.spans("inspection attempt")
    assert {attempt.service, inspection.service} == {"ladapress-worker"}
    assert attempt.parent == submitted.id
    (claim,) = seen.spans("job claim")
    stages = [one for one in seen.collector.spans if one.name.startswith("stage ") and one.parent == attempt.id]
    assert claim.parent == attempt.id
    assert {"stage fetch", "stage distill"} <= {one.name for one in stages}
    for stage in stages:
        assert attempt.began <= stage.began <= stage.ended <= attempt.ended
    known = {one.id for one in seen.collector.spans} | {PARENT.split("-")[2]}
    assert all(one.parent in known for one in seen.collector.spans if one.trace == request.trace)


def test_traces_hold_no_query_and_no_body(seen: Seen) -> None:
    everything = b"".join(seen.collector.bodies)
    assert b"die_at" not in everything
    assert b"private-value" not in everything
    assert "***" in {one.attributes.get("url.query") for one in seen.collector.spans}


def test_the_request_id_is_in_the_workers_lines_and_with_them_the_trace(seen: Seen) -> None:
    """From the claim to the end, with attempt and fence; the other job's lines have the other id."""
    mine = [line for line in seen.worker if line.get("job_id") == seen.job["id"]]
    assert {line["request_id"] for line in mine} == {REQUEST}
    states = [line["state"] for line in mine if line["event"] == "job state"]
    assert states == ["running", "succeeded"]
    assert {(line["attempt"], line["fence"]) for line in mine} == {(1, 1)}
    assert PARENT.split("-")[1] in {line.get("trace_id") for line in mine}
    others = {line.get("request_id") for line in seen.worker if line.get("job_id") == seen.lost["id"]}
    assert others == {"another"}
    assert all({"timestamp", "level", "service", "event", "logger"} <= set(line) for line in seen.worker)
    assert {line["request_id"] for line in seen.api if line["event"] == "job state"} == {REQUEST, "another"}


def test_the_request_id_is_in_the_childs_own_lines(seen: Seen) -> None:
    """Their end is what a job says that failed of its child's death."""
    assert seen.lost["error"]["code"] == "worker_lost"
    detail = seen.lost["error"]["detail"]
    assert "request_id=another" in detail
    assert f"job_id={seen.lost['id']}" in detail


def test_the_processor_time_of_both_is_counted(seen: Seen) -> None:
    """Also of a child that was killed: Python alone takes some hundredths of a second to start."""
    assert seen.scene.job(seen.lost["id"]).state is State.FAILED
    with seen.scene.db.readers() as s:
        assert tallies.totals(s)["cpu_seconds"][""].value > 0.05


def test_without_a_collector_nothing_of_opentelemetry_is_loaded_by_a_worker() -> None:
    """Nor is its SDK by the API."""
    script = "import sys\nfrom jobs import traces\nassert not traces.configure('worker')\n"
    script += "with traces.span('x', parent=None):\n    traces.past('y', 0, 1)\nassert traces.current() is None\n"
    script += "import worker.supervisor\nassert 'opentelemetry' not in sys.modules\n"
    script += "import api.app\nassert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
