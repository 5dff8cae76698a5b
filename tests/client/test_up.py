"""`ladapress up`: starts, answers, restarts what dies, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.conftest import ROOT, free_port
from tests.client.processes import Process, command_of, descendants, table, wait_for

# Stands for api and worker where only the keeping of processes is looked at; `stubborn` ignores SIGTERM.
SERVER = """
import http.server, os, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers()
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["LADAPRESS_PORT"])), Ready).serve_forever()
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"])
print("stubborn runs", flush=True)
time.sleep(1000)
"""
KEEP = """
import os, sys
from pathlib import Path
from jobs.cli import up
up.STOP_GRACE_S = 0.5
services = [up.Service(name, dict(os.environ)) for name in sys.argv[1:]]
sys.exit(up.keep_running(services, f"http://127.0.0.1:{os.environ['LADAPRESS_PORT']}", Path("data")))
"""


class Up:
    """One running `up`, its output in a file."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self.log = folder / "up.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LADAPRESS_")}
        path = os.pathsep.join([str(ROOT), str(folder)])
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env={**kept, "LADAPRESS_PORT": str(port), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.seen: set[Process] = set()

    def wait_line(self, text: str, times: int = 1) -> None:
        def said() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.log.read_text().count(text) >= times

        wait_for(said, f"{text!r} in the log", 60)

    def family(self) -> set[Process]:
        """All processes below it now; remembered, to be looked for after the end."""
        found = descendants(self.process.pid)
        self.seen |= found
        return found

    def child(self, command: str) -> Process:
        """The direct child of this command line; waits for it."""
        found: list[Process] = []

        def look() -> bool:
            family = self.family()
            parents = table()
            direct = [one for one in family if parents.get(one) == self.process.pid]
            found[:] = [one for one in direct if command in command_of(one)]
            return bool(found)

        wait_for(look, f"a process {command!r}")
        return found[0]

    def assert_nothing_is_left(self) -> None:
        wait_for(lambda: not self.seen & set(table()), "every process gone", 15)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    running: list[Up] = []

    def begin(command: list[str], port: int) -> Up:
        running.append(Up(command, tmp_path, port))
        return running[-1]

    (tmp_path / "fake_server.py").write_text(SERVER)
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    yield begin
    for one in running:
        one.family()
        one.process.kill()
        one.process.wait()
        for pid, started in one.seen & set(table()):
            assert started
            os.kill(pid, signal.SIGKILL)


def answers(port: int, path: str = "/readyz") -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_service_serves_restarts_a_killed_worker_and_leaves_nothing_however_up_ends(
    start: Callable[..., Up], tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    up = start(["-m", "ladapress", "up", "--port", str(port), "--data-dir", str(tmp_path / "data")], port)
    up.wait_line(f"ladapress is ready: http://127.0.0.1:{port}")
    assert answers(port, "/v1/presets")
    api, worker = up.child("-m api"), up.child("-m worker")
    if number == signal.SIGTERM:
        os.kill(worker[0], signal.SIGKILL)
        up.wait_line("worker was ended by SIGKILL; starting it again")
        wait_for(lambda: up.child("-m worker") != worker, "another worker")
        assert api in up.family(), "the api was left alone"
    wait_for(lambda: descendants(up.child("-m worker")[0]), "the worker's warm children")
    up.family()
    up.process.send_signal(number)
    assert up.process.wait(60) == (0 if number == signal.SIGTERM else -number), up.log.read_text()
    up.assert_nothing_is_left()
    assert not answers(port)


def test_what_ignores_term_is_killed_with_its_group(start: Callable[..., Up]) -> None:
    port = free_port()
    up = start(["-c", KEEP, "fake_server", "stubborn"], port)
    up.wait_line("is ready")
    up.wait_line("stubborn runs")
    wait_for(lambda: len(up.family()) == 3, "server, stubborn and its child")
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(20) == 0
    up.assert_nothing_is_left()


def test_pauses_between_restarts_grow_and_a_service_that_never_answers_is_given_up(start: Callable[..., Up]) -> None:
    up = start(["-c", KEEP, "nosuchmodule"], free_port())
    assert up.process.wait(30) == 1
    log = up.log.read_text()
    assert "No module named nosuchmodule" in log
    pauses = [line.rpartition("starting it again in ")[2] for line in log.splitlines() if "starting it again" in line]
    assert pauses == ["0.5 s", "1 s", "2 s"]
    assert "giving up" in log


def test_a_taken_port_is_said_once_and_nothing_starts(start: Callable[..., Up], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up = start(["-m", "ladapress", "up", "--port", str(port)], port)
        assert up.process.wait(30) == 1
    assert f"cannot listen at 127.0.0.1:{port}" in up.log.read_text()
    assert "choose another --host or --port" in up.log.read_text()
    assert not (tmp_path / "ladapress-data").exists()
