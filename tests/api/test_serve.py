"""`python -m api` as a process: it starts by the environment, and ends when told."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from api import app
from demo.ephemeral import free_port
from jobs.db import connect
from jobs.settings import Settings
from tests.jobs.world import World
from worker.kernel import process_start

ROOT = Path(__file__).parents[2]


@contextmanager
def process(data_dir: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The server in a process of its own, ended with the context."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LADAPRESS_")}
    given = {f"LADAPRESS_{name.upper()}": value for name, value in environment.items()}
    server = subprocess.Popen(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env={**kept, "LADAPRESS_DATA_DIR": str(data_dir), **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield server
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate()


def answering(server: subprocess.Popen[str], port: int) -> None:
    """Return when it is ready."""
    for _ in within(60, "the server did not answer"):
        assert server.poll() is None, server.communicate()[0]
        try:
            ready = httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
        except httpx2.TransportError:
            time.sleep(0.1)
            continue
        assert ready.status_code == 200
        return


def within(seconds: float, what: str) -> Iterator[None]:
    """Again and again until the loop is left; AssertionError when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
    raise AssertionError(what)


def children(pid: int) -> set[int]:
    """The processes that serve for this one."""
    found = {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return {one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()}


def test_it_serves_a_fresh_folder_and_ends_on_sigterm(tmp_path: Path) -> None:
    """Database and store are made at the start; SIGTERM ends it in order (uvicorn then passes the signal on)."""
    port = free_port()
    with process(tmp_path / "new" / "data", port=str(port)) as server:
        answering(server, port)
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/jobs").json()["data"] == []
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)


def test_a_server_that_stops_ends_its_streams(tmp_path: Path) -> None:
    """They close cleanly, with the time after which to come back; nobody waits for a job of hours."""
    port = free_port()
    with process(tmp_path, port=str(port)) as server:
        answering(server, port)
        world = World(connect(Settings(data_dir=tmp_path)), Settings(data_dir=tmp_path), itertools.count(1))
        path = f"http://127.0.0.1:{port}/v1/jobs/{world.ready().id}/events"
        with httpx2.stream("GET", path, headers={"Accept": "text/event-stream"}, timeout=30) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            server.send_signal(signal.SIGTERM)
            assert "event: end" not in list(lines)  # a clean end of the answer, not of the job
        world.db.dispose()
        output, _ = server.communicate(timeout=30)
        assert "graceful shutdown exceeded" not in output, output


def test_it_does_not_serve_the_network_without_keys(tmp_path: Path) -> None:
    """It ends at once, not with 0, and says what to set."""
    with process(tmp_path / "data", host="0.0.0.0", port="0") as server:
        output, _ = server.communicate(timeout=60)
        assert server.returncode == 3
        assert "LADAPRESS_BOOTSTRAP_KEY_FILE" in output


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_give_way_to_new_ones_while_somebody_answers(tmp_path: Path) -> None:
    """SIGHUP replaces all: no request of one who asks all the time fails, streams end and are resumed, figures add up.

    kill -9 of the supervisor leaves nobody behind.
    """
    port = free_port()
    settings = Settings(data_dir=tmp_path)
    with process(tmp_path, port=str(port), api_processes="2", log_level="WARNING") as server:
        answering(server, port)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            world = World(connect(settings), settings, itertools.count(1))
            job = world.ready().id
            before = children(server.pid)
            assert len(before) == 2
            with client.stream("GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as stream:
                lines = stream.iter_lines()
                assert next(lines).startswith("retry")
                server.send_signal(signal.SIGHUP)
                answers = 0
                for _ in within(180, "not replaced"):
                    now = children(server.pid)
                    if len(now) == 2 and not now & before:
                        break
                    fresh = httpx2.get(f"http://127.0.0.1:{port}/v1/jobs", timeout=30)  # a connection of its own
                    assert fresh.status_code == 200
                    answers += 1
                assert any(line.startswith("id:") for line in lines)  # and the stream has ended
            told = client.get("/metrics").text
            assert "ladapress_sse_streams 0.0" in told
            counted = 'ladapress_http_request_seconds_count{method="GET",route="/v1/jobs",status="200"} '
            assert told.partition(counted)[2].partition("\n")[0] == f"{answers}.0"  # by whichever process
            world.db.dispose()
        server.kill()
        server.wait(30)
        for _ in within(30, "a process was left behind"):
            if not any(map(process_start, now)):  # nobody may have waited for them
                break
            time.sleep(0.1)


def test_one_of_several_waits_for_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor would end all for one that cannot start. One alone ends, for its supervisor starts it again."""
    upgrade, times = app.upgrade, itertools.count()

    def away(settings: Settings) -> None:
        if next(times) < 1:
            raise OperationalError("connect", {}, Exception("nobody is there"))
        upgrade(settings)

    monkeypatch.setattr(app, "upgrade", away)
    with pytest.raises(OperationalError), TestClient(app.create_app(Settings(data_dir=tmp_path))):
        pass
    times = itertools.count()
    monkeypatch.setattr(app.multiprocessing, "parent_process", lambda: "somebody")
    with TestClient(app.create_app(Settings(data_dir=tmp_path)), base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200


@pytest.mark.long
def test_processes_that_cannot_start_end_the_whole(tmp_path: Path) -> None:
    """As one alone does: at once, with 3, and a reason."""
    with process(tmp_path / "data", host="0.0.0.0", port="0", api_processes="2") as server:
        output, _ = server.communicate(timeout=90)
        assert server.returncode == 3
        assert "LADAPRESS_BOOTSTRAP_KEY_FILE" in output
